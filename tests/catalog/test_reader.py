"""Reading: every row once, along the sky, whoever wrote the files; mistakes and damage are told."""

from __future__ import annotations

import logging
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog import footers, layout
from stellarscale.catalog import reader as reader_module
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import extremes, open_stored, read_columns, read_pixel, read_ranges
from stellarscale.errors import CatalogError, SchemaError
from stellarscale.kernels.healpix import ring_around

TABLE = mock_table(4000, seed=5)
SKY = TABLE.column("_healpix_29").to_numpy()
WHOLE_SKY = np.array([[0, 12 << 58]])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("reader") / "cat"
    write_mock(path, TABLE, max_rows=500, row_group_rows=128)
    return path


@pytest.fixture
def copy(root, tmp_path):
    """A copy that a test may damage."""
    shutil.copytree(root, tmp_path / "copy")
    return tmp_path / "copy"


def rewrite(path, change):
    """Replace a Parquet file by what a function makes of its table."""
    table = pq.ParquetFile(path).read()
    pq.write_table(change(table), path, row_group_size=128)


def same_rows(one: pa.Table, other: pa.Table) -> bool:
    return one.select(other.column_names).to_pydict() == other.to_pydict()


def test_partitions_make_the_table(root):
    stored = open_stored(root)
    assert len(stored.pixels) > 8
    tables = [read_pixel(stored, pixel) for pixel in stored.pixels]
    assert same_rows(pa.concat_tables(tables), TABLE)
    assert [stored.rows_of(pixel) for pixel in stored.pixels] == [table.num_rows for table in tables]
    assert stored.num_rows == TABLE.num_rows
    assert all(table.schema.equals(stored.schema, check_metadata=True) for table in tables)


def test_field_metadata_comes_along_and_housekeeping_does_not(root):
    table = read_pixel(open_stored(root), open_stored(root).pixels[0])
    assert table.schema.field("ra").metadata[b"unit"] == b"deg"
    assert not any(key.startswith((b"IVOA", b"pandas")) for key in table.schema.metadata or {})


def test_columns_come_as_asked_for_behind_the_sky_key(root):
    stored = open_stored(root)
    table = read_pixel(stored, stored.pixels[0], columns=["feh", "ra"])
    assert table.column_names == ["_healpix_29", "feh", "ra"]
    assert read_pixel(stored, stored.pixels[0], columns=[]).column_names == ["_healpix_29"]
    assert read_pixel(stored, stored.pixels[0], columns=["ra", "_healpix_29"]).column_names == [
        "_healpix_29",
        "ra",
    ]
    assert read_ranges(stored, WHOLE_SKY, columns=["feh"]).column_names == ["_healpix_29", "feh"]
    assert read_ranges(stored, WHOLE_SKY[:0], columns=["feh"]).column_names == ["_healpix_29", "feh"]


def test_a_column_that_is_not_there_is_told(root):
    stored = open_stored(root)
    with pytest.raises(SchemaError, match=r"gmag.*'no_such'"):
        read_pixel(stored, stored.pixels[0], columns=["no_such"])
    with pytest.raises(SchemaError, match="no_such"):
        read_ranges(stored, WHOLE_SKY, columns=["no_such"])
    with pytest.raises(SchemaError, match="no_such"):
        extremes(stored, "no_such")


