"""The FITS reader against astropy: scaled and unsigned integers, nulls, strings, odd columns, HDUs."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits

from stellarscale.errors import InputError, SchemaError
from stellarscale.surveys.fits_table import open_fits


def write(path, columns, **header) -> None:
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header.update(header)
    fits.HDUList([fits.PrimaryHDU(np.zeros((7, 5))), hdu]).writeto(path)


def read(path, hdu=None, batch_rows=3) -> dict[str, list]:
    table = open_fits(path, hdu)
    names = [field.name for field in table.fields if field.is_scalar]
    return pa.concat_tables(table.batches(dict.fromkeys(names), batch_rows)).to_pydict()


@pytest.mark.parametrize("pack", [False, True])
def test_every_scalar_code(tmp_path, pack):
    rng = np.random.default_rng(1)
    data = {
        "B": rng.integers(0, 255, 11).astype("u1"),
        "I": rng.integers(-(2**15), 2**15, 11).astype("i2"),
        "J": rng.integers(-(2**31), 2**31, 11).astype("i4"),
        "K": rng.integers(-(2**63), 2**63 - 1, 11),
        "E": rng.normal(size=11).astype("f4"),
        "D": rng.normal(size=11),
        "L": rng.random(11) < 0.5,
    }
    path = tmp_path / "t.fits"
    write(path, [fits.Column(code, code, array=values) for code, values in data.items()])
    if pack:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert read(path) == {code: values.tolist() for code, values in data.items()}


@pytest.mark.parametrize(
    "code, zero, dtype",
    [("I", 1 << 15, "u2"), ("J", 1 << 31, "u4"), ("K", 1 << 63, "u8"), ("B", -128, "i1")],
)
def test_unsigned_integers_are_exact(tmp_path, code, zero, dtype):
    limits = np.iinfo(dtype)
    values = np.array([limits.min, 0, 1, limits.max - 1, limits.max], dtype)
    path = tmp_path / "t.fits"
    write(path, [fits.Column("x", code, bzero=zero, array=values)])
    assert read(path)["x"] == values.tolist()


def test_scaled_integers_and_nulls(tmp_path):
    path = tmp_path / "t.fits"
    raw = np.array([1, -32768, 3], "i2")
    write(path, [fits.Column("x", "I", array=raw)], TSCAL1=0.5, TZERO1=10.0, TNULL1=-32768)
    assert read(path)["x"] == [10.5, None, 11.5]


def test_null_of_an_id_column(tmp_path):
    path = tmp_path / "t.fits"
    write(path, [fits.Column("id", "K", null=999999, array=np.array([(1 << 60) + 1, 999999]))])
    assert read(path)["id"] == [(1 << 60) + 1, None]


def test_strings_are_trimmed(tmp_path):
    words = ["full4", " ab", "c  ", "", "de\0fg"]
    path = tmp_path / "t.fits"
    write(path, [fits.Column("s", "5A", array=np.array([word.encode() for word in words]))])
    assert read(path)["s"] == ["full4", "ab", "c", "", "de"]


def test_strings_that_fill_their_width(tmp_path):
    words = [f"{i:08d}" for i in range(20)]
    path = tmp_path / "t.fits"
    write(path, [fits.Column("s", "8A", array=words)])
    assert read(path)["s"] == words


def test_strings_that_are_not_ascii(tmp_path):
    path = tmp_path / "t.fits"
    write(path, [fits.Column("s", "4A", array=[b"abcd"])])
    path.write_bytes(path.read_bytes().replace(b"abcd", b"ab\xe9d"))
    with pytest.raises(InputError, match="not ASCII"):
        read(path)


def test_odd_columns_matter_only_when_asked_for(tmp_path):
    path = tmp_path / "t.fits"
    columns = [
        fits.Column("bits", "11X", array=np.ones((2, 11), bool)),
        fits.Column("vector", "3E", array=np.ones((2, 3))),
        fits.Column("complex", "C", array=np.ones(2, "c8")),
        fits.Column("var", "PE()", array=np.array([[1.0], [2.0, 3.0]], object)),
        fits.Column("x", "D", array=[1.5, 2.5]),
    ]
    write(path, columns)
    assert read(path) == {"x": [1.5, 2.5]}
    table = open_fits(path, None)
    assert [column.dtype for column in table.columns][:2] == ["TFORM X[11]", "float32[3]"]
    for name in ("bits", "vector", "complex", "var"):
        with pytest.raises(SchemaError, match="several values per row"):
            list(table.batches({name: pa.float32()}, 10))


def test_hdu_by_number_and_name(tmp_path):
    path = tmp_path / "t.fits"
    tables = [fits.BinTableHDU.from_columns([fits.Column("x", "J", array=[i])], name=f"T{i}") for i in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros(3)), *tables]).writeto(path)
    assert read(path)["x"] == [1]
    assert read(path, 3)["x"] == [2]
    assert read(path, "T2")["x"] == [2]


def test_rows_wider_than_the_buffer(tmp_path, monkeypatch):
    monkeypatch.setattr("stellarscale.surveys.fits_table._BUFFER_BYTES", 10)
    path = tmp_path / "t.fits"
    write(path, [fits.Column("x", "K", array=np.arange(9)), fits.Column("y", "D", array=np.arange(9) / 2)])
    assert read(path, batch_rows=4) == {"x": list(range(9)), "y": [i / 2 for i in range(9)]}


def test_a_zipped_table_is_refused(tmp_path):
    path = tmp_path / "t.fits"
    write(path, [fits.Column("x", "K", array=np.arange(9))], ZTABLE=True)
    with pytest.raises(InputError, match="compressed table"):
        open_fits(path, None)
