"""Inputs of the other methods: absolute magnitudes, colours, principal components."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.errors import ConfigError, InputError
from stellarscale.models.image_features import input_columns, principal_components

MAGNITUDES = {"g": np.array([12.0, 13.0, 14.0]), "r": np.array([11.5, 12.4, np.nan])}
PARALLAX, ERROR = np.array([10.0, 1.0, -0.5]), np.array([0.1, 0.2, 0.3])


def test_magnitudes_are_absolute_with_a_parallax_and_apparent_without():
    without = input_columns("magnitudes", MAGNITUDES, ())
    assert list(without) == ["g_0", "r_0"]
    np.testing.assert_array_equal(without["g_0"], MAGNITUDES["g"])
    with_ = input_columns("magnitudes", MAGNITUDES, (), parallax_mas=PARALLAX, error_mas=ERROR)
    assert list(with_) == ["m_g_0", "m_r_0", "parallax", "parallax_error"]
    # Eq. 17: 10 mas is 100 pc, a distance modulus of 5.
    np.testing.assert_allclose(with_["m_g_0"], [7.0, 3.0, np.nan])
    np.testing.assert_array_equal(with_["parallax"], PARALLAX)


def test_colours_do_not_depend_on_the_parallax():
    without = input_columns("colours", MAGNITUDES, ("g-r",))
    with_ = input_columns("colours", MAGNITUDES, ("g-r",), parallax_mas=PARALLAX, error_mas=ERROR)
    assert list(without) == ["g_r_0"]
    np.testing.assert_allclose(without["g_r_0"], [0.5, 0.6, np.nan])
    np.testing.assert_array_equal(with_["g_r_0"], without["g_r_0"])
    assert list(input_columns("both", MAGNITUDES, ("g-r",))) == ["g_0", "r_0", "g_r_0"]


def test_a_colour_of_an_unknown_band_is_refused():
    with pytest.raises(ConfigError, match="g-z"):
        input_columns("colours", MAGNITUDES, ("g-z",))


def test_components_are_those_of_the_covariance():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(200, 6)) * np.array([9, 5, 3, 1, 0.5, 0.1]) + 4
    found = principal_components(features, 3)
    values = np.linalg.eigvalsh(np.cov(features.T))[::-1]
    np.testing.assert_allclose(found.share, values[:3] / values.sum(), rtol=1e-10)
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(3), atol=1e-12)
    projected = found.of(features)
    np.testing.assert_allclose(projected.var(axis=0, ddof=1), values[:3], rtol=1e-10)
    columns = input_columns("image", {}, (), components=projected, parallax_mas=PARALLAX, error_mas=ERROR)
    assert list(columns) == ["pc_1", "pc_2", "pc_3", "parallax", "parallax_error"]


def test_stars_without_features_take_no_part_and_stay_unknown():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(40, 5)).astype(np.float32)
    holed = np.vstack([features, np.full((1, 5), np.nan, np.float32)])
    found = principal_components(holed, 16)
    assert found.axes.shape == (5, 5), "no more components than features"
    np.testing.assert_array_equal(found.axes, principal_components(features, 16).axes)
    assert np.isnan(found.of(holed)[-1]).all()
    assert np.isfinite(found.of(holed)[:-1]).all()


def test_features_that_do_not_vary_have_no_share():
    assert principal_components(np.ones((10, 4)), 2).share.tolist() == [0.0, 0.0]


def test_too_few_stars_or_no_components_are_refused():
    with pytest.raises(InputError, match="too few"):
        principal_components(np.full((5, 3), np.nan), 2)
    with pytest.raises(ValueError, match="components"):
        input_columns("image", {}, ())