bounds = st.one_of(
    st.integers(0, 12 << 58),
    st.sampled_from(SKY.tolist()),
    st.sampled_from(SKY.tolist()).map(lambda value: value + 1),
)
range_lists = st.lists(st.tuples(bounds, bounds).map(sorted), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(ranges=range_lists, with_metadata=st.booleans())
def test_ranges_agree_with_brute_force(root, ranges, with_metadata):
    stored = open_stored(root)
    wanted = np.array(ranges, dtype=np.int64).reshape(-1, 2)
    keep = np.zeros(len(SKY), dtype=bool)
    for first, last in ranges:
        keep |= (first <= SKY) & (last > SKY)
    expected = TABLE.filter(pa.array(keep)).select(["_healpix_29", "source_id", "name"])
    if with_metadata:
        found = read_ranges(stored, wanted, columns=["source_id", "name"])
    else:
        parts = [read_pixel(stored, p, columns=["source_id", "name"], ranges=wanted) for p in stored.pixels]
        found = pa.concat_tables(parts)
    assert same_rows(found, expected)


def test_ranges_open_only_the_files_that_hold_some(root, monkeypatch):
    stored = open_stored(root)
    opened = []
    original = reader_module.finish.open_partition
    monkeypatch.setattr(
        reader_module.finish,
        "open_partition",
        lambda path, pixel: opened.append(pixel) or original(path, pixel),
    )
    pixel = stored.pixels[3]
    read_ranges(stored, np.array([[pixel.first, pixel.last]]))
    assert opened == [pixel]
    opened.clear()
    ring = ring_around(pixel.order, pixel.ipix, 600.0)
    assert read_ranges(stored, ring).num_rows == sum(((first <= SKY) & (last > SKY)).sum() for first, last in ring)
    assert pixel not in opened
    assert len(opened) < len(stored.pixels)


def test_without_the_gathered_footers_everything_works_as_well(copy):
    layout.metadata_path(copy).unlink()
    stored = open_stored(copy)
    assert same_rows(read_ranges(stored, WHOLE_SKY), TABLE)
    assert stored.num_rows == TABLE.num_rows
    assert extremes(stored, "dec") == extremes_of("dec")


def test_without_the_list_of_partitions_the_files_are_listed(root, copy):
    layout.partition_info_path(copy).unlink()
    assert open_stored(copy).pixels == open_stored(root).pixels
    layout.metadata_path(copy).unlink()
    layout.common_metadata_path(copy).unlink()
    stored = open_stored(copy)
    assert stored.pixels == open_stored(root).pixels
    assert stored.schema.names == open_stored(root).schema.names


def test_footers_are_read_again_when_the_catalogue_is_made_anew(tmp_path):
    first, _ = write_mock(tmp_path / "c", TABLE.slice(0, 1000))
    assert first.num_rows == 1000
    shutil.rmtree(tmp_path / "c")
    again, _ = write_mock(tmp_path / "c", TABLE.slice(0, 2000))
    assert again.num_rows == 2000


def test_unsorted_files_are_sorted_and_it_is_said_once(copy, caplog):
    stored = open_stored(copy)
    for pixel in stored.pixels:
        rewrite(layout.pixel_path(copy, pixel), lambda table: table.take(pa.array(np.arange(len(table))[::-1])))
    layout.metadata_path(copy).unlink()
    with caplog.at_level(logging.WARNING):
        whole = read_ranges(stored, WHOLE_SKY)
        part = read_pixel(stored, stored.pixels[1], ranges=np.array([[0, SKY[2000]]]))
    assert np.array_equal(whole.column("_healpix_29"), SKY)
    assert sorted(whole.column("source_id").to_pylist()) == sorted(TABLE.column("source_id").to_pylist())
    assert (np.diff(part.column("_healpix_29").to_numpy()) >= 0).all()
    assert len([record for record in caplog.records if "not sorted" in record.message]) == 1


def test_files_without_a_sky_key_get_one(copy, caplog):
    stored = open_stored(copy)
    for pixel in stored.pixels:
        rewrite(layout.pixel_path(copy, pixel), lambda table: table.drop_columns(["_healpix_29"]))
    layout.metadata_path(copy).unlink()
    layout.common_metadata_path(copy).unlink()
    stored = open_stored(copy)
    assert stored.schema.names[0] == "_healpix_29"
    with caplog.at_level(logging.WARNING):
        assert same_rows(pa.concat_tables([read_pixel(stored, p) for p in stored.pixels]), TABLE)
    assert len([record for record in caplog.records if "_healpix_29" in record.message]) == 1
    middle = np.array([[SKY[1000], SKY[1500]]])
    assert np.array_equal(read_ranges(stored, middle, columns=["source_id"]).column(0), SKY[1000:1500])
    assert extremes(stored, "_healpix_29") is None


def test_hive_columns_are_dropped(copy):
    stored = open_stored(copy)
    for pixel in stored.pixels:
        rewrite(
            layout.pixel_path(copy, pixel),
            lambda table, p=pixel: (
                table.append_column("Norder", pa.array([p.order] * len(table), pa.int8()))
                .append_column("Dir", pa.array([0] * len(table)))
                .append_column("Npix", pa.array([p.ipix] * len(table)))
            ),
        )
    layout.metadata_path(copy).unlink()
    layout.common_metadata_path(copy).unlink()
    stored = open_stored(copy)
    assert stored.schema.names == TABLE.column_names
    assert same_rows(read_ranges(stored, WHOLE_SKY), TABLE)


def test_other_integer_types_of_the_sky_key_are_understood(copy):
    stored = open_stored(copy)
    for pixel in stored.pixels:
        rewrite(
            layout.pixel_path(copy, pixel),
            lambda table: table.set_column(0, "_healpix_29", table.column(0).cast(pa.uint64())),
        )
    layout.metadata_path(copy).unlink()
    assert same_rows(read_ranges(stored, WHOLE_SKY), TABLE)
    assert same_rows(read_pixel(stored, stored.pixels[0]), TABLE.slice(0, stored.rows_of(stored.pixels[0])))


def test_partitions_that_are_directories(copy):
    stored = open_stored(copy)
    for pixel in stored.pixels:
        path = layout.pixel_path(copy, pixel)
        table = pq.ParquetFile(path).read()
        path.unlink()
        directory = layout.pixel_path(copy, pixel, "/")
        directory.mkdir()
        pq.write_table(table.slice(0, 100), directory / "part0.parquet")
        pq.write_table(table.slice(100), directory / "part1.parquet")
    layout.metadata_path(copy).unlink()
    text = layout.properties_path(copy).read_text() + "hats_npix_suffix=/\n"
    layout.properties_path(copy).write_text(text)
    stored = open_stored(copy)
    assert same_rows(pa.concat_tables([read_pixel(stored, p) for p in stored.pixels]), TABLE)
    assert same_rows(read_ranges(stored, WHOLE_SKY), TABLE)
    assert stored.num_rows == TABLE.num_rows


def test_a_collection_opens_its_primary_table(root, tmp_path):
    shutil.copytree(root, tmp_path / "coll" / "mock")
    text = "#HATS Collection\nobs_collection=coll\nhats_primary_table_url=mock\n"
    (tmp_path / "coll" / "collection.properties").write_text(text)
    stored = open_stored(tmp_path / "coll")
    assert stored.root == tmp_path / "coll" / "mock"
    assert stored.num_rows == TABLE.num_rows
    (tmp_path / "coll" / "collection.properties").write_text("obs_collection=coll\nhats_primary_table_url=gone\n")
    with pytest.raises(CatalogError, match="hats_primary_table_url=gone"):
        open_stored(tmp_path / "coll")


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_cut_file_is_told(copy, keep):
    stored = open_stored(copy)
    path = layout.pixel_path(copy, stored.pixels[2])
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else keep])
    for read in (lambda: read_pixel(stored, stored.pixels[2]), lambda: read_ranges(stored, WHOLE_SKY)):
        with pytest.raises(CatalogError, match=rf"damaged.*partition {stored.pixels[2]}.*{path.name}"):
            read()


