from __future__ import annotations

import pyarrow as pa
import pytest

from stellarscale.errors import ConfigError
from stellarscale.schema import SurveySchema, arrow_field, load_product, load_survey, parse_yaml, survey_names

MINIMAL = """
name: tiny
alias: tiny
title: Tiny
id: id
columns:
  id: {native: [ID], dtype: int64, required: true}
  ra: {native: [RA], dtype: float64, unit: deg, ucd: pos.eq.ra, required: true}
  dec: {native: [DEC], dtype: float64, unit: deg, required: true}
"""


def test_every_shipped_schema_is_valid():
    names = survey_names()
    assert {"gaia_dr3", "sages_dr1", "twomass_psc", "allwise", "galex_guvcat", "lamost_lrs_stellar"} <= set(names)
    assert {"lamost_lrs_mstellar", "lamost_pilot", "apogee_dr17", "apokasc", "rave_dr5", "pastel"} <= set(names)
    assert {"galah_dr3", "user_table"} <= set(names)
    for name in names:
        schema = load_survey(name)
        assert schema.name == name
        assert schema.columns[schema.id].dtype in {"int64", "string"}


def test_ids_of_gaia_are_integers_in_every_schema():
    for name in survey_names():
        for column, declared in load_survey(name).columns.items():
            if column in {"source_id", "gaia_source_id"}:
                assert declared.dtype in {"int64", "string"}, f"{name}.{column}"


def test_unknown_survey_suggests_the_nearest():
    with pytest.raises(ConfigError, match="gaia_dr3"):
        load_survey("gaia_dr33")


def test_a_path_is_a_schema_too(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL)
    assert load_survey(str(path)).alias == "tiny"
    with pytest.raises(ConfigError, match="does not exist"):
        load_survey(str(tmp_path / "other.yaml"))


def test_unknown_key_names_its_place_and_the_nearest_key():
    with pytest.raises(ConfigError, match=r"columns\.id\.requird.*did you mean 'required'"):
        parse_yaml(SurveySchema, MINIMAL.replace("required: true", "requird: true", 1), where="x.yaml")


@pytest.mark.parametrize(
    "text, message",
    [
        ("- 1", "a mapping"),
        ("a: [", "not valid YAML"),
        (MINIMAL + "epoch: {column: epoch_yr}", "epoch_yr"),
        (MINIMAL.replace("native: [RA], ", ""), "native"),
        (MINIMAL.replace("float64", "float65"), "dtype"),
    ],
)
def test_a_wrong_schema_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_yaml(SurveySchema, text, where="x.yaml")


def test_arrow_field_carries_unit_and_ucd():
    schema = parse_yaml(SurveySchema, MINIMAL, where="x")
    field = arrow_field("ra", schema.columns["ra"])
    assert field.type == pa.float64()
    assert field.metadata == {b"unit": b"deg", b"ucd": b"pos.eq.ra"}


def test_product_schema_describes_every_parameter_with_its_error():
    product = load_product("sages")
    for name in ("teff", "logg", "fe_h", "m_h"):
        assert product.columns[f"{name}_err"].ucd.startswith("stat.error;")
