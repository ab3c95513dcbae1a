"""Real LAMOST M stars against real templates, where the files are at hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from stellarscale.flags import Flag
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.partition.references import prepare_references
from stellarscale.partition.spectra_match import SpectraMatchConfig, match_partition
from stellarscale.schema import load_product, load_survey
from stellarscale.settings.spectra_matching import EdgeRule, SpectraMatching
from stellarscale.spectra_columns import FLUX, IVAR, spectra_of
from stellarscale.surveys.spectra.read import read_spectra

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "spectra"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared real data are not beside the repository")

GRID = WaveGrid.covering(6000, 8800)
SETTINGS = SpectraMatching(
    labels=("subtype", "fe_h"),
    columns={"spectrum_id": "spectrum_id", "subclass": "subclass", "snr_i": "snr_i"},
    order=0,  # bands a thousand Angstrom wide tell the subtypes apart; a quadratic takes up part of them
    masked_max=0.3,
    edge=EdgeRule(bins={"subtype": 0.5}, reach={"fe_h": 0.6}),
)


@pytest.fixture(scope="module")
def result():
    templates = read_spectra(sorted((DATA / "pyhammer_m").glob("*.fits")), load_survey("pyhammer_spectra"), GRID, [])
    names = templates.table["spectrum_id"].to_pylist()
    labels = [(float(name[1]), float((re.findall(r"_([+-]\d\.\d)", name) or ["0"])[0])) for name in names]
    flux, ivar = (spectra_of(templates.table, name) for name in (FLUX, IVAR))
    references = prepare_references(flux, ivar, np.array(labels), GRID, SETTINGS)
    columns = ["subclass", "snr_i", "rv"]
    stars = read_spectra(sorted((DATA / "lamost").glob("*.fits")), load_survey("lamost_spectra"), GRID, columns)
    return match_partition(stars.table, SpectraMatchConfig(SETTINGS, load_product("laspm")), references).to_pylist()


def test_m_stars_are_within_one_subtype_of_their_class(result):
    stars = [row for row in result if row["subclass"].startswith("M")]
    offsets = [row["subtype"] - float(row["subclass"][1]) for row in stars]
    assert len(offsets) == 9
    assert np.abs(offsets).max() <= 1.0


def test_hotter_stars_are_beyond_the_grid_and_fitted_badly(result):
    stars = [row for row in result if row["subclass"][0] in "AFG"]
    assert len(stars) == 12
    assert all(row["quality_flags"] & Flag.EDGE_OF_GRID for row in stars)
    assert all(row["quality_flags"] & Flag.BAD_FIT for row in stars)
