"""hats and LSDB as oracles: they find our catalogues valid and the same rows in them, and we read theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog.index import write_index
from stellarscale.catalog.margins import write_margin
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import open_stored, read_columns, read_pixel, read_ranges
from stellarscale.catalog.subset import parse_subset
from stellarscale.catalog.verify import verify
from stellarscale.catalog.writer import finish_catalog
from stellarscale.kernels.healpix import pixel_of
from stellarscale.kernels.sphere import separation_arcsec

hats = pytest.importorskip("hats", reason="hats, the oracle of the format, is not installed")
lsdb = pytest.importorskip("lsdb", reason="LSDB, the other reader and writer of the format, is not installed")

# The oracles and what they pull in warn about themselves; our own code runs with warnings as errors elsewhere.
pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

TABLE = mock_table(6000, seed=11, patch=(359.5, 5.0, 12.0))
IDS = TABLE.column("source_id").to_numpy()
RA, DEC = TABLE.column("ra").to_numpy(), TABLE.column("dec").to_numpy()


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return write_mock(tmp_path_factory.mktemp("ours") / "cat", TABLE, max_rows=700)[0]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import dask

    with dask.config.set(scheduler="synchronous"):
        yield


def valid(path: Path) -> bool:
    from hats.io.validation import is_valid_catalog

    return is_valid_catalog(path, strict=True)


def test_hats_finds_our_catalogue_valid(ours):
    assert valid(ours.root)
    catalog = hats.read_hats(ours.root)
    assert catalog.catalog_info.total_rows == TABLE.num_rows
    pixels = [(pixel.order, pixel.pixel) for pixel in catalog.get_healpix_pixels()]
    assert pixels == [(pixel.order, pixel.ipix) for pixel in ours.pixels]
    assert catalog.schema.names == TABLE.column_names


def test_hats_reads_our_sky_map(ours):
    from hats.io.skymap import read_skymap

    counts = read_skymap(hats.read_hats(ours.root), None)
    sky = TABLE.column("_healpix_29").to_numpy()
    assert np.array_equal(counts, np.bincount(sky >> (58 - 16), minlength=12 << 16))


def test_hats_agrees_on_the_sky_key():
    from hats.pixel_math.spatial_index import compute_spatial_index

    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    theirs, own = compute_spatial_index(ra, dec), pixel_of(ra, dec)
    # The libraries differ by the last bit of a double at the edge of a pixel of 0.0004 arcsec.
    assert (theirs == own).mean() > 0.999


def test_lsdb_reads_every_row_and_value(ours):
    frame = lsdb.open_catalog(ours.root).compute()
    assert np.array_equal(frame.index.to_numpy(), TABLE.column("_healpix_29").to_numpy())
    for name in TABLE.column_names[1:]:
        theirs = pa.Array.from_pandas(frame[name]).cast(TABLE.schema.field(name).type)
        assert theirs.to_pylist() == TABLE.column(name).to_pylist(), name


@pytest.mark.parametrize("cone", [(0.0, 5.0, 3.0), (355.0, 1.0, 0.5), (100.0, 50.0, 1.0)])
def test_lsdb_finds_the_same_rows_in_a_cone(ours, cone):
    ra, dec, radius_deg = cone
    try:
        theirs = lsdb.open_catalog(ours.root).cone_search(ra, dec, radius_deg * 3600.0).compute()["source_id"]
    except ValueError:  # LSDB says that a region without partitions has no coverage
        theirs = pd.Series([], dtype="int64")
    subset = parse_subset(f"cone:{ra},{dec},{radius_deg}")
    rows = read_ranges(ours, subset.ranges(), columns=["source_id", "ra", "dec"])
    own = rows.filter(pa.array(subset.mask(rows, "ra", "dec"))).column("source_id").to_pylist()
    assert sorted(theirs.tolist()) == sorted(own)


def test_lsdb_matches_our_catalogues_through_our_margin(tmp_path):
    rng = np.random.default_rng(5)
    shift = rng.normal(0, 1.5 / 3600.0, TABLE.num_rows)
    moved = TABLE.set_column(3, TABLE.schema.field("dec"), pa.array(DEC + shift))
    sky = pixel_of(RA, DEC + shift)
    moved = moved.set_column(0, "_healpix_29", pa.array(sky)).take(pa.array(np.argsort(sky, kind="stable")))
    left, _ = write_mock(tmp_path / "left", TABLE, max_rows=4000)
    right, _ = write_mock(tmp_path / "right", moved, max_rows=3000)
    write_margin(right, tmp_path / "margin", threshold_arcsec=30.0)
    assert valid(tmp_path / "margin")
    opened = lsdb.open_catalog(right.root, margin_cache=tmp_path / "margin")
    assert opened.margin is not None
    pairs = lsdb.open_catalog(left.root).crossmatch(
        opened, radius_arcsec=20.0, suffixes=("_l", "_r"), suffix_method="all_columns"
    )
    found = pairs.compute()
    same = found[found["source_id_l"] == found["source_id_r"]]
    separation = separation_arcsec(RA, DEC, RA, DEC + shift)
    # A few rows have another neighbour nearer than their own counterpart; nothing else may be lost.
    assert len(found) == TABLE.num_rows
    assert len(same) > 0.995 * TABLE.num_rows
    by_id = pd.Series(separation, index=IDS)
    assert np.allclose(same["_dist_arcsec"], by_id[same["source_id_l"]], atol=1e-5)


def test_our_margin_holds_what_lsdbs_margin_needs(ours, tmp_path):
    frame = TABLE.select(["source_id", "ra", "dec"]).to_pandas()
    theirs = lsdb.from_dataframe(frame, ra_column="ra", dec_column="dec", partition_rows=1500, margin_threshold=120.0)
    theirs.write_catalog(tmp_path / "theirs", catalog_name="theirs")
    primary = open_stored(tmp_path / "theirs")
    write_margin(primary, tmp_path / "margin", threshold_arcsec=120.0)
    margin = open_stored(tmp_path / "margin")
    collection = lsdb.open_catalog(tmp_path / "theirs")
    compared = 0
    for pixel in collection.margin.get_healpix_pixels():
        needed = collection.margin.get_partition(pixel.order, pixel.pixel).compute()
        ours_here = next(p for p in margin.pixels if (p.order, p.ipix) == (pixel.order, pixel.pixel))
        own = set(read_pixel(margin, ours_here).column("source_id").to_pylist())
        ra, dec = needed["ra"].to_numpy(float), needed["dec"].to_numpy(float)
        near = distance_to_pixel_arcsec(pixel.order, pixel.pixel, ra, dec) < 119.0
        assert set(needed["source_id"][near].tolist()) <= own
        compared += int(near.sum())
    assert compared > 100


def distance_to_pixel_arcsec(order: int, ipix: int, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    import healpy

    border = healpy.boundaries(1 << order, ipix, step=4096, nest=True).T
    lon, lat = healpy.vec2ang(border, lonlat=True)
    return np.array([separation_arcsec(a, d, lon, lat).min() for a, d in zip(ra, dec, strict=True)])


def test_lsdb_finds_ids_through_our_index(ours, tmp_path):
    write_index(ours, tmp_path / "index", column="source_id", rows_per_part=2000)
    assert valid(tmp_path / "index")
    opened = lsdb.open_catalog(ours.root)
    for wanted in IDS[[0, 777, -1]].tolist():
        found = opened.id_search({"source_id": wanted}, index_catalogs={"source_id": tmp_path / "index"}).compute()
        assert found["source_id"].tolist() == [wanted]


def test_we_read_lsdbs_collection(tmp_path):
    frame = TABLE.select(["source_id", "ra", "dec", "gmag", "name"]).to_pandas()
    catalog = lsdb.from_dataframe(frame, ra_column="ra", dec_column="dec", partition_rows=1500)
    catalog.write_catalog(tmp_path / "theirs", catalog_name="theirs")
    stored = open_stored(tmp_path / "theirs")
    assert stored.root != tmp_path / "theirs"  # the collection's primary table
    assert stored.num_rows == TABLE.num_rows
    assert len(stored.pixels) > 3
    assert sorted(read_columns(stored, ["source_id"])["source_id"].to_pylist()) == sorted(IDS.tolist())
    for pixel in stored.pixels:
        table = read_pixel(stored, pixel)
        sky = table.column("_healpix_29").to_numpy()
        assert (np.diff(sky) >= 0).all()
        assert sky[0] >= pixel.first
        assert sky[-1] < pixel.last
    rows = read_ranges(stored, np.array([[0, 12 << 58]]), columns=["source_id", "gmag"])
    by_id = dict(zip(rows.column("source_id").to_pylist(), rows.column("gmag").to_pylist(), strict=True))
    expected = dict(zip(IDS.tolist(), TABLE.column("gmag").to_pylist(), strict=True))
    assert by_id == expected
    assert verify(tmp_path / "theirs").problems == ()


def test_a_catalogue_without_rows_is_valid_and_opens_everywhere(tmp_path):
    finish_catalog(tmp_path / "empty", CatalogProperties("empty"), TABLE.schema, [])
    assert open_stored(tmp_path / "empty").num_rows == 0
    assert valid(tmp_path / "empty")
    frame = lsdb.open_catalog(tmp_path / "empty").compute()
    assert len(frame) == 0
    assert list(frame.columns) == TABLE.column_names[1:]
