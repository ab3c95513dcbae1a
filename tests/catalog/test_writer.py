"""Writing: the same bytes every time, nothing half written, nothing wrong written, and the files around."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.mock_catalog import mock_table, partitions_of, write_mock

from stellarscale.catalog import atomic, layout
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import open_stored, read_pixel
from stellarscale.catalog.skymap import order_of, read_skymap, write_skymap
from stellarscale.catalog.writer import (
    WriteOptions,
    finish_catalog,
    stored_schema,
    sweep_temporary,
    write_pixel,
    write_table,
)
from stellarscale.errors import CatalogError, InputError, RunError

TABLE = mock_table(3000, seed=3)
PIXEL, PART = partitions_of(TABLE, 1000)[0]


def files_of(root: Path) -> dict[str, str]:
    """Every file of a directory with its digest."""
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_what_is_written_is_read_back(tmp_path):
    record = write_pixel(tmp_path, PIXEL, PART)
    path = layout.pixel_path(tmp_path, PIXEL)
    assert record.rows == PART.num_rows == pq.read_metadata(path).num_rows
    assert record.bytes == path.stat().st_size
    assert record.checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    back = pq.ParquetFile(path).read()
    assert back.schema.names == PART.schema.names
    for name in PART.column_names:
        assert back.column(name).equals(PART.column(name)), name
    assert back.schema.field("pmra").metadata[b"unit"] == b"mas/yr"
    assert back.schema.field("_healpix_29").metadata[b"ucd"] == b"pos.healpix"


def test_two_catalogues_of_the_same_rows_have_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_mock(tmp_path / name, TABLE)
    one, other = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    # The date is in the properties, and nowhere else.
    for dated in ("hats.properties", "properties"):
        assert one.pop(dated)
        assert other.pop(dated)
    assert one == other


def test_chunks_of_the_table_do_not_change_the_bytes(tmp_path):
    pieces = pa.concat_tables([PART.slice(0, 7), PART.slice(7, 100), PART.slice(107)])
    assert write_pixel(tmp_path / "a", PIXEL, PART) == write_pixel(tmp_path / "b", PIXEL, pieces)


def test_the_sky_key_comes_first_and_pandas_leaves_no_trace(tmp_path):
    moved = PART.select([*PART.column_names[1:], "_healpix_29"])
    moved = moved.replace_schema_metadata({b"pandas": b"{}", b"wavelengths": b"1,2,3"})
    write_pixel(tmp_path, PIXEL, moved)
    schema = pq.read_schema(layout.pixel_path(tmp_path, PIXEL))
    assert schema.names[0] == "_healpix_29"
    assert b"pandas" not in schema.metadata
    assert schema.metadata[b"wavelengths"] == b"1,2,3"


def test_row_groups_codecs_and_encodings(tmp_path):
    options = WriteOptions(compression="lz4", level=None, row_group_rows=200)
    write_pixel(tmp_path, PIXEL, PART, options)
    metadata = pq.read_metadata(layout.pixel_path(tmp_path, PIXEL))
    assert metadata.num_row_groups == -(-PART.num_rows // 200)
    by_name = {metadata.row_group(0).column(i).path_in_schema: metadata.row_group(0).column(i) for i in range(10)}
    assert by_name["ra"].compression == "LZ4"
    assert "BYTE_STREAM_SPLIT" in by_name["ra"].encodings
    assert "BYTE_STREAM_SPLIT" in by_name["gmag"].encodings
    assert "DELTA_BINARY_PACKED" in by_name["_healpix_29"].encodings
    assert "RLE_DICTIONARY" in by_name["name"].encodings
    assert "RLE_DICTIONARY" not in by_name["source_id"].encodings
    assert by_name["_healpix_29"].statistics.min == PART.column("_healpix_29")[0].as_py()


def test_main_ids_that_are_strings_have_no_dictionary(tmp_path):
    field = pa.field("designation", pa.string(), metadata={b"ucd": b"meta.id;meta.main"})
    table = pa.table([[f"star {i}" for i in range(50)], ["a"] * 50], schema=pa.schema([field, ("code", pa.string())]))
    write_table(tmp_path / "ids.parquet", table)
    group = pq.read_metadata(tmp_path / "ids.parquet").row_group(0)
    assert ["RLE_DICTIONARY" in group.column(i).encodings for i in range(2)] == [False, True]
    assert pq.read_table(tmp_path / "ids.parquet").to_pylist() == table.to_pylist()


def test_spectra_and_stamps_are_written_as_vectors(tmp_path):
    rows, width = PART.num_rows, 11
    flux = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(rows * width, dtype=np.float32)), width)
    stamps = pa.array([bytes([i % 251] * 6) for i in range(rows)], pa.binary(6))
    table = PART.append_column("flux", flux).append_column("stamp", stamps)
    write_pixel(tmp_path, PIXEL, table)
    path = layout.pixel_path(tmp_path, PIXEL)
    back = pq.read_table(path, partitioning=None)
    assert back.schema.field("flux").type == pa.list_(pa.float32(), width)
    assert back.column("flux").equals(pa.chunked_array([flux]))
    assert back.column("stamp").equals(pa.chunked_array([stamps]))
    metadata = pq.read_metadata(path)
    flux_chunk = next(
        metadata.row_group(0).column(i)
        for i in range(metadata.num_columns)
        if metadata.row_group(0).column(i).path_in_schema.startswith("flux")
    )
    assert "BYTE_STREAM_SPLIT" in flux_chunk.encodings
    assert flux_chunk.statistics is None


def test_no_rows_no_file_and_an_old_one_goes(tmp_path):
    write_pixel(tmp_path, PIXEL, PART)
    record = write_pixel(tmp_path, PIXEL, PART.slice(0, 0))
    assert (record.rows, record.bytes, record.checksum) == (0, 0, "")
    assert not layout.pixel_path(tmp_path, PIXEL).exists()


def test_unsorted_rows_are_refused(tmp_path):
    swapped = PART.take(pa.array([0, 2, 1, *range(3, PART.num_rows)]))
    with pytest.raises(CatalogError, match=r"not sorted.*row 2"):
        write_pixel(tmp_path, PIXEL, swapped)
    assert files_of(tmp_path) == {}


@pytest.mark.parametrize("row", [0, -1])
def test_rows_of_another_pixel_are_refused(tmp_path, row):
    sky = PART.column("_healpix_29").to_numpy().copy()
    sky[row] = PIXEL.first - 1 if row == 0 else PIXEL.last
    table = PART.set_column(0, "_healpix_29", pa.array(sky))
    with pytest.raises(CatalogError, match=f"partition {PIXEL}"):
        write_pixel(tmp_path, PIXEL, table)


@pytest.mark.parametrize(
    "table",
    [
        PART.drop_columns(["_healpix_29"]),
        PART.set_column(0, "_healpix_29", pa.array([None] * PART.num_rows, pa.int64())),
        PART.set_column(0, "_healpix_29", PART.column("_healpix_29").cast(pa.float64(), safe=False)),
    ],
    ids=["missing", "null", "float"],
)
def test_an_unusable_sky_key_is_refused(tmp_path, table):
    with pytest.raises(CatalogError, match="sky key"):
        write_pixel(tmp_path, PIXEL, table)


def test_a_full_disk_names_the_path_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(RunError, match=r"disk is full.*Npix=.*bytes free"):
        write_pixel(tmp_path, PIXEL, PART)
    assert files_of(tmp_path) == {}


def test_a_disk_that_fills_while_syncing_leaves_the_old_file(tmp_path, monkeypatch):
    write_pixel(tmp_path, PIXEL, PART)
    before = files_of(tmp_path)

    def full(descriptor):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="disk is full"):
        write_pixel(tmp_path, PIXEL, PART.slice(0, 5))
    assert files_of(tmp_path) == before


def test_other_errors_pass_and_leave_nothing(tmp_path):
    def half_way():
        with atomic.atomic_write(tmp_path / "x") as temporary:
            temporary.write_text("half")
            raise KeyError("x")

    with pytest.raises(KeyError):
        half_way()
    assert files_of(tmp_path) == {}


def test_directories_and_pipes_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for name in ("pipe", "directory"):
        with pytest.raises(InputError, match=name), atomic.atomic_write(tmp_path / name) as temporary:
            temporary.touch()
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "directory").is_dir()


def _die_before_the_rename(root: Path, table: pa.Table) -> None:
    os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
    write_pixel(root, PIXEL, table)


def test_a_process_killed_before_the_rename_leaves_the_old_file_and_a_sweepable_one(tmp_path):
    write_pixel(tmp_path, PIXEL, PART)
    before = files_of(tmp_path)
    process = multiprocessing.get_context("spawn").Process(
        target=_die_before_the_rename, args=(tmp_path, PART.slice(0, 5))
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left = set(files_of(tmp_path)) - set(before)
    assert len(left) == 1
    assert next(iter(left)).endswith(atomic.TEMPORARY_SUFFIX)
    assert sweep_temporary(tmp_path) == 1
    assert files_of(tmp_path) == before


def test_sweeping_what_is_not_there():
    assert sweep_temporary(Path("/nonexistent/catalogue")) == 0


def test_the_files_around_the_partitions(tmp_path):
    stored, records = write_mock(tmp_path, TABLE)
    pixels = [record.pixel for record in records]
    assert len(pixels) > 5
    metadata = pq.read_metadata(layout.metadata_path(tmp_path))
    assert metadata.num_rows == TABLE.num_rows
    paths = dict.fromkeys(metadata.row_group(i).column(0).file_path for i in range(metadata.num_row_groups))
    assert [layout.pixel_of_path(path) for path in paths] == pixels
    listed = layout.partition_info_path(tmp_path).read_text().splitlines()
    assert listed == ["Norder,Npix", *(f"{pixel.order},{pixel.ipix}" for pixel in pixels)]
    thumbnail = pq.read_table(layout.thumbnail_path(tmp_path), partitioning=None)
    firsts = [read_pixel(stored, pixel).column("source_id")[0] for pixel in pixels]
    assert thumbnail.column("source_id").to_pylist() == [first.as_py() for first in firsts]
    assert pq.read_schema(layout.common_metadata_path(tmp_path)).equals(stored_schema(TABLE.schema))
    assert stored.properties.rows == TABLE.num_rows
    assert stored.properties.extra["hats_builder"].startswith("stellarscale ")
    assert stored.properties.extra["stellarscale_id"] == "source_id"


def test_the_sky_map_counts_every_row_where_it_is(tmp_path):
    stored, _ = write_mock(tmp_path, TABLE)
    counts = read_skymap(layout.skymap_path(tmp_path))
    sky = TABLE.column("_healpix_29").to_numpy()
    assert np.array_equal(counts, np.bincount(sky >> (58 - 16), minlength=12 << 16))
    assert stored.properties.extra["hats_skymap_order"] == "8"
    assert float(stored.properties.extra["moc_sky_fraction"]) == pytest.approx((counts > 0).mean(), abs=1e-7)


@pytest.mark.parametrize("filled", [0.0, 0.3, 0.9, 1.0])
def test_sparse_and_full_sky_maps(tmp_path, filled):
    rng = np.random.default_rng(2)
    counts = np.where(rng.random(12 << 6) < filled, rng.integers(1, 2**40, 12 << 6), 0)
    write_skymap(tmp_path / "m.fits", counts)
    assert np.array_equal(read_skymap(tmp_path / "m.fits"), counts)
    assert order_of(counts) == 3


def test_finishing_without_a_partition_names_it(tmp_path):
    write_pixel(tmp_path, PIXEL, PART)
    with pytest.raises(CatalogError, match=r"missing.*partition 5/7"):
        finish_catalog(tmp_path, CatalogProperties("x"), PART.schema, [PIXEL, Pixel(5, 7)])
    assert not layout.metadata_path(tmp_path).exists()


def test_finishing_refuses_another_schema(tmp_path):
    write_pixel(tmp_path, PIXEL, PART.set_column(5, "gmag", PART.column("gmag").cast(pa.float64())))
    with pytest.raises(CatalogError, match=r"another schema.*gmag: double"):
        finish_catalog(tmp_path, CatalogProperties("x"), PART.schema, [PIXEL])


def test_finishing_refuses_a_damaged_file(tmp_path):
    write_pixel(tmp_path, PIXEL, PART)
    path = layout.pixel_path(tmp_path, PIXEL)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CatalogError, match=f"damaged.*Npix={PIXEL.ipix}"):
        finish_catalog(tmp_path, CatalogProperties("x"), PART.schema, [PIXEL])


def test_a_catalogue_without_rows(tmp_path):
    assert finish_catalog(tmp_path, CatalogProperties("empty"), PART.schema, []) == 0
    stored = open_stored(tmp_path)
    assert stored.pixels == ()
    assert stored.num_rows == 0
    assert stored.schema.names == PART.schema.names
    assert read_skymap(layout.skymap_path(tmp_path)).sum() == 0


def test_finishing_twice_changes_nothing_but_the_date(tmp_path):
    stored, records = write_mock(tmp_path, TABLE)
    before = files_of(tmp_path)
    finish_catalog(tmp_path, stored.properties, TABLE.schema, [record.pixel for record in records])
    after = files_of(tmp_path)
    assert {name for name in before if before[name] != after[name]} <= {"hats.properties", "properties"}


def test_any_table_can_be_written(tmp_path):
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    size, checksum = write_table(tmp_path / "t.parquet", table)
    assert pq.read_table(tmp_path / "t.parquet").column("b").to_pylist() == ["x", None, "z"]
    assert size == (tmp_path / "t.parquet").stat().st_size
    assert checksum == write_table(tmp_path / "u.parquet", table)[1]
