"""A polynomial fit to labels, with memory that does not grow with the stars."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.models.scaling import Scaling, require_finite

_BLOCK_ELEMENTS = 4_000_000  # of the expanded inputs: 32 MB


class PolynomialRegressor:
    """Least squares of all terms up to a total degree in the standardised inputs, with a ridge.

    The normal equations are summed over blocks of stars: 816 terms (degree 3 in 15 inputs) of 579,185 stars would
    be 3.8 GB at once. In the manner of Huang et al. 2022, ApJ 925, 164, who fit one polynomial per relation.

    Parameters
    ----------
    degree : int
        Highest total power.
    ridge : float
        Penalty on the squared coefficients, per star; above zero, because colours are differences of magnitudes.
    """

    def __init__(self, *, degree: int, ridge: float) -> None:
        self.degree, self.ridge = degree, ridge
        self._inputs: Scaling
        self._label: Scaling
        self._terms: Any
        self._coefficients: NDArray[np.float64]

    def fit(self, x: NDArray, y: NDArray[np.float64]) -> PolynomialRegressor:
        """Fit to inputs (n, n_features) and labels (n,).

        Raises
        ------
        ModelError
            If an input is missing.
        """
        from sklearn.preprocessing import PolynomialFeatures

        require_finite(x, "polynomial")
        self._inputs, self._label = Scaling.of(x, clip=True), Scaling.of(y)
        self._terms = PolynomialFeatures(self.degree).fit(np.zeros((1, x.shape[1])))
        size = self._terms.n_output_features_
        gram, moment = np.zeros((size, size)), np.zeros(size)
        target = self._label.standardise(y)
        for rows in self._blocks(len(x)):
            terms = self._expand(x[rows])
            gram += terms.T @ terms
            moment += terms.T @ target[rows]
        gram[np.diag_indices(size)] += self.ridge * len(x)
        self._coefficients = np.linalg.solve(gram, moment)
        return self

    def predict(self, x: NDArray) -> NDArray[np.float64]:
        """Labels (n,) of inputs (n, n_features)."""
        result = np.empty(len(x))
        for rows in self._blocks(len(x)):
            result[rows] = self._label.restore(self._expand(x[rows]) @ self._coefficients)
        return result

    def _expand(self, x: NDArray) -> NDArray[np.float64]:
        return self._terms.transform(self._inputs.standardise(x))

    def _blocks(self, n: int) -> list[slice]:
        step = max(1, _BLOCK_ELEMENTS // self._terms.n_output_features_)
        return [slice(start, start + step) for start in range(0, n, step)]
