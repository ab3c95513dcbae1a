"""Damaged and wrong files are refused with an error that says what, where, seen and needed."""

from __future__ import annotations

import dataclasses
import gzip
import zlib

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table
from pyarrow import parquet

from stellarscale.errors import InputError, SchemaError
from stellarscale.schema import load_survey
from stellarscale.surveys import native as native_module
from stellarscale.surveys.read import inspect, open_source, read_batches

SCHEMA = load_survey("gaia_dr3")


def native(rows: int = 5000) -> Table:
    rng = np.random.default_rng(3)
    return Table({"source_id": np.arange(rows), "ra": rng.uniform(0, 360, rows), "dec": rng.uniform(-90, 90, rows)})


def drain(path) -> int:
    return sum(batch.rows_in for batch in read_batches(path, SCHEMA, ["source_id"]))


def test_truncated_fits_is_refused_before_any_row(tmp_path):
    path = tmp_path / "t.fits"
    native().write(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="truncated") as caught:
        next(read_batches(path, SCHEMA, ["source_id"]))
    assert caught.value.seen == f"{len(content) // 2} bytes"
    header_bytes = len(content) - -(-5000 * 24 // 2880) * 2880
    assert caught.value.needed == f"{header_bytes + 5000 * 24} bytes"


def test_fits_cut_inside_a_header(tmp_path):
    path = tmp_path / "t.fits"
    native().write(path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(InputError, match="inside a header"):
        open_source(path, SCHEMA)


@pytest.fixture(params=["as installed", "standard library"])
def unpacker(request, monkeypatch):
    """Both ways of reading gzip: the fast one is not there on every platform."""
    if request.param == "standard library":
        monkeypatch.setitem(native_module._OPENERS, "gzip", gzip.open)
        monkeypatch.setattr(native_module, "_deflate_error", zlib.error)


@pytest.mark.usefixtures("unpacker")
@pytest.mark.parametrize("kind", ["fits", "csv"])
@pytest.mark.parametrize("keep", [0.5, 0.9, 0.9999])
def test_truncated_gzip(tmp_path, kind, keep):
    plain = tmp_path / f"t.{kind}"
    native().write(plain)
    packed = gzip.compress(plain.read_bytes())
    path = tmp_path / f"t.{kind}.gz"
    path.write_bytes(packed[: int(len(packed) * keep)])
    with pytest.raises(InputError, match="truncated or damaged"):
        drain(path)


@pytest.mark.usefixtures("unpacker")
@pytest.mark.parametrize("kind", ["fits", "csv"])
@pytest.mark.parametrize("byte", [-8, 0.5], ids=["checksum", "data"])
def test_gzip_with_a_wrong_byte(tmp_path, kind, byte):
    plain = tmp_path / f"t.{kind}"
    native().write(plain)
    packed = bytearray(gzip.compress(plain.read_bytes()))
    place = byte if isinstance(byte, int) else int(byte * len(packed))
    packed[place : place + 4] = bytes(value ^ 255 for value in packed[place : place + 4])
    path = tmp_path / f"t.{kind}.gz"
    path.write_bytes(bytes(packed))
    with pytest.raises(InputError, match="truncated or damaged"):
        drain(path)


def test_truncated_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"source_id": [1], "ra": [1.0], "dec": [1.0]}), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="footer"):
        inspect(path, SCHEMA)


def test_truncated_votable(tmp_path):
    path = tmp_path / "t.vot"
    native(50).write(path, format="votable")
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError, match="VOTable"):
        inspect(path, SCHEMA)


def test_csv_cut_inside_a_row(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("source_id,ra,dec\n1,2,3\n4,5")
    with pytest.raises(InputError, match="columns of its header") as caught:
        drain(path)
    assert caught.value.needed == "3 fields"
    assert "2 fields" in caught.value.seen


@pytest.mark.parametrize("content", [b"", b"# only comments\n"])
def test_empty_file(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InputError):
        inspect(path, SCHEMA)


def test_no_file_and_a_directory(tmp_path):
    with pytest.raises(InputError, match="not a file"):
        inspect(tmp_path / "absent.csv", SCHEMA)
    with pytest.raises(InputError, match="not a file") as caught:
        inspect(tmp_path, SCHEMA)
    assert caught.value.seen == "a directory"


def test_binary_junk(tmp_path):
    path = tmp_path / "t.bin"
    path.write_bytes(bytes(range(128, 256)) * 30)
    with pytest.raises(InputError, match="neither UTF-8"):
        inspect(path, SCHEMA)


def test_fits_without_a_table_and_with_the_wrong_hdu(tmp_path):
    path = tmp_path / "t.fits"
    native(3).write(path)
    with pytest.raises(InputError, match="no such binary table") as caught:
        open_source(path, SCHEMA.model_copy(update={"hdu": "PHOT"}))
    assert "BINTABLE" in caught.value.seen
    with pytest.raises(InputError, match="plain binary table"):
        open_source(path, SCHEMA.model_copy(update={"hdu": 0}))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_value_that_does_not_parse_is_located_in_any_block(tmp_path, threads):
    path = tmp_path / "t.csv"
    lines = [f'{i},1.5,"{i % 90}"' for i in range(2000)]
    lines[1500] = "1500,1.5,south"
    path.write_text("source_id,ra,dec\n" + "\n".join(lines) + "\n")
    table = dataclasses.replace(open_source(path, SCHEMA), block_bytes=500)
    wanted = {"source_id": pa.int64(), "dec": pa.float64()}
    with pytest.raises(InputError, match=r"line 1502, column dec.*'south'"):
        list(table.batches(wanted, 300, threads=threads))


@pytest.mark.parametrize("row", [0, 1, 4321, 9999])
def test_a_value_that_does_not_parse_is_located(tmp_path, row):
    path = tmp_path / "t.csv"
    lines = [f"{i},{i % 360}.5,1.5" for i in range(10_000)]
    lines[row] = f"{row},12h30m,1.5"
    path.write_text("# comment\nsource_id,ra,dec\n" + "\n".join(lines) + "\n")
    with pytest.raises(InputError, match="not of its column's type") as caught:
        drain(path)
    assert caught.value.where == f"{path}, line {row + 3}, column ra"
    assert caught.value.seen == "'12h30m'"
    assert caught.value.needed == "double"


@pytest.mark.parametrize("text", ["9223372036854775808", "1.0", "1e3", "12a"])
def test_a_text_id_that_is_no_int64_is_an_error(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(f"source_id,ra,dec\n{text},2,3\n")
    with pytest.raises(InputError, match="line 2, column source_id"):
        drain(path)


def test_headerless_line_with_the_wrong_number_of_fields(tmp_path):
    path = tmp_path / "psc"
    path.write_text("1.0|2.0|3\n")
    with pytest.raises(SchemaError, match="headerless") as caught:
        inspect(path, load_survey("twomass_psc"))
    assert caught.value.needed == "60 fields"


def test_an_ecsv_header_that_is_not_yaml(tmp_path):
    path = tmp_path / "t.ecsv"
    path.write_text("# %ECSV 1.0\n# ---\n# datatype: {{\nsource_id\n1\n")
    with pytest.raises(InputError, match="ECSV header"):
        inspect(path, SCHEMA)
