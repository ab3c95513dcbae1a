"""The schemas that ship: each reads a table in its survey's own columns, and all speak one language."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table
from astropy.units import Unit
from pyarrow import parquet

from stellarscale.flags import Flag
from stellarscale.schema import load_survey, survey_names
from stellarscale.surveys.read import canonical_schema, describe, inspect, read_batches

NAMES = survey_names()
EXPECTED = {
    "allwise": "allwise",
    "apogee_dr17": "apogee",
    "apokasc": "apokasc",
    "gaia_dr3": "gaia",
    "galex_guvcat": "galex",
    "galah_dr3": "galah",
    "lamost_lrs_stellar": "lamost",
    "pastel": "pastel",
    "rave_dr5": "rave",
    "sages_dr1": "sages",
    "twomass_psc": "twomass",
}


def rows(folder, survey: str, native: dict) -> list[dict]:
    path = folder / "t.fits"
    Table(native).write(path, overwrite=True)
    schema = load_survey(survey)
    return next(read_batches(path, schema, inspect(path, schema))).table.to_pylist()


def flags_of(row: dict) -> Flag:
    return Flag(row["quality_flags"])


def test_the_surveys_of_the_contract_are_there():
    wanted = {"lamost_lrs_mstellar", "lamost_pilot", "lamost_pilot_photometry", "segue_colours", "user_table"}
    assert wanted | set(EXPECTED) <= set(NAMES)
    assert {name: load_survey(name).alias for name in EXPECTED} == EXPECTED
    aliases = [load_survey(name).alias for name in NAMES]
    assert len(set(aliases)) == len(aliases)


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_whole(name):
    schema = load_survey(name)
    assert schema.name == name
    names = list(schema.columns)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", column) for column in names)
    for column_name, column in schema.columns.items():
        assert column.description, column_name
        assert len(set(column.native)) == len(column.native), column_name
        if column.unit:
            Unit(column.unit)
        if column_name.endswith(("_mag", "_mag_err")):
            assert column.unit == "mag"
    if not schema.position.placeholder:
        assert schema.columns["ra"].dtype == schema.columns["dec"].dtype == "float64"
        assert schema.columns["ra"].required
    fields = canonical_schema(schema, [n for n, column in schema.columns.items() if column.keep])
    assert fields.names[-1] == "quality_flags"


@pytest.mark.parametrize("name", NAMES)
def test_units_of_a_name_are_the_same_everywhere(name):
    units = {"teff": "K", "parallax": "mas", "pmra": "mas/yr", "rv": "km/s", "epoch_yr": "yr", "logg": ""}
    for column_name, column in load_survey(name).columns.items():
        assert column.unit == units.get(column_name, column.unit)


@pytest.mark.parametrize("name", NAMES)
def test_every_survey_reads_a_table_of_its_first_native_names(tmp_path, name):
    schema = load_survey(name)
    arrays = {}
    for column in schema.columns.values():
        if column.native:
            arrays[column.native[0]] = pa.array([1, 1]).cast(pa.type_for_alias(column.dtype))
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table(arrays), path)
    assert describe(path, schema)["problem"] is None
    columns = inspect(path, schema)
    assert {n for n, column in schema.columns.items() if column.keep} <= set(columns)
    batch = next(read_batches(path, schema, columns))
    assert batch.table.num_rows == 2


SAGES = {
    "SAGE_ID": ["a", "b", "c"],
    "RA": [1.0, 2.0, 3.0],
    "DEC": [1.0, 2.0, 3.0],
    "MAG_U": np.float32([15, -999, 16]),
    "MAG_V": np.float32([14, 14, 14]),
    "ERR_U": np.float32([0.1, -999, 0.1]),
    "ERR_V": np.float32([0.1, 0.1, 0.1]),
    "OBS_TIME_U": [57388.0, 57388.0, -999.0],
    "OBS_TIME_V": [57390.0, -999.0, -999.0],
    "FLAG_U": np.int32([0, 0, 3]),
    "FLAG_V": np.int32([0, 0, 0]),
}


def test_sages(tmp_path):
    first, second, third = rows(tmp_path, "sages_dr1", SAGES)
    assert (first["u_mag"], flags_of(first)) == (15.0, Flag(0))
    assert first["epoch_yr"] == pytest.approx(2000 + (57389 - 51544.5) / 365.25)
    assert second["epoch_yr"] == pytest.approx(2000 + (57388 - 51544.5) / 365.25)
    assert (second["u_mag"], second["u_mag_err"], second["v_mag"]) == (None, None, 14.0)
    assert flags_of(second) == Flag.SENTINEL_NULL
    assert (third["u_mag"], third["u_mag_err"], third["v_mag"], third["epoch_yr"]) == (None, None, 14.0, None)
    assert Flag.SURVEY_FLAG in flags_of(third)


def test_two_mass_upper_limits_and_blends(tmp_path):
    native = {
        "designation": ["a", "b", "c"],
        "ra": [1.0, 2.0, 3.0],
        "decl": [1.0, 2.0, 3.0],
        **{f"{b}_m": [15.0] * 3 for b in "jhk"},
        **{f"{b}_msigcom": [0.1] * 3 for b in "jhk"},
        "ph_qual": ["AAA", "AAU", "XAA"],
        "cc_flg": ["000", "00c", "000"],
        "bl_flg": ["111", "111", "121"],
    }
    first, second, third = rows(tmp_path, "twomass_psc", native)
    assert flags_of(first) == Flag(0)
    assert (second["k_mag"], second["k_mag_err"]) == (15.0, None)
    assert second["j_mag_err"] == pytest.approx(0.1)
    assert flags_of(second) == Flag.UPPER_LIMIT | Flag.BLEND
    assert flags_of(third) == Flag.SURVEY_FLAG | Flag.BLEND


def test_allwise_never_reads_apparent_motions(tmp_path):
    native = {
        "designation": ["a", "b"],
        "ra": [1.0, 2.0],
        "dec": [1.0, 2.0],
        "w1mpro": [9.0, 9.0],
        "w2mpro": [9.0, np.nan],
        "w1sigmpro": [0.1, np.nan],
        "w2sigmpro": [0.1, np.nan],
        "pmra": [100, 100],
        "pmdec": [100, 100],
        "cc_flags": ["0000", "h000"],
        "ext_flg": [0, 5],
    }
    first, second = rows(tmp_path, "allwise", native)
    assert not {"pmra", "pmdec"} & set(first)
    assert flags_of(first) == Flag(0)
    assert flags_of(second) == Flag.UPPER_LIMIT | Flag.BLEND | Flag.SURVEY_FLAG


def test_galex_sentinels_of_every_kind(tmp_path):
    native = {
        "objid": [6371091720297250819] * 5,
        "RA": [1.0] * 5,
        "DEC": [1.0] * 5,
        "NUV_MAG": [18.0, -999.0, -9999.0, -99.0, 99.0],
        "NUV_MAGERR": [0.1] * 5,
        "NUV_ARTIFACT": [4, 1, 0, 0, 0],
    }
    found = rows(tmp_path, "galex_guvcat", native)
    assert [row["nuv_mag"] for row in found] == [18.0, None, None, None, None]
    assert {row["objid"] for row in found} == {6371091720297250819}
    assert [flags_of(row) for row in found] == [Flag.SURVEY_FLAG] + [Flag.SENTINEL_NULL] * 4


def test_lamost_string_ids_and_older_position_names(tmp_path):
    native = {
        "obsid": [1, 2, 3],
        "gaia_source_id": ["6000000000000000001", "", "-9999"],
        "objra": [1.0, 2.0, 3.0],
        "objdec": [1.0, 2.0, 3.0],
        "teff": [5000.0, -9999.0, 5000.0],
        "logg": [4.0] * 3,
        "feh": [-0.5] * 3,
        "z": [1e-4] * 3,
        "rv": [10.0, -9999.0, 10.0],
    }
    first, second, third = rows(tmp_path, "lamost_lrs_stellar", native)
    assert first["source_id"] == 6000000000000000001
    assert (second["source_id"], second["teff"], third["source_id"]) == (None, None, None)
    assert first["rv"] == 10.0
    assert second["rv"] == pytest.approx(29.9792458)


def test_lamost_m_stars_take_rv_from_the_redshift(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("obsid|ra|dec|teff|logg|m_h|z|tio5\n7|1|2|3500|4.8|-0.2|-0.0001|0.6\n8|1|2||||-9999|\n")
    schema = load_survey("lamost_lrs_mstellar")
    first, second = next(read_batches(path, schema, inspect(path, schema))).table.to_pylist()
    assert first["rv"] == pytest.approx(-29.9792458)
    assert (second["rv"], second["teff"], second["quality_flags"]) == (None, None, Flag.SENTINEL_NULL)


def test_apogee_bits(tmp_path):
    native = {
        "APOGEE_ID": list("abcde"),
        "RA": [1.0] * 5,
        "DEC": [1.0] * 5,
        "TEFF": [4500.0, np.nan, 4500.0, 4500.0, 4500.0],
        "LOGG": [2.0] * 5,
        "STARFLAG": [0, 0, 1 << 4, 1 << 5, 0],
        "ASPCAPFLAG": [0, 1 << 23, 0, 1 << 7, 0],
        "EXTRATARG": [0, 0, 0, 0, 16],
        "FPARAM": np.ones((5, 9)),
    }
    found = rows(tmp_path, "apogee_dr17", native)
    wanted = [Flag(0), Flag.SURVEY_FLAG, Flag.SURVEY_FLAG, Flag(0), Flag.DUPLICATE_ID]
    assert [flags_of(row) for row in found] == wanted
    assert found[1]["teff"] is None


def test_galah_and_rave_flags(tmp_path):
    galah = {
        "sobject_id": [1, 2],
        "ra": [1.0] * 2,
        "dec": [1.0] * 2,
        "flag_sp": [0, 4],
        "flag_repeat": [0, 1],
    }
    galah |= {"teff": [5000.0] * 2, "logg": [4.0] * 2, "fe_h": [0.0] * 2}
    assert [flags_of(row) for row in rows(tmp_path, "galah_dr3", galah)] == [
        Flag(0),
        Flag.SURVEY_FLAG | Flag.DUPLICATE_ID,
    ]
    rave = {"RAVE_OBS_ID": list("abcd"), "RAdeg": [1.0] * 4, "DEdeg": [1.0] * 4, "Algo_Conv_K": [0, 1, 2, 3]}
    rave |= {"Teff_N_K": [5000.0] * 4, "logg_N_K": [4.0] * 4, "Met_N_K": [0.0] * 4}
    bad = [flags_of(row) == Flag.SURVEY_FLAG for row in rows(tmp_path, "rave_dr5", rave)]
    assert bad == [False, True, False, True]


def test_pilot_photometry_of_another_magtype_is_not_misread(tmp_path):
    native = {"obsid": [1, 2], "ra": [1.0] * 2, "dec": [1.0] * 2, "magtype": ["ugrizjh", "ugrijhk"]}
    native |= {f"mag{i}": [20.0 - i] * 2 for i in range(1, 8)}
    first, second = rows(tmp_path, "lamost_pilot_photometry", native)
    assert (first["sdss_z_mag"], first["j_mag"], first["h_mag"]) == (15.0, 14.0, 13.0)
    assert (second["sdss_i_mag"], second["sdss_z_mag"], second["j_mag"], second["h_mag"]) == (
        16.0,
        None,
        None,
        None,
    )
