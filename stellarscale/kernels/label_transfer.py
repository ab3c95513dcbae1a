"""Labels of one catalogue on the scale of another: offsets, tolerances, and which catalogue serves a star."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.stats import GaussianFit, gaussian_fit

HISTOGRAM_SIGMAS = 5.0
MOST_BINS = 80


@dataclass(frozen=True, eq=False)
class LabelOffset:
    """How a label of a catalogue differs from the reference.

    Attributes
    ----------
    added : float
        What is added to the catalogue's values to bring them to the reference.
    fit : GaussianFit or None
        Of catalogue minus reference; None where no star has both. ``converged`` false: median and robust sigma.
    given : bool
        Whether ``added`` was given by the user; otherwise it is ``-fit.mean``.
    edges : ndarray, shape (m + 1,)
        Edges of the histogram of the differences; empty where there is none.
    counts : ndarray of int64, shape (m,)
        Stars in each bin.
    """

    added: float
    fit: GaussianFit | None
    given: bool
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]


def label_offset(values: NDArray, reference: NDArray, *, given: float | None = None) -> LabelOffset:
    """Offset of a label: mean of a Gaussian fitted to the differences (paper II, section 2.2, Figs 5 and 6).

    Parameters
    ----------
    values, reference : ndarray, shape (n,)
        The label in the catalogue and in the reference, NaN where unknown.
    given : float, optional
        What to add, when it is known; the fit is then for the record only.

    Returns
    -------
    LabelOffset
        Fewer than 20 differences, or differences of which half are equal, are not fitted: their median counts.

    Raises
    ------
    ValueError
        If no star has both values and no offset is given.
    """
    difference = np.asarray(values, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    difference = difference[np.isfinite(difference)]
    if len(difference) == 0:
        if given is None:
            raise ValueError("no star has a value in both catalogues")
        return LabelOffset(given, None, True, np.empty(0), np.empty(0, dtype=np.int64))
    fit = gaussian_fit(difference)
    counts, edges = _histogram(difference, fit)
    return LabelOffset(-fit.mean if given is None else given, fit, given is not None, edges, counts)


def within(values: NDArray, reference: NDArray, tolerance: NDArray) -> NDArray[np.bool_]:
    """Which stars have all labels, each nearer to the reference than its tolerance.

    Parameters
    ----------
    values, reference : ndarray, shape (n, n_labels)
        Labels with their offsets applied, and those of the reference; NaN is never within.
    tolerance : ndarray, shape (n_labels,)
        Positive limits; a difference equal to the limit is not within.
    """
    return np.all(np.abs(np.asarray(values) - reference) < tolerance, axis=1)


def first_of(candidates: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Row number of the first true value in each column, -1 where there is none.

    Parameters
    ----------
    candidates : ndarray of bool, shape (n_catalogs, n)
        Catalogues that may serve each star, the preferred one first.
    """
    return np.where(candidates.any(axis=0), candidates.argmax(axis=0), -1).astype(np.int64)


def _histogram(difference: NDArray[np.float64], fit: GaussianFit) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The differences around the mean for a plot; those far out are not drawn."""
    reach = HISTOGRAM_SIGMAS * fit.sigma if fit.sigma > 0 else max(float(np.ptp(difference)), 1e-3)
    bins = int(np.clip(2 * np.sqrt(len(difference)), 8, MOST_BINS))
    counts, edges = np.histogram(difference, bins=bins, range=(fit.mean - reach, fit.mean + reach))
    return counts.astype(np.int64), edges.astype(np.float64)
