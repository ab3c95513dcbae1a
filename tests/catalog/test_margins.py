"""Margins hold every row within the threshold of a partition's border, and few others; id indexes find every id."""

from __future__ import annotations

from itertools import pairwise

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.mock_catalog import mock_table, write_mock
from scipy.spatial import cKDTree

from stellarscale.catalog import layout
from stellarscale.catalog.index import write_index
from stellarscale.catalog.margins import margin_of, uncovered, write_margin
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import open_stored, read_pixel
from stellarscale.errors import CatalogError, ConfigError, SchemaError
from stellarscale.kernels.healpix import merge_ranges, pixel_of
from stellarscale.kernels.sphere import ARCSEC_PER_RADIAN, unit_vectors


def distance_to_border_arcsec(pixel: Pixel, ra, dec) -> np.ndarray:
    """Distance to a dense polyline of the pixel's border, whose sagitta is a few thousandths of an arcsec."""
    border = healpy.boundaries(1 << pixel.order, pixel.ipix, step=4096, nest=True).T
    stars = unit_vectors(ra, dec)
    _, nearest = cKDTree(border).query(stars)
    chord = np.full(len(stars), np.inf)
    for neighbour in (nearest - 1, (nearest + 1) % len(border)):
        start, step = border[nearest], border[neighbour] - border[nearest]
        along = np.clip(((stars - start) * step).sum(axis=1) / (step**2).sum(axis=1), 0.0, 1.0)
        chord = np.minimum(chord, np.linalg.norm(stars - start - along[:, None] * step, axis=1))
    return 2.0 * np.arcsin(0.5 * chord) * ARCSEC_PER_RADIAN


def rows_around(pixel: Pixel, reach_deg: float, rows: int = 4000, seed: int = 4):
    """Rows near a pixel's border, so that margins hold many."""
    rng = np.random.default_rng(seed)
    border = healpy.boundaries(1 << pixel.order, pixel.ipix, step=64, nest=True).T
    vectors = border[rng.integers(0, len(border), rows)] + rng.normal(0, np.radians(reach_deg), (rows, 3))
    ra, dec = healpy.vec2ang(vectors, lonlat=True)
    sky = pixel_of(ra, dec)
    order = np.argsort(sky, kind="stable")
    columns = {"_healpix_29": sky[order], "source_id": np.arange(rows), "ra": ra[order], "dec": dec[order]}
    return pa.table(columns)


# Pixels at the poles, at the corners of the base pixels, on the equator, and where only three pixels meet.
HARD = [
    Pixel(2, 15),
    Pixel(2, 0),
    Pixel(2, 4 * 16 + 5),
    Pixel(3, 11 * 64),
    Pixel(4, 255),
    Pixel(1, 16),
    Pixel(5, 6143),
]


@pytest.mark.parametrize("pixel", HARD, ids=str)
@pytest.mark.parametrize("threshold_arcsec", [20.0, 300.0])
def test_a_margin_holds_what_is_near_and_nothing_far(tmp_path, pixel, threshold_arcsec):
    table = rows_around(pixel, 2.0 * threshold_arcsec / 3600.0)
    stored, _ = write_mock(tmp_path / "c", table, max_rows=1000)
    margin = margin_of(stored, pixel, threshold_arcsec)
    ra, dec = table.column("ra").to_numpy(), table.column("dec").to_numpy()
    outside = pixel_of(ra, dec, pixel.order) != pixel.ipix
    distance = distance_to_border_arcsec(pixel, ra, dec)
    slack = 0.02  # arcsec, for the polyline
    needed = set(
        table.filter(pa.array(outside & (distance < threshold_arcsec - slack))).column("source_id").to_pylist()
    )
    allowed = set(
        table.filter(pa.array(outside & (distance < 1.1 * threshold_arcsec + slack)))["source_id"].to_pylist()
    )
    found = set(margin.column("source_id").to_pylist())
    assert len(needed) > 100
    assert needed <= found
    assert found <= allowed
    assert (np.diff(margin.column("_healpix_29").to_numpy()) >= 0).all()


def test_a_margin_wider_than_the_pixel_holds_what_is_near(tmp_path):
    pixel = Pixel(8, 300_000)
    table = rows_around(pixel, 0.5)
    stored, _ = write_mock(tmp_path / "c", table, max_rows=1000)
    found = set(margin_of(stored, pixel, 3600.0).column("source_id").to_pylist())
    ra, dec = table.column("ra").to_numpy(), table.column("dec").to_numpy()
    near = distance_to_border_arcsec(pixel, ra, dec) < 3600.0
    outside = pixel_of(ra, dec, pixel.order) != pixel.ipix
    assert set(table.filter(pa.array(near & outside)).column("source_id").to_pylist()) <= found
    assert not found & set(table.filter(pa.array(~outside)).column("source_id").to_pylist())


