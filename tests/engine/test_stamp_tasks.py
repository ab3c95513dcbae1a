"""Stamps of partitions on disk: pieces, files, records."""

from __future__ import annotations

import math
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from reference.fake_cutouts import Shot, header_of, image_of, write_survey
from reference.mock_catalog import write_mock

from stellarscale.catalog.layout import pixel_path
from stellarscale.catalog.reader import open_stored, read_pixel
from stellarscale.catalog.writer import WriteOptions
from stellarscale.engine import stamp_tasks
from stellarscale.engine.stamp_tasks import CutoutFiles, StampTask, check_stamps, stamp_pixel, stamp_rejects_file
from stellarscale.errors import ConfigError, InputError, SchemaError
from stellarscale.kernels.stamp_stack import unstretch
from stellarscale.partition.stamp_config import StampConfig
from stellarscale.settings.stamps import StampSettings
from stellarscale.stamp_columns import format_of, stamps_of

RECORD = {"pixel", "rows_in", "rows_out", "bytes", "checksum", "used", "full_wcs", "other_zero_points", "unused"}


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("survey"))


@pytest.fixture
def task(survey, tmp_path) -> StampTask:
    settings = StampSettings(
        images="images",
        files=survey.files,
        bands=("g", "r"),
        size_px=16,
        softening={"g": 5.0, "r": 5.0},
        use=({"name": "clipped", "columns": ["use"], "equals": 1},),
    )
    return StampTask(
        survey.stars, survey.detections, survey.images, tmp_path / "out", tmp_path / "rejects", StampConfig(settings)
    )


def with_settings(task: StampTask, **changes) -> StampTask:
    settings = task.config.stamps.model_copy(update=changes)
    return replace(task, config=replace(task.config, stamps=settings))


def test_every_star_of_a_partition_gets_its_stamp(survey, task):
    flux_of = dict(zip(survey.ids.tolist(), survey.flux, strict=True))
    for pixel in open_stored(survey.stars).pixels:
        record = stamp_pixel(task, pixel)
        assert set(record) == RECORD
        path = pixel_path(task.out, pixel)
        table = pq.read_table(path, partitioning=None)
        layout = format_of(pq.read_schema(path))
        assert table.num_rows == record["rows_in"] == record["rows_out"]
        assert record["used"] == 4 * table.num_rows
        assert record["unused"] == {}
        assert set(table["quality_flags"].to_pylist()) == {0}
        assert table["n_detections_r"].to_pylist() == [2] * table.num_rows
        sums = unstretch(stamps_of(table).astype(float), layout.softening).sum(axis=(2, 3))
        expected = [flux_of[number] for number in table["object_id"].to_pylist()]
        # The wings beyond 16 pixels and in the border, from which the sky is not taken here, are lost.
        assert np.allclose(sums / np.array(expected)[:, None], 1, atol=0.01)
        assert table.drop_columns(table.column_names[5:])["ra"].null_count == 0
        assert pq.read_table(stamp_rejects_file(task.rejects, pixel)).num_rows == 0


def test_pieces_threads_and_row_groups_do_not_show(survey, task, tmp_path, monkeypatch):
    pixel = max(open_stored(survey.stars).pixels, key=open_stored(survey.stars).rows_of)
    monkeypatch.setattr(stamp_tasks, "_TRIED", 2)
    monkeypatch.setattr(stamp_tasks, "_PATIENCE_S", math.inf)
    whole = stamp_pixel(task, pixel)
    monkeypatch.setattr(stamp_tasks, "_PATIENCE_S", -math.inf)
    assert stamp_pixel(replace(task, out=tmp_path / "threads"), pixel) == whole
    regrouped = tmp_path / "regrouped"
    stored = open_stored(survey.stars)
    write_mock(
        regrouped, pa.concat_tables([read_pixel(stored, each) for each in stored.pixels]), max_rows=64, row_group_rows=3
    )
    monkeypatch.setattr(stamp_tasks, "_READERS", 1)
    again = stamp_pixel(replace(task, stars=regrouped, out=tmp_path / "again"), pixel)
    assert again == whole
    small = replace(task, out=tmp_path / "small", write=WriteOptions(row_group_rows=4))
    record = stamp_pixel(small, pixel)
    assert record["unused"] == whole["unused"]
    one, other = (pq.read_table(pixel_path(each, pixel), partitioning=None) for each in (task.out, small.out))
    assert one.equals(other)
    file = pq.ParquetFile(pixel_path(small.out, pixel))
    assert file.metadata.row_group(0).num_rows == 4


@pytest.mark.parametrize("wait_s", [0.0, 0.05])
def test_slow_files_are_waited_for_side_by_side(wait_s):
    def make(number: int) -> tuple[int, bool]:
        time.sleep(wait_s)
        return number, threading.current_thread() is threading.main_thread()

    with ThreadPoolExecutor(4) as pool:
        made = list(stamp_tasks._over(pool, make, range(20)))
        assert list(stamp_tasks._over(pool, make, range(0))) == []
    assert [number for number, _ in made] == list(range(20))
    assert [here for _, here in made] == [True] * 8 + [wait_s == 0] * 12


def test_detections_across_the_border_of_a_partition_are_found(survey, task):
    stars, detections = open_stored(survey.stars), open_stored(survey.detections)
    foreign = 0
    for pixel in stars.pixels:
        ids = set(read_pixel(stars, pixel)["object_id"].to_pylist())
        inside = [p for p in detections.pixels if p.first >= pixel.first and p.last <= pixel.last]
        near = [i for p in inside for i in read_pixel(detections, p)["object_id"].to_pylist() if i in ids]
        foreign += 4 * len(ids) - len(near)
        assert stamp_pixel(task, pixel)["used"] == 4 * len(ids)
    assert foreign > 0
    blind = [stamp_pixel(replace(task, margin_arcsec=1e-4), pixel)["used"] for pixel in stars.pixels]
    assert sum(blind) < 4 * stars.num_rows


