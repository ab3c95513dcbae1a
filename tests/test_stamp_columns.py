"""Stamps as Arrow columns: what is written is read, and a column that is something else is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.errors import SchemaError
from stellarscale.stamp_columns import (
    STAMP,
    StampFormat,
    binary_array,
    binary_rows,
    coverage_field,
    format_of,
    stamp_field,
    stamps_of,
)

LAYOUT = StampFormat(("g", "r"), 8, "float16", (5.0, 2.5), 25.0, True)
METADATA = b"stamp_format"


def table_of(stamps, layout=LAYOUT, null=None) -> pa.Table:
    field = stamp_field(layout)
    return pa.table([binary_array(stamps, field.type, null=null)], schema=pa.schema([field]))


def some_stamps(n: int, layout=LAYOUT, seed=1):
    stamps = np.random.default_rng(seed).normal(size=(n, *layout.shape)).astype(layout.dtype)
    stamps[0, 0, 0, 0] = np.nan
    return stamps


def about_of(field: pa.Field) -> dict:
    return json.loads(field.metadata[METADATA])


def with_about(about, field=None) -> pa.Schema:
    field = field or stamp_field(LAYOUT)
    return pa.schema([field.with_metadata({METADATA: json.dumps(about).encode()})])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_stamps_come_back_from_parquet_bit_for_bit(tmp_path, dtype):
    layout = replace(LAYOUT, dtype=dtype)
    stamps = some_stamps(5, layout)
    pq.write_table(table_of(stamps, layout), tmp_path / "stamps.parquet")
    back = pq.read_table(tmp_path / "stamps.parquet")
    assert format_of(back.schema) == layout
    assert stamps_of(back).tobytes() == stamps.tobytes()
    assert stamps_of(back).dtype == np.dtype(dtype)


def test_sizes_are_those_of_the_bytes():
    assert LAYOUT.shape == (2, 8, 8)
    assert (LAYOUT.pixels, LAYOUT.nbytes) == (128, 256)
    assert stamp_field(LAYOUT).type.byte_width == 256
    assert coverage_field(LAYOUT).type.byte_width == 128


def test_the_description_tells_bands_stretch_and_zero_point():
    text = stamp_field(LAYOUT).metadata[b"description"].decode()
    for part in ("2x8x8 float16", "bands g r", "asinh", "softening 5 2.5", "magnitude 25", "NaN: not covered"):
        assert part in text
    assert stamp_field(LAYOUT).metadata[b"ucd"] == b"obs.image"
    assert b"uint8" in coverage_field(LAYOUT).metadata[b"description"]


@given(st.integers(1, 20), st.integers(0, 7), st.data())
def test_slices_chunks_and_nulls_keep_every_row_in_its_place(n, offset, data):
    stamps = some_stamps(n)
    null = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    whole = table_of(stamps, null=null)
    assert whole[STAMP].is_null().to_numpy().tolist() == null.tolist()
    part = pa.concat_tables([whole.slice(offset), whole.slice(0, offset)])
    order = np.r_[np.arange(min(offset, n), n), np.arange(min(offset, n))]
    good = ~null[order]
    assert stamps_of(part)[good].tobytes() == stamps[order][good].tobytes()
    batch = whole.slice(min(offset, n)).combine_chunks().to_batches()
    assert sum(len(stamps_of(each)) for each in batch) == n - min(offset, n)


def test_one_chunk_is_not_copied():
    table = table_of(some_stamps(4))
    address = table[STAMP].chunk(0).buffers()[1].address
    assert stamps_of(table).__array_interface__["data"][0] == address
    assert stamps_of(table.slice(1)).__array_interface__["data"][0] == address + LAYOUT.nbytes


def test_no_rows_have_the_shape_of_the_stamps():
    assert stamps_of(stamp_schema().empty_table()).shape == (0, 2, 8, 8)
    empty = pa.chunked_array([], type=pa.binary(128))
    assert binary_rows(empty, "uint8", LAYOUT.shape).shape == (0, 2, 8, 8)


def stamp_schema() -> pa.Schema:
    return pa.schema([stamp_field(LAYOUT)])


def test_rows_that_are_not_contiguous_are_written_as_they_read():
    turned = np.swapaxes(some_stamps(3), 2, 3)
    assert np.array_equal(stamps_of(table_of(turned)), turned, equal_nan=True)


def test_rows_of_another_size_are_refused():
    with pytest.raises(ValueError, match="256 bytes"):
        binary_array(some_stamps(2), pa.binary(100))


def test_a_table_without_stamps_says_what_it_has():
    with pytest.raises(SchemaError, match="no stamps") as told:
        format_of(pa.schema([("ra", pa.float64())]))
    assert "ra" in str(told.value)


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        (pa.schema([pa.field(STAMP, pa.binary(256))]), "no format in its metadata"),
        (pa.schema([stamp_field(LAYOUT).with_type(pa.binary())]), "binary"),
        (with_about({**about_of(stamp_field(LAYOUT)), "version": 9}), "version 1"),
        (with_about({**about_of(stamp_field(LAYOUT)), "size_px": 9}), "324 bytes for 2x9x9 float16"),
        (pa.schema([stamp_field(LAYOUT).with_metadata({METADATA: b"{truncated"})]), "{truncated"),
        (with_about({"version": 1, "bands": ["g"]}), "size_px"),
        (with_about({**about_of(stamp_field(LAYOUT)), "colour": 1}), "colour"),
        (with_about({**about_of(stamp_field(LAYOUT)), "dtype": "float7"}), "float7"),
        (with_about({**about_of(stamp_field(LAYOUT)), "softening": [5.0]}), "softening"),
        (with_about([1, 2]), "[1, 2]"),
    ],
)
def test_columns_that_are_no_stamps_are_refused(schema, part):
    with pytest.raises(SchemaError, match=r"stamp") as told:
        format_of(schema)
    assert part in str(told.value)
