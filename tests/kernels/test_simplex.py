from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.template_loop import simplex_loop
from scipy.optimize import minimize

from stellarscale.kernels.simplex import simplex_weights


def random_gram(rng, k, rank, common):
    """Products of k residuals in ``rank`` dimensions around a common one."""
    residuals = rng.normal(size=(k, rank)) * 10.0 ** rng.uniform(-1, 1, (k, 1)) + common * rng.normal(size=rank)
    return residuals @ residuals.T


def falls_nowhere(gram, weights, minimum):
    """The conditions of Karush, Kuhn and Tucker: moving towards any corner does not lower the form."""
    slopes = gram @ weights - minimum
    return slopes.min() >= -1e-9 * max(np.abs(gram).max(), 1e-300)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.sampled_from([0.0, 1.0, 100.0]), st.integers(0, 10**6))
def test_equals_the_best_of_all_supports(k, rank, common, seed):
    gram = random_gram(np.random.default_rng(seed), k, rank, common)
    weights, minimum = simplex_weights(gram[None])
    expected, least = simplex_loop(gram)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    assert minimum[0] == pytest.approx(least, rel=1e-9, abs=1e-12 * np.trace(gram))
    assert falls_nowhere(gram, weights[0], minimum[0])
    if rank >= k and common < 100:  # only then is the place of the minimum well determined
        assert weights[0] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(7, 40), st.integers(1, 60), st.integers(0, 10**6), st.booleans())
def test_many_corners_and_copies(k, rank, seed, copies):
    rng = np.random.default_rng(seed)
    gram = random_gram(rng, k, rank, 1.0)
    if copies:
        chosen = rng.integers(0, k, k)
        gram = gram[np.ix_(chosen, chosen)]
    weights, minimum = simplex_weights(gram[None])
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-13)
    assert minimum[0] == pytest.approx(weights[0] @ gram @ weights[0], rel=1e-12)
    assert falls_nowhere(gram, weights[0], minimum[0])


def test_equals_a_general_solver():
    rng = np.random.default_rng(4)
    for _ in range(10):
        gram = random_gram(rng, 5, 30, 0.5)
        weights, minimum = simplex_weights(gram[None])
        found = minimize(
            lambda w, g=gram: w @ g @ w,
            np.full(5, 0.2),
            jac=lambda w, g=gram: 2 * g @ w,
            method="SLSQP",
            bounds=[(0, None)] * 5,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-14},
        )
        assert minimum[0] == pytest.approx(found.fun, rel=1e-6)
        assert weights[0] == pytest.approx(found.x, abs=1e-3)


def test_known_answers():
    one = np.array([[4.0]])
    assert simplex_weights(one[None])[0].tolist() == [[1.0]]
    independent = np.diag([1.0, 1.0, 2.0])
    weights, minimum = simplex_weights(independent[None])
    assert weights[0] == pytest.approx([0.4, 0.4, 0.2])
    assert minimum[0] == pytest.approx(0.4)
    behind = np.array([[1.0, 2.0], [2.0, 5.0]])  # the second is the first and more: no use
    assert simplex_weights(behind[None])[0].tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_copies_of_one_model_share_what_the_model_gets(value):
    weights, minimum = simplex_weights(np.full((1, 5, 5), value))
    assert weights[0].sum() == pytest.approx(1)
    assert minimum[0] == value


def test_two_models_that_cancel():
    gram = np.array([[1.0, -1.0], [-1.0, 1.0]])
    weights, minimum = simplex_weights(gram[None])
    assert weights[0] == pytest.approx([0.5, 0.5])
    assert minimum[0] == pytest.approx(0, abs=1e-15)


def test_nothing_in_nothing_out():
    weights, minimum = simplex_weights(np.empty((0, 5, 5)))
    assert weights.shape == (0, 5)
    assert minimum.shape == (0,)


@pytest.mark.parametrize("gram", [np.ones((2, 3)), np.ones((1, 2, 3)), np.ones((1, 0, 0)), np.full((1, 2, 2), np.nan)])
def test_bad_matrices_are_refused(gram):
    with pytest.raises(ValueError, match="gram must"):
        simplex_weights(gram)
