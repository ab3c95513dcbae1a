"""Native names, collisions, units, and what an error tells."""

from __future__ import annotations

import json
import logging

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Column, Table
from pyarrow import parquet

from stellarscale.errors import SchemaError
from stellarscale.schema import SurveySchema, load_survey
from stellarscale.surveys.read import canonical_schema, describe, inspect, read_batches
from stellarscale.surveys.units import conversion_factor

GAIA = load_survey("gaia_dr3")
S0 = 0.0027553202


def one_row(path, schema=GAIA) -> dict:
    return next(read_batches(path, schema, inspect(path, schema))).table.to_pylist()[0]


def csv_file(folder, header: str, line: str):
    path = folder / "t.csv"
    path.write_text(f"{header}\n{line}\n")
    return path


BULK = "source_id,ra,dec,parallax,pmra,pmra_error,pmdec,phot_g_mean_mag,"
BULK += "phot_g_mean_flux,phot_g_mean_flux_error,ruwe"
UPPER = BULK.upper()
VIZIER = "Source,RA_ICRS,DE_ICRS,Plx,pmRA,e_pmRA,pmDE,Gmag,FG,e_FG,RUWE"
LINE = "6000000000000000001,10.5,-20.5,1.25,3.5,0.5,-4.5,15.5,1000,2,1.01"


@pytest.mark.parametrize("header", [BULK, UPPER, VIZIER])
def test_three_sets_of_gaia_names(tmp_path, header):
    row = one_row(csv_file(tmp_path, header, LINE))
    assert row["source_id"] == 6000000000000000001
    assert (row["ra"], row["dec"], row["parallax"], row["pmra"], row["pmdec"]) == (
        10.5,
        -20.5,
        1.25,
        3.5,
        -4.5,
    )
    assert row["g_mag_err"] == pytest.approx(np.hypot(1.0857362 * 0.002, S0), rel=1e-6)
    assert row["ruwe"] == pytest.approx(1.01)


