"""Exports: other tools open the files unaided; integers are exact, missing values missing, units and UCDs there."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.table import Table
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog import export_rows, finish
from stellarscale.catalog.export import export
from stellarscale.catalog.subset import parse_subset
from stellarscale.errors import ConfigError, SchemaError

FORMATS = ["fits", "csv", "votable", "parquet"]
TABLE = mock_table(2500, seed=6)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return write_mock(tmp_path_factory.mktemp("export") / "cat", TABLE, max_rows=400)[0]


def as_list(column) -> list:
    """Values with None where they are missing, whatever the library calls that."""
    values = np.ma.asarray(column)
    missing = np.ma.getmaskarray(values)
    found = []
    for value, gone in zip(values.data.tolist(), missing.tolist(), strict=True):
        blank = value in ("", b"", None) or (isinstance(value, float) and np.isnan(value))
        text = value.decode() if isinstance(value, bytes) else value
        found.append(None if gone or blank else text)
    return found


def read(path, kind):
    """A file as a mapping of column to list, through the library that a user would take."""
    if kind == "csv":
        return pcsv.read_csv(path, convert_options=pcsv.ConvertOptions(strings_can_be_null=True)).to_pydict()
    if kind == "parquet":
        return pq.read_table(path, partitioning=None).to_pydict()
    with warnings.catch_warnings():
        # astropy says that it reads FITS' undefined logicals as False.
        warnings.filterwarnings("ignore", message=".*NULL \\(undefined\\) values")
        table = Table.read(path, format=kind)
    return {name: as_list(table[name]) for name in table.colnames}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_value_comes_back(stored, tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    assert export(stored, path, format=kind) == TABLE.num_rows
    found = read(path, kind)
    assert list(found) == TABLE.column_names
    for name in TABLE.column_names:
        expected = TABLE.column(name).to_pylist()
        if name in {"gmag", "feh"} and kind == "csv":
            assert pa.array(found[name], pa.float32()).to_pylist() == expected
        elif name == "variable" and kind == "fits":
            # FITS logicals have a third state, but astropy reads it as False.
            assert found[name] == [bool(value) for value in expected]
        else:
            assert found[name] == expected, name


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_catalogue_gives_the_same_bytes(stored, tmp_path, kind):
    for name in ("a", "b"):
        export(stored, tmp_path / name, format=kind)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("text", ["cone:40,10,30", "box:350,20,-30,40", "pixels:1/3,2/100", "sample:0.2"])
def test_subsets_and_columns(stored, tmp_path, kind, text):
    subset = parse_subset(text)
    path = tmp_path / "x"
    rows = export(stored, path, format=kind, columns=["feh", "source_id"], subset=subset)
    found = read(path, kind)
    assert list(found) == ["feh", "source_id"]
    expected = TABLE.filter(pa.array(subset.mask(TABLE, "ra", "dec"))).column("source_id").to_pylist()
    assert found["source_id"] == expected
    assert rows == len(expected) > 20


@pytest.mark.parametrize("kind", FORMATS)
def test_no_rows(stored, tmp_path, kind):
    path = tmp_path / "x"
    somewhere = parse_subset("cone:1.2345,0.5,0.0001")
    assert export(stored, path, format=kind, columns=["ra", "source_id", "name"], subset=somewhere) == 0
    if kind == "csv":
        assert path.read_text().strip().replace('"', "") == "ra,source_id,name"
    else:
        assert {name: len(values) for name, values in read(path, kind).items()} == dict.fromkeys(
            ["ra", "source_id", "name"], 0
        )


def test_fits_headers_tell_what_the_columns_are(stored, tmp_path):
    export(stored, tmp_path / "x.fits", format="fits")
    with fits.open(tmp_path / "x.fits") as file:
        file.verify("exception")
        header = file[1].header
        keys = {name: i + 1 for i, name in enumerate(file[1].columns.names)}
    assert header["EXTNAME"] == "mock"
    assert header["NAXIS2"] == TABLE.num_rows
    assert header[f"TFORM{keys['source_id']}"] == "1K"
    assert header[f"TUNIT{keys['pmra']}"] == "mas yr-1"
    assert header[f"TUCD{keys['ra']}"] == "pos.eq.ra;meta.main"
    assert header[f"TCOMM{keys['dec']}"] == "declination"
    # Only columns with missing values have a mark for them, so that readers make no mask for the others.
    assert header[f"TNULL{keys['quality_flags']}"] == -(2**31)
    assert f"TNULL{keys['source_id']}" not in header
    assert (tmp_path / "x.fits").stat().st_size % 2880 == 0


def test_a_unit_that_fits_does_not_know_is_told_in_the_comment(tmp_path):
    field = pa.field("logg", pa.float32(), metadata={b"unit": b"log(cm/s2)", b"description": b"gravity"})
    table = TABLE.append_column(field, pa.array(np.ones(len(TABLE), np.float32)))
    stored, _ = write_mock(tmp_path / "c", table)
    export(stored, tmp_path / "x.fits", format="fits", columns=["logg"])
    header = fits.getheader(tmp_path / "x.fits", 1)
    assert "TUNIT1" not in header
    assert header["TCOMM1"] == "gravity (unit: log(cm/s2))"


def test_votable_fields(stored, tmp_path):
    export(stored, tmp_path / "x.xml", format="votable", columns=["ra", "name", "pmra"])
    table = parse_single_table(tmp_path / "x.xml")
    ra, name, pmra = table.fields
    assert table.name == "mock"
    assert (str(ra.unit), ra.ucd, ra.description) == ("deg", "pos.eq.ra;meta.main", "right ascension")
    assert (name.datatype, name.arraysize) == ("char", "7")
    assert pmra.ucd == "pos.pm;pos.eq.ra"


def test_parquet_exports_are_voparquet_with_the_columns_as_asked_for(stored, tmp_path):
    export(stored, tmp_path / "x.parquet", format="parquet", columns=["feh", "_healpix_29"])
    schema = pq.read_schema(tmp_path / "x.parquet")
    assert schema.names == ["feh", "_healpix_29"]
    assert b"phys.abund.Fe" in schema.metadata[b"IVOA.VOTable-Parquet.content"]


def exotic(rows: int) -> pa.Table:
    rng = np.random.default_rng(1)
    flux = pa.array([None if i % 7 == 0 else [float(i), None, 2.5] for i in range(rows)], pa.list_(pa.float32(), 3))
    return (
        TABLE.slice(0, rows)
        .append_column("flux", flux)
        .append_column("stamp", pa.array([bytes([i % 251, 7]) for i in range(rows)], pa.binary(2)))
        .append_column("small", pa.array(rng.integers(0, 255, rows).astype(np.uint8)))
        .append_column("half", pa.array(rng.normal(size=rows).astype(np.float16)))
        .append_column("code", pa.array([f"c{i % 3}" for i in range(rows)]).dictionary_encode())
        .append_column("greek", pa.array(["α Cen" if i % 2 else "Sirius" for i in range(rows)]))
        .append_column("when", pa.array(np.arange(rows) * 1000, pa.timestamp("ms")))
        .append_column("counts", pa.array([[i, i + 1] for i in range(rows)], pa.list_(pa.int64(), 2)))
    )


@pytest.mark.parametrize("kind", ["fits", "votable"])
def test_types_that_have_no_exact_counterpart(tmp_path, kind):
    table = exotic(300)
    stored, _ = write_mock(tmp_path / "c", table, max_rows=100)
    path = tmp_path / "x"
    export(stored, path, format=kind, columns=table.column_names[10:])
    back = Table.read(path, format=kind)
    flux = np.ma.filled(np.ma.asarray(back["flux"]).astype(float), np.nan)
    assert np.isnan(flux[0]).all()
    assert np.array_equal(flux[8], [8.0, np.nan, 2.5], equal_nan=True)
    assert np.asarray(back["stamp"]).tolist() == [[i % 251, 7] for i in range(300)]
    assert back["small"].tolist() == table.column("small").to_pylist()
    assert np.array_equal(np.asarray(back["half"]), table.column("half").to_numpy())
    text = {name: [str(value) for value in back[name].astype(str)] for name in ("code", "greek", "when")}
    assert text["code"][:3] == ["c0", "c1", "c2"]
    assert text["greek"][:2] == ["Sirius", "? Cen"]
    assert text["when"][1].startswith("1970-01-01 00:00:01")
    assert np.asarray(back["counts"]).tolist() == [[i, i + 1] for i in range(300)]


@pytest.mark.parametrize("kind", ["fits", "votable"])
def test_what_a_format_cannot_hold_is_told(tmp_path, kind):
    table = TABLE.slice(0, 10).append_column("ragged", pa.array([[1.0] * (i % 3) for i in range(10)]))
    stored, _ = write_mock(tmp_path / "c", table)
    with pytest.raises(SchemaError, match="ragged"):
        export(stored, tmp_path / "x", format=kind)
    assert not (tmp_path / "x").exists()
    assert export(stored, tmp_path / "x", format=kind, columns=["ra", "dec"]) == 10


def test_vectors_do_not_go_into_csv(tmp_path):
    stored, _ = write_mock(tmp_path / "c", exotic(20))
    names = stored.schema.names
    with pytest.raises(SchemaError, match=r"flux.*stamp.*counts"):
        export(stored, tmp_path / "x.csv", format="csv", columns=names)
    assert not (tmp_path / "x.csv").exists()
    assert export(stored, tmp_path / "x.csv", format="csv") == 20
    header = (tmp_path / "x.csv").read_text().splitlines()[0].replace('"', "").split(",")
    assert header == [name for name in names if name not in {"flux", "stamp", "counts"}]


def test_an_integer_that_looks_like_a_missing_one_is_told(tmp_path):
    values = pa.array([-(2**31), None, *range(8)], pa.int32())
    table = TABLE.slice(0, 10).append_column("odd", values)
    stored, _ = write_mock(tmp_path / "c", table, max_rows=100_000)
    with pytest.raises(SchemaError, match=r"odd"):
        export(stored, tmp_path / "x.fits", format="fits", columns=["odd"])
    assert not (tmp_path / "x.fits").exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"format": "hdf5"}, ConfigError),
        ({"format": "fits", "columns": ["no_such"]}, SchemaError),
    ],
)
def test_mistakes_are_told_and_leave_nothing(stored, tmp_path, options, error):
    with pytest.raises(error, match=r"hdf5|no_such"):
        export(stored, tmp_path / "x", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_leaves_the_old_file(stored, tmp_path, monkeypatch):
    path = tmp_path / "x.fits"
    export(stored, path, format="fits")
    before = path.read_bytes()

    def broken(*args):
        raise RuntimeError("half way")

    monkeypatch.setattr(export_rows, "_values", broken)
    with pytest.raises(RuntimeError, match="half way"):
        export(stored, path, format="fits")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.fits"]


@pytest.mark.parametrize("kind", ["fits", "votable"])
def test_memory_does_not_grow_with_the_catalogue(tmp_path, kind):
    def peak(rows: int) -> int:
        table = mock_table(rows, seed=2).select(["_healpix_29", "source_id", "ra", "dec", "pmra"])
        stored, _ = write_mock(tmp_path / f"c{rows}", table, max_rows=4000, row_group_rows=4000)
        before = pa.total_allocated_bytes()
        export(stored, tmp_path / "x", format=kind)  # imports and caches are not counted
        tracemalloc.start()
        export(stored, tmp_path / "x", format=kind)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert pa.total_allocated_bytes() - before < 1_000_000
        return most

    assert peak(60_000) < 1.5 * peak(15_000)


def test_partitions_apart_from_the_subset_are_not_opened(stored, tmp_path, monkeypatch):
    opened = []
    original = finish.open_partition
    monkeypatch.setattr(finish, "open_partition", lambda path, pixel: opened.append(pixel) or original(path, pixel))
    pixel = stored.pixels[1]
    rows = export(stored, tmp_path / "x", format="parquet", subset=parse_subset(f"pixels:{pixel}"))
    assert rows == stored.rows_of(pixel)
    assert opened == [pixel]
