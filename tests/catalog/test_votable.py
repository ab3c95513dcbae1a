"""VOParquet metadata: astropy reads units, UCDs and descriptions back; what is no VOUnit is left out and told."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io.votable import parse_single_table
from astropy.io.votable import validate as votable_validate
from astropy.table import Table
from astropy.units import Unit
from reference.mock_catalog import mock_table

from stellarscale.catalog import votable
from stellarscale.catalog.writer import write_table
from stellarscale.schema import arrow_field, load_product, load_survey, survey_names


def field(name="x", kind=None, unit="", ucd="", description=""):
    metadata = {b"unit": unit.encode(), b"ucd": ucd.encode(), b"description": description.encode()}
    return pa.field(name, kind or pa.float64(), metadata=metadata)


def parsed(*fields: pa.Field):
    return parse_single_table(io.BytesIO(votable.build_votable(pa.schema(fields))))


@pytest.mark.parametrize(
    ("unit", "written"),
    [("deg", "deg"), ("mas/yr", "mas.yr**-1"), ("km/s", "km.s**-1"), ("K", "K"), ("Angstrom", "Angstrom")],
)
def test_units_become_vounits(unit, written):
    assert votable.vo_unit(unit) == written


@pytest.mark.parametrize("unit", ["dex", "log(cm/s2)", "furlongs per fortnight", "%%"])
def test_what_is_no_vounit_goes_into_the_description(unit):
    assert votable.vo_unit(unit) is None
    written, _, description = votable.describe(field(unit=unit, description="something"))
    assert written is None
    assert description == f"something (unit: {unit})"


@pytest.mark.parametrize(
    ("ucd", "valid"),
    [
        ("phys.temperature.effective", True),
        ("stat.error;phot.mag", True),
        ("pos.healpix", True),
        ("pos.nonsense", False),
        ("phot.mag em", False),
    ],
)
def test_only_valid_ucds_are_written(ucd, valid):
    assert votable.describe(field(ucd=ucd))[1] == (ucd if valid else None)


def test_astropy_reads_the_fields_back():
    table = parsed(
        field("ra", unit="deg", ucd="pos.eq.ra;meta.main", description="right ascension, <ICRS> & more"),
        field("spectrum", pa.list_(pa.float32(), 7)),
        field("name", pa.string()),
    )
    ra, spectrum, name = table.fields
    assert (ra.name, ra.ucd, str(ra.unit)) == ("ra", "pos.eq.ra;meta.main", "deg")
    assert ra.description == "right ascension, <ICRS> & more"
    assert (spectrum.datatype, spectrum.arraysize) == ("float", "7")
    assert (name.datatype, name.arraysize) == ("char", "64*")
    assert len(table.array) == 0


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (pa.bool_(), ("boolean", None)),
        (pa.uint8(), ("unsignedByte", None)),
        (pa.int8(), ("short", None)),
        (pa.int16(), ("short", None)),
        (pa.int32(), ("int", None)),
        (pa.int64(), ("long", None)),
        (pa.float16(), ("float", None)),
        (pa.float32(), ("float", None)),
        (pa.float64(), ("double", None)),
        (pa.binary(16), ("unsignedByte", "16")),
        (pa.binary(), ("unsignedByte", "*")),
        (pa.large_string(), ("char", "64*")),
        (pa.dictionary(pa.int8(), pa.string()), ("char", "64*")),
        (pa.list_(pa.int32()), ("int", "*")),
        (pa.struct([("a", pa.int8())]), None),
        (pa.list_(pa.string()), None),
        (pa.timestamp("us"), None),
    ],
)
def test_datatypes(kind, shape):
    assert votable.datatype_of(kind) == shape


def test_a_document_is_built_once_per_schema(monkeypatch):
    calls = []
    build = votable.build_votable
    monkeypatch.setattr(votable, "build_votable", lambda schema: calls.append(1) or build(schema))
    schema = pa.schema([field("only_here", unit="mag")])
    first = votable.vo_metadata(schema)
    again = votable.vo_metadata(schema.with_metadata({b"other": b"thing"}))
    assert first == again
    assert len(calls) == 1
    assert votable.vo_metadata(pa.schema([field("only_here", unit="K")])) != first


def test_nothing_in_the_document_depends_on_the_day_or_the_library():
    document = votable.build_votable(pa.schema([field()]))
    assert b"astropy" not in document
    assert b"<!--" not in document
    assert b"<DATA" not in document


def test_a_written_file_reads_as_votable_parquet(tmp_path: Path):
    # astropy's reader stumbles over nulls, so only columns without any.
    table = mock_table(50).select(["_healpix_29", "source_id", "ra", "dec", "pmra", "feh"])
    path = tmp_path / "x.parquet"
    write_table(path, table)
    back = Table.read(path, format="parquet.votable")
    assert str(back["pmra"].unit) == "mas / yr"
    assert back["ra"].meta["ucd"] == "pos.eq.ra;meta.main"
    assert back["feh"].description == "iron abundance (unit: dex)"
    assert np.array_equal(back["source_id"], table.column("source_id").to_numpy())
    assert pq.read_schema(path).metadata[votable.VERSION_KEY] == b"1.0"


@pytest.mark.filterwarnings("ignore:No table..len")  # astropy's: the length of strings is not in its own metadata
@pytest.mark.filterwarnings("ignore:The unit 'Angstrom' has been deprecated")
@pytest.mark.parametrize("name", survey_names())
def test_every_survey_opens_in_astropy_as_votable_parquet(name, tmp_path: Path):
    columns = load_survey(name).columns
    assert_astropy_opens(tmp_path / "x.parquet", [arrow_field(each, column) for each, column in columns.items()])


@pytest.mark.filterwarnings("ignore:No table..len")
def test_the_product_opens_in_astropy_as_votable_parquet(tmp_path: Path):
    columns = load_product("sages").columns
    assert_astropy_opens(tmp_path / "x.parquet", [arrow_field(each, column) for each, column in columns.items()])


def assert_astropy_opens(path: Path, fields: list[pa.Field]) -> None:
    """Write three rows, strings short, empty and longer than the declared bound, and nulls among the floats."""
    numbers = pa.array([1, 2, None])
    strings = ["a", "", "long" * 40]
    columns = [
        pa.array(strings)
        if pa.types.is_string(field.type)
        else (numbers if pa.types.is_floating(field.type) else numbers.fill_null(0)).cast(field.type)
        for field in fields
    ]
    key = pa.field("_healpix_29", pa.int64())
    write_table(path, pa.table([pa.array([1, 2, 3]), *columns], schema=pa.schema([key, *fields])))
    back = Table.read(path, format="parquet.votable")
    for field in fields:
        unit, _, description = votable.describe(field)
        assert back[field.name].unit == (Unit(unit, format="vounit") if unit else None)
        read = back[field.name].description or ""
        assert read.split() == description.split()  # long ones are wrapped in the document
        if pa.types.is_string(field.type):
            assert list(back[field.name]) == strings


def test_the_document_is_valid_xml_by_the_standard(tmp_path: Path):
    path = tmp_path / "x.xml"
    path.write_bytes(votable.build_votable(mock_table(1).schema))
    report = io.StringIO()
    assert votable_validate(path, output=report), report.getvalue()
    etree = pytest.importorskip("lxml.etree", reason="lxml validates against the standard's schema")
    import astropy.io.votable

    schema = Path(astropy.io.votable.__file__).parent / "data" / "VOTable.v1.4.xsd"
    etree.XMLSchema(etree.parse(schema)).assertValid(etree.parse(path))


def test_a_deprecated_unit_is_written_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        document = votable.build_votable(pa.schema([field(unit="Angstrom")]))
    assert b'unit="Angstrom"' in document
