"""Catalogues of image stamps: how they are stored, read, checked and exported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import parse_single_table
from click.testing import CliRunner
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog.export import export
from stellarscale.catalog.layout import pixel_path
from stellarscale.catalog.reader import open_stored, read_batches_of, read_pixel
from stellarscale.catalog.verify import verify
from stellarscale.catalog.wide import parts, row_bytes, wide_columns
from stellarscale.catalog.writer import WriteOptions, write_pixel
from stellarscale.cli import main
from stellarscale.products.inspect import sample_rows
from stellarscale.stamp_columns import (
    COVERAGE,
    STAMP,
    StampFormat,
    binary_array,
    binary_rows,
    coverage_field,
    format_of,
    stamp_field,
    stamps_of,
)

LAYOUT = StampFormat(("g", "r"), 16, "float16", (5.0, 4.0), 25.0, True)
N = 1300


def stamped(layout: StampFormat = LAYOUT, rows: int = N) -> pa.Table:
    """Rows along the sky with stamps; every tenth has none, and the first row of pixels of the others is missing."""
    rng = np.random.default_rng(5)
    table = mock_table(rows, patch=(20.0, -10.0, 0.5))
    pixels = rng.normal(0, 2, (rows, *layout.shape)).astype(layout.dtype)
    coverage = rng.integers(1, 4, (rows, *layout.shape), dtype=np.uint8)
    pixels[:, :, 0], coverage[:, :, 0] = np.nan, 0
    null = np.arange(rows) % 10 == 3
    for field, values in ((stamp_field(layout), pixels), (coverage_field(layout), coverage)):
        table = table.append_column(field, binary_array(values, field.type, null=null))
    return table.append_column("pair", pa.array([[1.0, 2.0]] * rows, pa.list_(pa.field("element", pa.float32()), 2)))


TABLE = stamped()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stamps") / "stamps"
    write_mock(path, TABLE, max_rows=1200, row_group_rows=100_000)
    return path


def test_what_counts_as_large():
    assert wide_columns(TABLE.schema) == [STAMP, COVERAGE]
    assert row_bytes(TABLE.schema) == 2 * LAYOUT.pixels + LAYOUT.pixels + 8
    small = pa.schema([pa.field("key", pa.binary(16))])
    assert wide_columns(small) == []
    assert WriteOptions().group_rows(small) == 100_000
    assert WriteOptions().group_rows(TABLE.schema) == 512
    assert [part.num_rows for part in parts(TABLE, 600)] == [600, 600, 100]


def test_stamps_are_stored_as_they_are_and_all_else_is_packed(root):
    stored = open_stored(root)
    file = pq.ParquetFile(pixel_path(root, max(stored.pixels, key=stored.rows_of)))
    group = file.metadata.row_group(0)
    assert group.num_rows == 512
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert columns[STAMP].compression == "UNCOMPRESSED"
    assert columns[STAMP].total_compressed_size == pytest.approx(512 * 0.9 * LAYOUT.nbytes, rel=0.01)
    assert not columns[STAMP].has_dictionary_page
    others = {name: column.compression for name, column in columns.items() if name != STAMP}
    assert set(others.values()) == {"ZSTD"}
    assert "pair.list.element" in others
    assert not columns[STAMP].is_stats_set
    assert columns["_healpix_29"].is_stats_set


@pytest.mark.parametrize("level", [None, 1])
def test_any_codec_will_do(tmp_path, level):
    stored, _ = write_mock(tmp_path / "cat", TABLE.slice(0, 40))
    pixel = stored.pixels[0]
    options = WriteOptions(compression="gzip" if level else "snappy", level=level)
    write_pixel(tmp_path / "cat", pixel, read_pixel(stored, pixel), options)
    assert read_pixel(stored, pixel).equals(TABLE.slice(0, 40))


def test_reading_gives_back_what_was_written(root):
    stored = open_stored(root)
    whole = pa.concat_tables([read_pixel(stored, pixel) for pixel in stored.pixels])
    assert whole.equals(TABLE)
    assert whole.schema.equals(TABLE.schema.set(0, whole.schema.field(0)), check_metadata=True)
    assert format_of(stored.schema) == LAYOUT
    batches = [b for pixel in stored.pixels for b in read_batches_of(stored, pixel, columns=[STAMP, "ra"])]
    assert max(batch.num_rows for batch in batches) == 512
    has, found = np.asarray(TABLE[STAMP].is_valid()), np.concatenate([stamps_of(batch) for batch in batches])
    assert np.array_equal(found[has], stamps_of(TABLE)[has], equal_nan=True)


def test_stamps_of_a_row_group_are_not_copied(root):
    stored = open_stored(root)
    batch = next(read_batches_of(stored, stored.pixels[0], columns=[STAMP]))
    assert stamps_of(batch).base is not None
    assert np.shares_memory(stamps_of(batch), np.frombuffer(batch[STAMP].chunk(0).buffers()[1], np.uint8))


def test_other_readers_get_the_bytes(root):
    path = pixel_path(root, open_stored(root).pixels[0])
    table = pq.read_table(path, columns=[STAMP, COVERAGE])
    assert table.schema.field(STAMP).type == pa.binary(LAYOUT.nbytes)
    assert table.equals(TABLE.select([STAMP, COVERAGE]).slice(0, table.num_rows))


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_hats_finds_the_catalogue_valid(root):
    hats_validation = pytest.importorskip("hats.io.validation", reason="hats, the oracle of the format, is missing")
    assert hats_validation.is_valid_catalog(root, strict=True)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_lsdb_reads_the_stamps(root):
    lsdb = pytest.importorskip("lsdb", reason="LSDB is not installed")
    import dask

    with dask.config.set(scheduler="synchronous"):
        frame = lsdb.open_catalog(root, columns=["source_id", STAMP]).compute()
    expected = dict(zip(TABLE["source_id"].to_pylist(), TABLE[STAMP].to_pylist(), strict=True))
    assert len(frame) == N
    for number, value in zip(frame["source_id"].tolist()[:50], frame[STAMP].tolist()[:50], strict=True):
        assert (value if isinstance(value, bytes) else None) == expected[number]


def test_a_good_catalogue_has_no_problems(root):
    assert verify(root).problems == ()


@pytest.mark.parametrize("damage", ["infinite", "uncovered", "no coverage"])
def test_pixels_that_contradict_their_coverage_are_told(tmp_path, damage):
    pixels, coverage = stamps_of(TABLE).copy(), binary_rows(TABLE[COVERAGE], "u1", LAYOUT.shape).copy()
    null = np.asarray(TABLE[STAMP].is_null())
    no_coverage = null.copy()
    if damage == "infinite":
        pixels[7, 1, 5, 5] = np.inf
    elif damage == "uncovered":
        pixels[7, 1, 0, 5] = 1.0
    else:
        no_coverage[7] = True
    table = TABLE
    for name, values, missing in ((STAMP, pixels, null), (COVERAGE, coverage, no_coverage)):
        place = table.column_names.index(name)
        field = table.schema.field(name)
        table = table.set_column(place, field, binary_array(values, field.type, null=missing))
    write_mock(tmp_path / "cat", table)
    (problem,) = verify(tmp_path / "cat").problems
    assert "stamp and stamp_coverage disagree, seen 1 rows" in str(problem)
    assert verify(tmp_path / "cat", deep=False).problems == ()


def test_the_command_line_knows_stamps(root, tmp_path):
    run = CliRunner()
    told = run.invoke(main, ["info", str(root), "--json"])
    assert told.exit_code == 0, told.output
    columns = {column["name"]: column for column in json.loads(told.output)["columns"]}
    assert columns[STAMP]["type"] == f"fixed_size_binary[{LAYOUT.nbytes}]"
    assert "2x16x16 float16" in columns[STAMP]["description"]
    assert run.invoke(main, ["verify", str(root)]).exit_code == 0
    done = run.invoke(main, ["export", str(root), "--out", str(tmp_path / "all.fits")])
    assert done.exit_code == 0, done.output


def test_fits_holds_images_as_arrays(root, tmp_path):
    assert export(open_stored(root), tmp_path / "all.fits", format="fits") == N
    with fits.open(tmp_path / "all.fits") as file:
        file.verify("exception")
        data, header = file[1].data, file[1].header
        place = data.names.index(STAMP) + 1
        assert header[f"TDIM{place}"] == "(16,16,2)"
        assert "asinh(flux / softening), softening 5 4" in header[f"TCOMM{place}"]
        assert data[STAMP].shape == data[COVERAGE].shape == (N, 2, 16, 16)
        null = np.asarray(TABLE[STAMP].is_null())
        assert np.array_equal(data[STAMP][~null], stamps_of(TABLE)[~null].astype("f4"), equal_nan=True)
        assert np.isnan(data[STAMP][null]).all()
        coverage = binary_rows(TABLE[COVERAGE], "u1", LAYOUT.shape)
        assert np.array_equal(data[COVERAGE][~null], coverage[~null])
        assert data[COVERAGE][null].max() == 0


def test_the_bytes_alone_are_bytes(root, tmp_path):
    export(open_stored(root), tmp_path / "c.fits", format="fits", columns=["source_id", COVERAGE])
    with fits.open(tmp_path / "c.fits") as file:
        assert file[1].data[COVERAGE].shape == (N, LAYOUT.pixels)


def test_votable_parquet_and_csv(root, tmp_path, caplog):
    stored = open_stored(root)
    export(stored, tmp_path / "some.vot", format="votable", columns=["source_id", STAMP, COVERAGE])
    table = parse_single_table(tmp_path / "some.vot").to_table()
    null = np.asarray(TABLE[STAMP].is_null())
    expected = stamps_of(TABLE).reshape(N, -1).astype("f4")
    assert np.array_equal(np.asarray(table[STAMP])[~null], expected[~null], equal_nan=True)
    export(stored, tmp_path / "all.parquet", format="parquet")
    assert pq.read_table(tmp_path / "all.parquet").equals(TABLE)
    assert format_of(pq.read_schema(tmp_path / "all.parquet")) == LAYOUT
    export(stored, tmp_path / "all.csv", format="csv")
    assert f"{STAMP}, {COVERAGE}, pair left out" in caplog.text
    assert STAMP not in (tmp_path / "all.csv").read_text().partition("\n")[0]


def test_pictures_of_a_catalogue_leave_the_stamps_where_they_are(root):
    assert STAMP not in sample_rows(open_stored(root)).column_names


def test_float32_stamps(tmp_path):
    layout = replace(LAYOUT, dtype="float32")
    table = stamped(layout, 40)
    stored, _ = write_mock(tmp_path / "cat", table)
    assert stamps_of(read_pixel(stored, stored.pixels[0])).dtype == np.float32
    assert not verify(tmp_path / "cat").problems
    export(stored, tmp_path / "all.fits", format="fits")
    assert np.array_equal(fits.getdata(tmp_path / "all.fits")[STAMP][0], stamps_of(table)[0], equal_nan=True)