def test_a_file_with_broken_pages_is_told(copy):
    stored = open_stored(copy)
    path = layout.pixel_path(copy, stored.pixels[0])
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)
    with pytest.raises(CatalogError, match="damaged"):
        read_pixel(stored, stored.pixels[0])


def test_a_missing_file_is_told(copy):
    stored = open_stored(copy)
    layout.pixel_path(copy, stored.pixels[1]).unlink()
    with pytest.raises(CatalogError, match=rf"missing.*partition {stored.pixels[1]}"):
        read_pixel(stored, stored.pixels[1])
    with pytest.raises(CatalogError, match="missing"):
        read_pixel(stored, Pixel(9, 12345))


def test_damaged_footers_are_told(copy):
    layout.metadata_path(copy).write_bytes(b"PAR1 nonsense")
    stored = open_stored(copy)
    with pytest.raises(CatalogError, match="_metadata"):
        read_ranges(stored, WHOLE_SKY)


def test_a_directory_that_is_no_catalogue_is_told(tmp_path):
    with pytest.raises(CatalogError, match="no such catalogue"):
        open_stored(tmp_path / "nothing")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CatalogError, match=r"no HATS catalogue.*notes.txt"):
        open_stored(tmp_path)
    (tmp_path / "dataset").mkdir()
    with pytest.raises(CatalogError, match="not finished"):
        open_stored(tmp_path)
    (tmp_path / "catalog_info.json").touch()
    with pytest.raises(CatalogError, match="HiPSCat"):
        open_stored(tmp_path)