@settings(max_examples=30)
@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 10**6)), max_size=8))
def test_partitions_and_gaps_cover_the_sky_once(choice):
    pixels: list[Pixel] = []
    for order, number in sorted(choice):
        pixel = Pixel(order, number % (12 << (2 * order)))
        if not any(pixel.first < other.last and other.first < pixel.last for other in pixels):
            pixels.append(pixel)
    everything = sorted([*pixels, *uncovered(tuple(pixels))], key=lambda pixel: pixel.sky_key)
    assert everything[0].first == 0
    assert everything[-1].last == 12 << 58
    assert all(one.last == other.first for one, other in pairwise(everything))
    covered = merge_ranges(np.array([(p.first, p.last) for p in pixels], dtype=np.int64).reshape(-1, 2))
    # No four of the gaps could be one: the fewest pixels were used.
    gaps = {(p.order, p.ipix) for p in uncovered(tuple(pixels))}
    assert not any(all((o, i // 4 * 4 + k) in gaps for k in range(4)) for o, i in gaps if o > 0)
    assert len(covered) <= len(pixels)


def test_gaps_of_an_empty_catalogue_are_the_base_pixels():
    assert uncovered(()) == [Pixel(0, i) for i in range(12)]


def test_the_margin_catalogue_as_a_whole(tmp_path):
    table = mock_table(20_000, patch=(40.0, 3.0, 2.0))
    stored, _ = write_mock(tmp_path / "c", table, max_rows=2000, stellarscale_alias="mk")
    rows = write_margin(stored, tmp_path / "m", threshold_arcsec=60.0)
    margin = open_stored(tmp_path / "m")
    assert margin.properties.kind == "margin"
    assert margin.properties.extra["hats_primary_table_url"] == "mock"
    assert float(margin.properties.extra["hats_margin_threshold"]) == 60.0
    assert margin.properties.extra["stellarscale_alias"] == "mk"
    assert margin.num_rows == rows == margin.properties.rows > 100
    assert margin.schema.equals(stored.schema)
    for pixel in margin.pixels:
        assert read_pixel(margin, pixel).equals(margin_of(stored, pixel, 60.0))


def test_empty_sky_beside_rows_has_a_margin_too(tmp_path):
    pixel = Pixel(4, 1000)
    table = rows_around(pixel, 0.2)
    inside = pixel_of(table["ra"].to_numpy(), table["dec"].to_numpy(), pixel.order) == pixel.ipix
    stored, _ = write_mock(tmp_path / "c", table.filter(pa.array(inside)), max_rows=300)
    assert all(one.first >= pixel.first and one.last <= pixel.last for one in stored.pixels)
    write_margin(stored, tmp_path / "m", threshold_arcsec=120.0)
    beside = [p for p in open_stored(tmp_path / "m").pixels if p.last <= pixel.first or p.first >= pixel.last]
    assert len(beside) >= 4
    assert set(beside) <= set(uncovered(stored.pixels))


def test_a_margin_of_no_rows_is_a_catalogue(tmp_path):
    stored, _ = write_mock(tmp_path / "c", mock_table(0))
    assert write_margin(stored, tmp_path / "m", threshold_arcsec=5.0) == 0
    assert open_stored(tmp_path / "m").num_rows == 0


@pytest.mark.parametrize("threshold_arcsec", [0.0, -1.0, float("nan")])
def test_a_margin_without_width_is_refused(tmp_path, threshold_arcsec):
    stored, _ = write_mock(tmp_path / "c", mock_table(10))
    with pytest.raises(ConfigError, match="above zero"):
        write_margin(stored, tmp_path / "m", threshold_arcsec=threshold_arcsec)


def test_margins_have_no_margins(tmp_path):
    stored, _ = write_mock(tmp_path / "c", mock_table(500, patch=(40.0, 3.0, 1.0)), max_rows=100)
    write_margin(stored, tmp_path / "m", threshold_arcsec=60.0)
    with pytest.raises(CatalogError, match="margin"):
        write_margin(open_stored(tmp_path / "m"), tmp_path / "mm", threshold_arcsec=60.0)


@pytest.mark.parametrize("column", ["source_id", "name"])
@pytest.mark.parametrize("rows_per_part", [10**6, 700])
def test_an_index_tells_every_ids_partition(tmp_path, column, rows_per_part):
    table = mock_table(3000)
    stored, records = write_mock(tmp_path / "c", table)
    rows = write_index(stored, tmp_path / "i", column=column, rows_per_part=rows_per_part)
    assert rows == table.num_rows - table.column(column).null_count
    parts = sorted((tmp_path / "i" / "dataset" / "index").glob("*.parquet"), key=lambda p: int(p.name.split(".")[1]))
    assert (len(parts) > 1) == (rows_per_part == 700)
    entries = pa.concat_tables([pq.read_table(part, partitioning=None) for part in parts])
    ids = entries.column(column).to_pylist()
    assert ids == sorted(ids)
    partition = {r.pixel: read_pixel(stored, r.pixel, columns=[column]).column(column).to_pylist() for r in records}
    expected = sorted((v, p.order, p.ipix) for p, values in partition.items() for v in values if v is not None)
    columns = [entries.column(name).to_pylist() for name in (column, "Norder", "Npix")]
    assert sorted(zip(*columns, strict=True)) == expected
    properties = open_stored(tmp_path / "i").properties
    assert (properties.kind, properties.rows, properties.extra["hats_index_column"]) == (
        "index",
        rows,
        column,
    )
    assert pq.read_metadata(layout.metadata_path(tmp_path / "i")).num_rows == rows


def test_only_ids_are_indexed(tmp_path):
    stored, _ = write_mock(tmp_path / "c", mock_table(10))
    with pytest.raises(SchemaError, match="double"):
        write_index(stored, tmp_path / "i", column="ra")
    with pytest.raises(SchemaError, match="no_such"):
        write_index(stored, tmp_path / "i", column="no_such")


def test_an_index_of_no_rows_is_one(tmp_path):
    stored, _ = write_mock(tmp_path / "c", mock_table(0))
    assert write_index(stored, tmp_path / "i", column="source_id") == 0
    assert open_stored(tmp_path / "i").properties.rows == 0