def test_vizier_magnitude_errors_come_first_and_fluxes_fill_the_gaps(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(VIZIER + ",e_Gmag\n" + LINE + ",0.25\n" + LINE + ",\n")
    schema = GAIA
    values = next(read_batches(path, schema, ["g_mag_err"])).table["g_mag_err"].to_pylist()
    assert values[0] == 0.25
    assert values[1] == pytest.approx(np.hypot(1.0857362 * 0.002, S0), rel=1e-6)


def test_vizier_positions_at_epoch_2000_are_not_taken_for_gaias(tmp_path):
    path = csv_file(tmp_path, "Source,RAJ2000,DEJ2000", "1,2,3")
    with pytest.raises(SchemaError) as caught:
        inspect(path, GAIA)
    assert "RAJ2000 (text)" in caught.value.seen


def test_two_sets_of_two_mass_names(tmp_path):
    schema = load_survey("twomass_psc")
    bulk = csv_file(tmp_path, "designation,ra,decl,j_m,j_msigcom,h_m,k_m,jdate", "a,1,2,10.5,0.02,10,9.5,2451545.0")
    first = one_row(bulk, schema)
    vizier = csv_file(tmp_path, "Date,RAJ2000,DEJ2000,_2MASS,Jmag,e_Jmag,Hmag,Kmag", "2000-01-01,1,2,a,10.5,.02,10,9.5")
    second = one_row(vizier, schema)
    assert first == second
    assert first["epoch_yr"] == 2000.0


def test_exact_name_wins_over_one_that_differs_in_case(tmp_path):
    path = csv_file(tmp_path, "source_id,RA,ra,dec", "1,7,8,9")
    assert one_row(path)["ra"] == 8.0


def test_bailer_jones_names_that_differ_in_case_only(tmp_path):
    path = csv_file(tmp_path, "Source,RA_ICRS,DE_ICRS,rgeo,b_rgeo,B_rgeo", "1,2,3,100,90,110")
    row = one_row(path, load_survey("bailer_jones_edr3"))
    assert (row["r_lo_geo"], row["r_med_geo"], row["r_hi_geo"]) == (90, 100, 110)
    assert (row["ra"], row["dec"]) == (2.0, 3.0)


@pytest.mark.parametrize("names", ["RA,Ra", "ra,ra"])
def test_collisions_are_refused(tmp_path, names):
    path = csv_file(tmp_path, f"source_id,{names},dec", "1,2,3,4")
    with pytest.raises(SchemaError, match="several columns") as caught:
        inspect(path, GAIA)
    assert all(repr(name) in caught.value.seen for name in names.split(","))


def test_missing_required_column_tells_everything(tmp_path):
    path = csv_file(tmp_path, "sourceid,ra,dec,colour", "1,2,3,4")
    with pytest.raises(SchemaError, match="requires") as caught:
        inspect(path, GAIA)
    error = caught.value
    assert error.where == path
    assert error.seen == "sourceid (text), ra (text), dec (text), colour (text)"
    assert "source_id, Source, gaia_source_id" in error.needed
    assert "'sourceid' is near 'source_id'" in error.cause


def test_missing_column_of_a_fits_file_tells_dtypes(tmp_path):
    path = tmp_path / "t.fits"
    Table({"source_id": [1], "ra": np.float32([1]), "name": ["abc"]}).write(path)
    with pytest.raises(SchemaError) as caught:
        inspect(path, GAIA)
    assert caught.value.seen == "source_id (int64), ra (float32), name (string[3])"


def test_units_are_converted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "t.fits"
    Table(
        [
            Column([1], name="source_id"),
            Column([np.pi], name="ra", unit="rad"),
            Column([3600.0], name="dec", unit="arcsec"),
            Column([0.002], name="pmra", unit="arcsec/yr"),
            Column([0.001], name="parallax", unit="arcsec"),
        ]
    ).write(path)
    row = one_row(path)
    assert (row["ra"], row["dec"]) == (pytest.approx(180.0), pytest.approx(1.0))
    assert (row["pmra"], row["parallax"]) == (pytest.approx(2.0), pytest.approx(1.0))
    assert "arcsec" in caplog.text


@pytest.mark.parametrize("kind", ["fits", "ecsv", "votable", "parquet"])
def test_a_unit_of_another_kind_is_refused(tmp_path, kind):
    path = tmp_path / f"t.{kind}"
    table = Table({"source_id": [1], "ra": [1.0], "dec": [1.0], "parallax": [1.0]})
    table["parallax"].unit = "km / s"
    if kind == "parquet":
        fields = [pa.field(n, pa.float64()) for n in ("source_id", "ra", "dec")]
        fields.append(pa.field("parallax", pa.float64(), metadata={b"unit": b"km/s"}))
        parquet.write_table(pa.table([pa.array([1.0])] * 4, schema=pa.schema(fields)), path)
    else:
        table.write(path, format={"ecsv": "ascii.ecsv"}.get(kind, kind))
    with pytest.raises(SchemaError, match="unit") as caught:
        list(read_batches(path, GAIA, ["parallax"]))
    assert "km" in caught.value.seen
    assert caught.value.needed.startswith("mas")
    assert "parallax" in str(caught.value.where)


@pytest.mark.parametrize(
    "native, wanted, factor",
    [
        ("mas.yr**-1", "mas/yr", 1.0),
        ("mas yr-1", "mas/yr", 1.0),
        ("[mag]", "mag", 1.0),
        ("degrees", "deg", 1.0),
        ("mag(AB)", "mag", 1.0),
        ("kpc", "pc", 1000.0),
        ("", "deg", 1.0),
        ("km/s", "", 1.0),
    ],
)
def test_conversion_factor(native, wanted, factor):
    assert conversion_factor(native, wanted, where="here") == pytest.approx(factor)


def test_a_unit_nobody_knows_is_logged(caplog):
    assert conversion_factor("furlongs-ish", "mas", where="here") == 1.0
    assert "furlongs-ish" in caplog.text


def test_sentinels_are_compared_before_units_are_converted(tmp_path):
    path = tmp_path / "t.fits"
    table = Table({"ra": [1.0, 2.0], "dec": [1.0, 2.0], "parallax": [-9999.0, 0.5]})
    table["parallax"].unit = "arcsec"
    table.write(path)
    values = next(read_batches(path, load_survey("user_table"), ["parallax"])).table["parallax"].to_pylist()
    assert values == [None, pytest.approx(500.0)]


def test_describe_is_json_and_raises_nothing_for_missing_columns(tmp_path):
    good = describe(csv_file(tmp_path, VIZIER, LINE), GAIA)
    assert json.loads(json.dumps(good)) == good
    assert good["format"] == "csv"
    assert good["mapping"]["g_mag"] == "Gmag"
    assert good["derived"] == {"g_mag_err": "flux_error_to_mag_error"}
    assert "rv" in good["missing_optional"]
    assert good["problem"] is None
    bad = describe(csv_file(tmp_path, "a,b", "1,2"), GAIA)
    assert [column["name"] for column in bad["found"]] == ["a", "b"]
    assert "source_id" in bad["problem"]


def test_canonical_schema_refuses_unknown_and_unkept_columns():
    for name in ("nonsense", "g_flux"):
        with pytest.raises(SchemaError, match="no such column") as caught:
            canonical_schema(GAIA, [name])
        assert caught.value.seen == name


def test_canonical_schema_order_is_the_schemas():
    names = canonical_schema(GAIA, ["g_mag", "parallax", "source_id"]).names
    assert names == ["source_id", "ra", "dec", "parallax", "g_mag", "quality_flags"]


def test_one_native_column_may_serve_two_canonical_ones(tmp_path):
    path = csv_file(tmp_path, "source_id,ra,dec", "9007199254740993,1,2")
    row = one_row(path, load_survey("user_table"))
    assert row["id"] == "9007199254740993"
    assert row["source_id"] == 9007199254740993


def test_a_survey_of_the_users_own(tmp_path):
    schema = SurveySchema.model_validate(
        {
            "name": "mine",
            "alias": "mine",
            "title": "Mine",
            "id": "n",
            "position": {"ra": "lon", "dec": "lat"},
            "columns": {
                "n": {"native": ["number"], "dtype": "int32", "required": True},
                "lon": {"native": ["x"], "dtype": "float64", "unit": "deg", "required": True},
                "lat": {"native": ["y"], "dtype": "float64", "unit": "deg", "required": True},
            },
        }
    )
    batch = next(read_batches(csv_file(tmp_path, "number,x,y", "7,1,95"), schema, []))
    assert batch.table.num_rows == 0
    assert batch.rejects.to_pylist()[0]["dec"] == 95.0
