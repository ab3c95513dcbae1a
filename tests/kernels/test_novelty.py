"""Novel stars against a plain loop, and on samples of known shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.conformal_loop import novel_loop

from stellarscale.kernels.novelty import fit_mixture, fit_novelty, is_novel, scores


def sequence(n: int, seed: int) -> np.ndarray:
    """A bent, narrow sequence in two colours with their sum, and an absolute magnitude along it."""
    rng = np.random.default_rng(seed)
    along = rng.beta(2, 2, n)
    first = along + 0.02 * rng.normal(size=n)
    second = 0.5 + (along - 0.5) ** 2 + 0.02 * rng.normal(size=n)
    return np.column_stack([first, second, first + second, 3 + 5 * along + 0.2 * rng.normal(size=n)])


def novel(model, x):
    return is_novel(model, np.ascontiguousarray(x, dtype=np.float32), np.arange(x.shape[1]))


@pytest.fixture(scope="module")
def model():
    return fit_novelty(sequence(4000, 1), quantile=0.999)


def test_stars_of_the_sample_are_seldom_novel(model):
    assert np.mean(novel(model, sequence(40_000, 2))) < 0.004


def test_values_beyond_the_ends_are_novel(model):
    x = sequence(500, 3)
    for shift in (np.array([2, 0, 2, 0]), np.array([0, -2, -2, 0]), np.array([0, 0, 0, 9])):
        assert novel(model, x + shift).all()


def test_a_combination_of_ordinary_values_is_novel(model):
    x = sequence(2000, 4)
    x[:, 3] = x[::-1, 3]  # another star's magnitude: each value occurs in the sample
    apart = np.abs(x[:, 3] - (3 + 5 * x[:, 0])) > 1.2
    assert apart.sum() > 200
    assert np.mean(novel(model, x[apart])) > 0.97


def test_a_sample_that_ends_abruptly_ends_there(model):
    x = sequence(9000, 5)
    cut = fit_novelty(x[x[:, 0] < 0.6], quantile=0.999)
    assert np.mean(novel(cut, x[x[:, 0] > 0.61])) > 0.99
    assert np.mean(novel(cut, sequence(9000, 10))) == pytest.approx(np.mean(x[:, 0] > 0.6), abs=0.02)


def test_a_star_with_a_missing_input_is_not_said_to_be_novel(model):
    x = sequence(4, 6) + 100
    x[0, 1] = np.nan
    assert novel(model, x).tolist() == [False, True, True, True]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(20, 400), d=st.integers(1, 4))
def test_novelty_equals_the_plain_loop(seed, n, d):
    rng = np.random.default_rng(seed)
    columns = rng.permutation(5)[:d]
    sample = sequence(n, seed)[:, :d].astype(np.float32)
    fitted = fit_novelty(sample, quantile=0.99)
    x = rng.normal(1, 2, (60, 5)).astype(np.float32)
    x[:30, columns] = sample[rng.integers(0, n, 30)] + rng.normal(0, 0.1, (30, d))
    x[rng.integers(0, 60, 4), rng.integers(0, 5, 4)] = np.nan
    np.testing.assert_array_equal(is_novel(fitted, x, columns), novel_loop(fitted, x, columns))


def test_the_same_stars_give_the_same_model(model):
    again = fit_novelty(sequence(4000, 1), quantile=0.999)
    for name in ("low", "high", "centre", "axes", "threshold"):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    for name in ("means", "roots", "heights"):
        np.testing.assert_array_equal(getattr(again.mixture, name), getattr(model.mixture, name))


def test_a_sum_of_inputs_adds_no_axis(model):
    assert model.axes.shape == (4, 3)
    assert model.mixture.means.shape == (16, 3)


@pytest.mark.parametrize("n", [2, 3, 20])
def test_a_sample_of_equal_stars_knows_only_them(n):
    fitted = fit_novelty(np.tile([1.0, 2.0], (n, 1)), quantile=0.999)
    assert novel(fitted, np.array([[1.0, 2.0], [1.0, 2.1], [np.nan, 2.0]])).tolist() == [False, True, False]


def test_the_mixture_finds_separate_groups():
    rng = np.random.default_rng(9)
    groups = np.array([[-6.0, 0.0], [6.0, 0.0], [0.0, 8.0]])
    rows = np.concatenate([centre + rng.normal(size=(700, 2)) for centre in groups])
    mixture = fit_mixture(rows)
    inside, best = scores(groups, mixture)
    between, _ = scores(np.array([[0.0, 0.0], [0.0, -8.0]]), mixture)
    assert inside.max() + 5 < between.min()
    assert len(set(best)) == 3
    weights = np.exp(-mixture.heights + np.log(np.abs(np.linalg.det(np.linalg.inv(mixture.roots)))))
    assert weights.sum() == pytest.approx(1.0)
