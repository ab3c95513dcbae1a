"""``hats.properties``: what goes in comes out, old names and the Java syntax are understood."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.catalog.properties import CatalogProperties, parse_lines, to_lines
from stellarscale.errors import CatalogError

_printable = st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cc", "Cs", "Zl", "Zp"])
VALUES = st.text(_printable, max_size=40).map(str.strip)
KEYS = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz_0123456789=: \\"), min_size=1, max_size=20).map(
    lambda text: "x" + text.strip()
)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_lines_round_trip(entries):
    assert parse_lines(to_lines(entries, header="test")) == entries


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_java_properties_readers_agree(entries):
    jproperties = pytest.importorskip("jproperties")
    reader = jproperties.Properties()
    reader.load(io.BytesIO(to_lines(entries, header="test").encode()), "utf-8")
    assert reader.properties == entries


@given(
    VALUES.filter(bool),
    st.integers(0, 2**60),
    st.dictionaries(KEYS.map(lambda k: f"s_{k}"), VALUES, max_size=4),
)
def test_properties_round_trip(name, rows, extra):
    properties = CatalogProperties(name, ra="ra_icrs", dec="de_icrs", rows=rows, extra=extra)
    assert CatalogProperties.from_text(properties.to_text()) == properties


def test_an_index_has_no_position():
    text = CatalogProperties("i", kind="index", ra="", dec="").to_text()
    assert "hats_col_ra" not in text
    assert CatalogProperties.from_text(text).ra == ""


def test_old_names_are_understood():
    text = "catalog_name=gaia\ncatalog_type=object\ntotal_rows=7\nra_column=ra\ndec_column=dec\nnpix_suffix=/\n"
    properties = CatalogProperties.from_text(text)
    assert (properties.name, properties.kind, properties.rows) == ("gaia", "object", 7)
    assert (properties.ra, properties.dec, properties.suffix) == ("ra", "dec", "/")


def test_defaults_of_what_is_absent():
    properties = CatalogProperties.from_text("obs_collection=a\ndataproduct_type=object\n")
    assert (properties.suffix, properties.sky_column, properties.rows) == (".parquet", "_healpix_29", 0)


def test_comments_continuations_and_separators():
    text = "#c\n! c\n  obs_collection : two\\\n   words\ndataproduct_type object\nempty\nu=\\u00e9\\t.\n"
    assert parse_lines(text) == {
        "obs_collection": "twowords",
        "dataproduct_type": "object",
        "empty": "",
        "u": "é\t.",
    }


def test_newlines_do_not_break_the_file():
    entries = {"obs_description": "first\nsecond=not a key"}
    assert parse_lines(to_lines(entries, header="h")) == entries


@pytest.mark.parametrize("text", ["", "obs_collection=a\n", "dataproduct_type=object\n", "obs_collection=\n"])
def test_what_is_missing_is_told(text):
    with pytest.raises(CatalogError, match=r"obs_collection|dataproduct_type"):
        CatalogProperties.from_text(text, where="here")


def test_a_row_count_that_is_none_is_told():
    with pytest.raises(CatalogError, match="many"):
        CatalogProperties.from_text("obs_collection=a\ndataproduct_type=object\nhats_nrows=many\n")


def test_properties_can_be_keys():
    one, other = CatalogProperties("a", extra={"x": "1"}), CatalogProperties("a", extra={"x": "1"})
    assert len({one, other}) == 1
