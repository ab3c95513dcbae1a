"""Calibrated errors of networks on images: coverage of new stars, storage, and too few stars."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from stellarscale.config import Errors
from stellarscale.errors import ModelError
from stellarscale.models.calibrate import Told
from stellarscale.models.image_errors import calibrate_label, few_stars, read_errors, write_errors

SETTINGS = Errors(magnitude="g_mag", noise=("g_mag_err",), min_stars=100, magnitude_bins=5, label_bins=3)


def stars(n, seed):
    """Predictions whose errors grow with the magnitude, and a spread that is too small by half."""
    rng = np.random.default_rng(seed)
    magnitude = rng.uniform(12, 17, n)
    noise = 0.01 * 10 ** (0.2 * (magnitude - 12))
    sigma = np.hypot(60.0, 3000 * noise)
    spread = 0.5 * sigma * rng.uniform(0.8, 1.2, n)
    prediction = rng.uniform(4500, 7000, n)
    return Told(prediction, spread, prediction + sigma * rng.normal(size=n), magnitude, noise[:, None])


def test_new_stars_are_covered_also_by_magnitude():
    errors = calibrate_label("teff", stars(4000, 1), SETTINGS)
    new = stars(40_000, 2)
    err, err95 = errors.apply(new.prediction, new.spread, new.magnitude, new.noise)
    off = np.abs(new.label - new.prediction)
    for bright in (new.magnitude < 14.5, new.magnitude >= 14.5):
        assert (off < err)[bright].mean() == pytest.approx(0.6827, abs=0.03)
        assert (off < err95)[bright].mean() == pytest.approx(0.95, abs=0.02)
    assert (new.spread < err).mean() > 0.9, "the spread alone would claim too much"


def test_stars_that_lack_something_calibrate_nothing():
    told = stars(400, 1)
    holes = [each.copy() for each in (told.prediction, told.label, told.magnitude)]
    holes[0][::4], holes[1][1::4], holes[2][2::4] = np.nan, np.nan, np.nan
    given = Told(holes[0], told.spread, holes[1], holes[2], told.noise)
    kept = np.arange(400) % 4 == 3
    alone = Told(*(each[kept] for each in (told.prediction, told.spread, told.label, told.magnitude, told.noise)))
    one, other = (calibrate_label("teff", each, SETTINGS) for each in (given, alone))
    assert np.array_equal(one.model.factors, other.model.factors)


def test_too_few_stars_give_no_errors_and_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        assert calibrate_label("logg", stars(19, 1), SETTINGS) is None
    assert "logg: 19 of 19 stars" in caplog.text
    assert calibrate_label("logg", stars(20, 1), SETTINGS) is not None


def test_stars_that_fill_no_two_cells_are_told(caplog):
    with caplog.at_level(logging.WARNING):
        errors = calibrate_label("teff", stars(81, 1), SETTINGS)
    assert errors.model.factors.shape == (2, 1, 1)
    assert "teff: calibrated on 81 stars, fewer than two cells need (errors.min_stars 100)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert calibrate_label("teff", stars(200, 1), SETTINGS).model.factors[0].size > 1
    assert not caplog.records
    assert few_stars(199, SETTINGS)
    assert not few_stars(50, Errors(magnitude_bins=1, label_bins=1)), "the job asks for one cell"


def test_errors_are_stored_without_code_and_read_back(tmp_path):
    for settings in (SETTINGS, Errors()):
        told = stars(500, 1)
        magnitude = told.magnitude if settings.magnitude else None
        noise = told.noise if settings.noise else np.empty((500, 0))
        told = Told(told.prediction, told.spread, told.label, magnitude, noise)
        errors = calibrate_label("teff", told, settings)
        path = tmp_path / "errors_teff.npz"
        write_errors(path, "teff", errors)
        first = path.read_bytes()
        back = read_errors(path, "teff")
        assert (back.magnitude, back.noise) == (settings.magnitude, settings.noise)
        arguments = told.prediction, told.spread, told.magnitude, told.noise
        assert np.array_equal(errors.apply(*arguments), back.apply(*arguments))
        write_errors(path, "teff", back)
        assert path.read_bytes() == first
        with np.load(path, allow_pickle=False) as arrays:
            assert "factors" in arrays


def test_files_that_cannot_be_used_are_told(tmp_path):
    path = tmp_path / "errors_teff.npz"
    with pytest.raises(ModelError, match=r"cannot be read.*errors_teff\.npz"):
        read_errors(path, "teff")
    write_errors(path, "teff", calibrate_label("teff", stars(100, 1), SETTINGS))
    with pytest.raises(ModelError, match=r"another one.*label teff.*label logg"):
        read_errors(path, "logg")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be read"):
        read_errors(path, "teff")
    np.savez(path, about=np.frombuffer(b'{"version": 1, "label": "teff"}', dtype=np.uint8))
    with pytest.raises(ModelError, match="cannot be read"):
        read_errors(path, "teff")
