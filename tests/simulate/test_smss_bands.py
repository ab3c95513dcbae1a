"""SkyMapper magnitudes of mock stars: colours tell what the network is to learn from them."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.settings.stamps import BANDS, EXTINCTION
from stellarscale.simulate import stars
from stellarscale.simulate.smss_bands import SCATTER_MAG, absolute_skymapper, apparent


def magnitudes(teff, logg, fe_h, seed=1):
    teff, logg, fe_h = (np.atleast_1d(v).astype(float) for v in np.broadcast_arrays(teff, logg, fe_h))
    kind = np.where(logg > 3.8, stars.DWARF, stars.GIANT)
    absolute = stars.absolute_magnitudes(teff, logg, fe_h, kind)
    sky = {"teff_k": teff, "logg": logg, "fe_h": fe_h} | {f"abs_{band}": absolute[band] for band in ("g", "u", "v")}
    return absolute_skymapper(sky, np.random.default_rng(seed))


@pytest.mark.parametrize(("blue", "red"), [("g", "r"), ("g", "i"), ("g", "z"), ("r", "i")])
def test_cooler_stars_are_redder(blue, red):
    at = magnitudes(np.linspace(4000, 8000, 30), 4.4, 0.0)
    assert np.all(np.diff(at[blue] - at[red]) < 5 * SCATTER_MAG)
    assert (at[blue] - at[red])[0] - (at[blue] - at[red])[-1] > 0.5


def test_u_and_v_tell_metallicity_and_gravity():
    rich, poor, giant = (magnitudes(5000.0, logg, fe_h) for logg, fe_h in ((4.5, 0.0), (4.5, -1.0), (2.5, 0.0)))
    assert (rich["v"] - rich["g"]) - (poor["v"] - poor["g"]) > 0.15
    assert (giant["u"] - giant["v"]) - (rich["u"] - rich["v"]) > 0.1
    assert abs((rich["g"] - rich["i"]) - (poor["g"] - poor["i"])) < 0.05
    assert rich["g"] - giant["g"] > 3.0


def test_every_band_and_the_order_of_the_survey():
    assert tuple(magnitudes([5000.0], [4.5], [0.0])) == BANDS


def test_apparent_magnitudes_are_reddened_by_the_surveys_coefficients():
    zero = np.zeros(1)
    for band, coefficient in EXTINCTION.items():
        assert apparent(zero, band, np.array([10.0]), np.array([1.0]))[0] == pytest.approx(coefficient)
    assert apparent(zero, "g", np.array([1000.0]), zero)[0] == pytest.approx(10.0)
