"""The products behind the first score of the matcher, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.kernels.template_rank import expand, project, square_errors


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("n_pix", [1, 7, 1657])
def test_projections_are_products(m, n_pix):
    rng = np.random.default_rng(m)
    rows, basis = rng.normal(size=(m, n_pix)).astype(np.float32), rng.normal(size=(24, n_pix)).astype(np.float32)
    out = np.full((m, 24), np.nan, dtype=np.float32)
    project(rows, basis, out)
    scale = np.abs(rows).astype(np.float64) @ np.abs(basis).T
    assert (np.abs(out - rows.astype(np.float64) @ basis.T) <= 1e-5 * scale).all()


@pytest.mark.parametrize("m", [1, 3, 5])
@pytest.mark.parametrize("n_ref", [1, 511, 1365])
def test_expansions_are_products(m, n_ref):
    rng = np.random.default_rng(m)
    rows, loadings = rng.normal(size=(m, 32)).astype(np.float32), rng.normal(size=(32, n_ref)).astype(np.float32)
    out = np.full((m, n_ref), np.nan, dtype=np.float32)
    expand(rows, loadings, out)
    assert out == pytest.approx(rows.astype(np.float64) @ loadings, abs=1e-4)


def test_the_error_of_the_squares_holds_for_every_quadratic():
    rng = np.random.default_rng(3)
    x, weight = np.linspace(-1.7, 1.7, 400), rng.uniform(0.5, 2, 400)
    near = 1 + 0.3 * np.sin(4 * x)
    left = rng.normal(0, 0.05, 400) * near * (x > 1.2)  # what the basis leaves out, at one end only
    left_out, total = np.sum(weight * left**2), np.sum(weight * near**2)
    error = np.empty(1, dtype=np.float32)
    one = np.array([left_out], dtype=np.float32), np.zeros(1, dtype=np.float32)
    square_errors(*one, np.float32(total), error)
    for _ in range(200):
        quadratic = np.polynomial.polynomial.polyval(x, rng.normal(size=3))
        true, approximate = (np.sum(weight * quadratic**2 * model**2) for model in (near + left, near))
        assert abs(true / approximate - 1) <= error[0]
    assert error[0] < 0.5
