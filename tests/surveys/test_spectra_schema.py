"""The part of a schema that says how spectra are read, and the schemas that ship."""

from __future__ import annotations

import pytest

from stellarscale.errors import ConfigError
from stellarscale.schema import SurveySchema, load_survey, parse_yaml, survey_names
from stellarscale.schema_spectra import LAYOUTS
from stellarscale.surveys.spectra.files import READERS

TEXT = """
name: mine
alias: mine
title: Mine
id: id
spectrum: {}
columns:
  id: {native: [file_stem], dtype: string}
  ra: {native: [RA], dtype: float64}
  dec: {native: [DEC], dtype: float64}
  z: {native: [Z], dtype: float64}
"""


def parse(spectrum):
    return parse_yaml(SurveySchema, TEXT.replace("spectrum: {}", f"spectrum: {spectrum}"), where="x.yaml")


def test_every_layout_has_its_reader():
    assert set(READERS) == set(LAYOUTS)


def test_defaults_read_anything_in_vacuum_by_the_redshift():
    layout = parse("{}").spectrum
    assert layout.layouts == LAYOUTS
    assert (layout.air, layout.rest, layout.redshift) == (False, False, "z")
    assert layout.grid.wave_grid.n_pix == 1663
    assert load_survey("gaia_dr3").spectrum is None


@pytest.mark.parametrize(
    "spectrum, message",
    [
        ("{layouts: []}", "no layout"),
        ("{layouts: [lamost]}", "layouts"),
        ("{redshift: z_best}", "z_best"),
        ("{oversampling: 0.5}", "oversampling"),
        ("{grid: {wave_aa: [8800, 6000]}}", "no wavelength"),
        ("{layout: [table]}", "did you mean 'layouts'"),
    ],
)
def test_wrong_settings_are_refused(spectrum, message):
    with pytest.raises(ConfigError, match=message):
        parse(spectrum)


def test_at_rest_no_redshift_is_needed():
    assert parse("{rest: true, redshift: none}").spectrum.rest


def test_schemas_of_spectra_that_ship():
    shipped = {name: load_survey(name).spectrum for name in survey_names() if load_survey(name).spectrum}
    assert set(shipped) >= {"lamost_spectra", "sdss_spectra", "pyhammer_spectra", "miles_spectra", "spectrum_table"}
    assert {name for name, layout in shipped.items() if layout.air} == {"miles_spectra"}
    assert {name for name, layout in shipped.items() if layout.rest} == {"miles_spectra", "pyhammer_spectra"}
