"""Reading only the columns and row groups that a match needs gives the result of reading everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog.gather import read_rest
from stellarscale.catalog.layout import pixel_path
from stellarscale.catalog.reader import open_stored, read_columns, read_pixel
from stellarscale.catalog.subset import parse_subset
from stellarscale.config import MatchStep
from stellarscale.engine import tasks
from stellarscale.engine.matchplan import match_config, match_margin_arcsec
from stellarscale.kernels import healpix

PLACES = {"equator": (45.0, 0.5, 2.0), "pole": (20.0, 88.9, 1.5), "origin": (0.0, -1.0, 2.0)}


def moved(table: pa.Table, step_deg: float) -> pa.Table:
    """The same rows a little off, sorted along the sky again."""
    rng = np.random.default_rng(3)
    dec = np.clip(table["dec"].to_numpy() + rng.normal(0, step_deg, table.num_rows), -90, 90)
    sky = healpix.pixel_of(table["ra"].to_numpy(), dec)
    order = np.argsort(sky, kind="stable")
    for name, values in (("dec", dec), ("_healpix_29", sky)):
        place = table.column_names.index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values))
    return table.take(pa.array(order))


@pytest.fixture(scope="module", params=PLACES)
def pair(request, tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    table = mock_table(700, seed=4, patch=PLACES[request.param])
    write_mock(folder / "left", table, max_rows=170, row_group_rows=23)
    write_mock(folder / "right", moved(table, 5e-3), max_rows=120, row_group_rows=17)
    return folder / "left", folder / "right"


def task_of(pair: tuple[Path, Path], out: Path, **options) -> tasks.MatchTask:
    left, right = map(open_stored, pair)
    config = match_config(left, right, MatchStep(catalog="right", prefix="right_", **options))
    return tasks.MatchTask(*pair, out, config, match_margin_arcsec(left, right, config))


@pytest.mark.parametrize("radius_arcsec", [30.0, 1500.0])
@pytest.mark.parametrize("keep, how", [("nearest", "left"), ("all", "inner"), ("mutual", "inner")])
def test_the_result_is_that_of_reading_the_whole_ring(pair, tmp_path, radius_arcsec, keep, how):
    task = task_of(pair, tmp_path, radius_arcsec=radius_arcsec, keep=keep, how=how)
    across = 0
    for pixel in open_stored(pair[0]).pixels:
        tasks.match_pixel(task, pixel)
        expected = tasks.matched_table(task, pixel, read_pixel(open_stored(pair[0]), pixel))
        path = pixel_path(tmp_path, pixel)
        found = pq.read_table(path, partitioning=None) if path.is_file() else expected.slice(0, 0)
        assert found.select(expected.column_names).to_pylist() == expected.to_pylist()
        ra, dec = (expected[name].drop_null().to_numpy() for name in ("right_ra", "right_dec"))
        partners = healpix.pixel_of(ra, dec, pixel.order)
        across += int((partners != pixel.ipix).sum())
    assert across > 0


def test_a_subset_of_the_left_rows_has_the_partners_of_reading_the_whole_ring(pair, tmp_path):
    task = replace(task_of(pair, tmp_path, radius_arcsec=20.0), subset=parse_subset("sample:0.3"))
    for pixel in open_stored(pair[0]).pixels:
        left = read_pixel(open_stored(pair[0]), pixel)
        left = left.filter(pa.array(task.subset.mask(left, "ra", "dec")))
        assert tasks.match_pixel(task, pixel)["rows_out"] == tasks.matched_table(task, pixel, left).num_rows


@pytest.mark.parametrize("size_deg", [0.0, 0.2])
def test_of_few_partners_only_their_row_groups_are_read(pair, tmp_path, monkeypatch, size_deg):
    stars = read_columns(open_stored(pair[1]), ["ra", "dec"])
    middle = stars.slice(stars.num_rows // 2, 1)
    ra, dec = (middle[name][0].as_py() for name in ("ra", "dec"))
    write_mock(tmp_path / "few", moved(mock_table(3, patch=(ra, dec, size_deg)), 0.0))
    task = task_of((pair[1], tmp_path / "few"), tmp_path / "out", radius_arcsec=300.0)
    read = []
    monkeypatch.setattr(tasks, "read_rest", lambda *arguments: read.append(read_rest(*arguments)) or read[-1])
    matched = sum(tasks.match_pixel(task, pixel)["matched"] for pixel in open_stored(pair[1]).pixels)
    assert matched > 0
    assert matched <= sum(rest.num_rows for rest, _ in read[::2]) < stars.num_rows / 4


def test_nothing_is_read_of_a_partition_where_the_right_catalogue_is_empty(pair, tmp_path, monkeypatch):
    write_mock(tmp_path / "far", mock_table(20, patch=(200.0, -40.0, 1.0)))
    task = task_of((pair[0], tmp_path / "far"), tmp_path / "out", radius_arcsec=30.0)
    monkeypatch.setattr(tasks, "read_pixel", lambda *_, **__: pytest.fail("the left rows were read"))
    left = open_stored(pair[0])
    records = [tasks.match_pixel(task, pixel) for pixel in left.pixels]
    assert sum(record["rows_in"] for record in records) == left.num_rows
    assert {(record["matched"], record["rows_out"], record["checksum"]) for record in records} == {(0, 0, "")}


def test_unmatched_rows_stay_where_the_right_catalogue_is_empty(pair, tmp_path):
    write_mock(tmp_path / "far", mock_table(20, patch=(200.0, -40.0, 1.0)))
    task = task_of((pair[0], tmp_path / "far"), tmp_path / "out", radius_arcsec=30.0, how="left")
    left = open_stored(pair[0])
    records = [tasks.match_pixel(task, pixel) for pixel in left.pixels]
    assert sum(record["rows_out"] for record in records) == left.num_rows
    assert sum(record["matched"] for record in records) == 0