@pytest.mark.parametrize("text", ["Norder\n3\n", "Norder,Npix\n1,99\n", "Norder,Npix\n1,x\n"])
def test_a_damaged_list_of_partitions_is_told(copy, text):
    layout.partition_info_path(copy).write_text(text)
    with pytest.raises(CatalogError, match="list of partitions"):
        open_stored(copy)


def test_a_position_that_is_not_there_is_told(copy):
    text = layout.properties_path(copy).read_text().replace("hats_col_ra=ra", "hats_col_ra=alpha")
    layout.properties_path(copy).write_text(text)
    with pytest.raises(SchemaError, match="'alpha'"):
        open_stored(copy)


def extremes_of(column):
    values = TABLE.column(column).drop_null().to_numpy()
    return float(values.min()), float(values.max())


@pytest.mark.parametrize("column", ["ra", "dec", "pmra", "gmag", "source_id", "quality_flags", "_healpix_29"])
def test_extremes_come_from_the_statistics(root, column):
    assert extremes(open_stored(root), column) == extremes_of(column)


@pytest.mark.parametrize("column", ["name", "variable"])
def test_what_is_no_number_has_no_extremes(root, column):
    assert extremes(open_stored(root), column) is None


def test_extremes_with_nulls_and_without_statistics(tmp_path):
    table = TABLE.set_column(4, "pmra", pa.array([None] * TABLE.num_rows, pa.float64()))
    stored, _ = write_mock(tmp_path / "nulls", table)
    assert extremes(stored, "pmra") is None
    some = np.full(TABLE.num_rows, np.nan)
    some[77] = 5.5
    column = pa.array(some, mask=np.isnan(some))
    stored, _ = write_mock(tmp_path / "one", TABLE.set_column(4, "pmra", column))
    assert extremes(stored, "pmra") == (5.5, 5.5)
    for pixel in stored.pixels:
        path = layout.pixel_path(stored.root, pixel)
        pq.write_table(pq.ParquetFile(path).read(), path, write_statistics=False)
    layout.metadata_path(stored.root).unlink()
    assert extremes(stored, "pmra") is None
    assert same_rows(read_ranges(stored, WHOLE_SKY, columns=["ra"]), TABLE.select(["_healpix_29", "ra"]))


def test_a_column_of_the_whole_catalogue(root):
    stored = open_stored(root)
    assert read_columns(stored, ["gmag"])["gmag"].to_pylist() == TABLE.column("gmag").to_pylist()
    with pytest.raises(SchemaError):
        read_columns(stored, ["no_such"])["no_such"]


def test_catalogues_travel_to_workers(root):
    stored = open_stored(root)
    back = pickle.loads(pickle.dumps(stored))
    assert back == stored
    assert hash(back) == hash(stored)
    assert back.properties == CatalogProperties.from_text(layout.properties_path(root).read_text())


closed = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10)), max_size=20)
half_open = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 10)), max_size=8)


@given(closed, half_open)
def test_overlaps_agree_with_a_loop(intervals, ranges):
    low = np.array([start for start, _ in intervals], dtype=np.int64)
    high = low + np.array([size for _, size in intervals], dtype=np.int64)
    merged = reader_module.merge_ranges(np.array([(a, a + n) for a, n in ranges], dtype=np.int64).reshape(-1, 2))
    expected = [any(a <= hi and b > lo for a, b in merged) for lo, hi in zip(low, high, strict=True)]
    assert footers.overlaps(low, high, merged).tolist() == expected