def test_files_that_are_missing_or_damaged_are_recorded(survey, task, tmp_path):
    pixel = max(open_stored(survey.stars).pixels, key=open_stored(survey.stars).rows_of)
    ids = read_pixel(open_stored(survey.stars), pixel)["object_id"].to_pylist()
    files = CutoutFiles(survey.files)
    kept = {path: path.read_bytes() for path in (files.path(ids[0], 1000, 3, "g"), files.path(ids[1], 1003, 3, "r"))}
    missing, cut = kept
    try:
        missing.unlink()
        cut.write_bytes(kept[cut][:3000])
        record = stamp_pixel(task, pixel)
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert record["unused"] == {"no file": 1, "unreadable file": 1}
    assert record["used"] == 4 * len(ids) - 2
    rejects = pq.read_table(stamp_rejects_file(task.rejects, pixel)).to_pylist()
    assert {(row["object_id"], row["image_id"], row["reason"]) for row in rejects} == {
        (ids[0], 1000, "no file"),
        (ids[1], 1003, "unreadable file"),
    }
    assert all(str(path) in " ".join(row["detail"] for row in rejects) for path in kept)


def test_a_file_may_hold_all_cutouts_of_a_star(tmp_path):
    shot = Shot(10.0, -20.0, size=16)
    units = [fits.PrimaryHDU()]
    for name in ("5-1", "5-2", "6-1"):
        named = replace(shot, name=name, sky=float(name.replace("-", "")))
        units.append(fits.ImageHDU(image_of(named, []), header_of(named)))
    fits.HDUList(units).writeto(tmp_path / "77.fits")
    files = CutoutFiles(str(tmp_path / "{object_id}.fits"))
    assert files(77, 5, 2, "g").image[0, 0] == 52.0
    with pytest.raises(InputError, match=r"5-1, 5-2, 6-1\. Needed: 7-1"):
        files(77, 7, 1, "g")
    with pytest.raises(FileNotFoundError):
        files(78, 5, 2, "g")


def test_names_of_files():
    files = CutoutFiles("a/{shard}/{object_id}/{band}_{image_id}-{ccd}.fits.gz")
    assert files.path(np.int64(123004), np.int64(20150101), np.int16(7), "g") == Path(
        "a/004/123004/g_20150101-7.fits.gz"
    )
    assert CutoutFiles("{object_id}/{image_id}").path("J12", 4, 1, "g") == Path("J12/4")


def test_what_is_wrong_with_the_tables_is_told_first(task):
    assert "stamp" in check_stamps(task).names
    with pytest.raises(ConfigError, match=r"stamps\.files.*\{exposure\}"):
        check_stamps(with_settings(task, files="{object_id}/{exposure}.fits"))
    with pytest.raises(ConfigError, match="same for every star"):
        check_stamps(with_settings(task, files="cutout.fits"))
    columns = task.config.stamps.image_columns.model_copy(update={"zero_point": "zp_of_it"})
    with pytest.raises(SchemaError, match=r"images.*zp_of_it"):
        check_stamps(with_settings(task, image_columns=columns))


def test_exposures_are_read_once_a_version(survey, task, monkeypatch):
    calls = []
    read = stamp_tasks.read_columns
    monkeypatch.setattr(stamp_tasks, "read_columns", lambda *args: calls.append(args) or read(*args))
    stamp_tasks._exposures.cache_clear()
    for pixel in open_stored(survey.stars).pixels:
        stamp_pixel(task, pixel)
    assert len(calls) == 1


def test_stars_without_detections_stay(survey, task, tmp_path):
    stored = open_stored(survey.stars)
    row = read_pixel(stored, stored.pixels[0]).slice(0, 1)
    row = row.set_column(row.column_names.index("object_id"), "object_id", pa.array([5], pa.int64()))
    write_mock(tmp_path / "one", row, max_rows=64)
    (pixel,) = open_stored(tmp_path / "one").pixels
    record = stamp_pixel(replace(task, stars=tmp_path / "one"), pixel)
    assert (record["rows_in"], record["rows_out"], record["used"], record["unused"]) == (1, 1, 0, {})
    table = pq.read_table(pixel_path(task.out, pixel), partitioning=None)
    assert table["stamp"].null_count == 1
    assert pq.read_table(stamp_rejects_file(task.rejects, pixel)).num_rows == 0


def test_a_partition_without_rows(survey, task, tmp_path):
    write_mock(
        tmp_path / "all", read_pixel(open_stored(survey.stars), open_stored(survey.stars).pixels[0]), max_rows=64
    )
    pixel = open_stored(tmp_path / "all").pixels[0]
    path = pixel_path(tmp_path / "all", pixel)
    pq.write_table(pq.read_table(path, partitioning=None).slice(0, 0), path)
    record = stamp_pixel(replace(task, stars=tmp_path / "all"), pixel)
    assert (record["rows_in"], record["rows_out"], record["checksum"]) == (0, 0, "")
    assert not pixel_path(task.out, pixel).exists()
    assert pq.read_table(stamp_rejects_file(task.rejects, pixel)).num_rows == 0


def test_tasks_travel(task):
    assert pickle.loads(pickle.dumps(task)) == task
