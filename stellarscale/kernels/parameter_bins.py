"""Bins in the stellar labels, and the ranking of the spectra inside each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ON_EDGE = 1e-5  # of a bin: labels stored as float32 and given to two decimals stand on edges


@dataclass(frozen=True, eq=False)
class ParameterBins:
    """Which bin each row lies in.

    Attributes
    ----------
    number : ndarray of int64, shape (n,)
        Row of ``lower``; -1 for a row that misses a label.
    lower : ndarray, shape (n_bins, n_labels)
        Lower edges of the bins that hold a row, in rising order of the labels; a bin holds its lower edges.
    steps : tuple of float
        Widths of the bins.
    """

    number: NDArray[np.int64]
    lower: NDArray[np.float64]
    steps: tuple[float, ...]

    def rows(self, bin_number: int) -> NDArray[np.int64]:
        """Rows of a bin, in their order."""
        return np.flatnonzero(self.number == bin_number)

    @property
    def population(self) -> NDArray[np.int64]:
        """Rows in each bin, shape (n_bins,)."""
        return np.bincount(self.number[self.number >= 0], minlength=len(self.lower)).astype(np.int64)


def parameter_bins(labels: NDArray, steps: ArrayLike) -> ParameterBins:
    """Sort rows into bins of the labels whose edges are multiples of the steps (paper II, section 2.4).

    Parameters
    ----------
    labels : ndarray, shape (n, n_labels)
        For instance teff (K), logg and [M/H] (dex); NaN where one is missing.
    steps : array_like, shape (n_labels,)
        Widths of the bins, positive.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a step is not positive.
    """
    widths = np.asarray(steps, dtype=np.float64)
    if labels.ndim != 2 or widths.shape != labels.shape[1:] or not (widths > 0).all():
        raise ValueError(f"labels of shape {labels.shape} need as many positive steps, not {widths}")
    known = np.isfinite(labels).all(axis=1)
    cell = np.floor(labels[known].astype(np.float64) / widths + _ON_EDGE).astype(np.int64)
    filled, inverse = np.unique(cell, axis=0, return_inverse=True)
    number = np.full(len(labels), -1, dtype=np.int64)
    number[known] = inverse.ravel()
    return ParameterBins(number, filled * widths, tuple(widths.tolist()))


def rank_in_bin(number: NDArray[np.int64], snr: NDArray) -> NDArray[np.int64]:
    """Rank of each row in its bin by falling S/N, from 0; ties by row, a missing S/N last.

    The n best of every bin are the rows of rank below n, the best one that of rank 0.

    Parameters
    ----------
    number : ndarray of int64, shape (n,)
        Bin of each row; rows with -1 belong to none and get -1.
    snr : ndarray, shape (n,)
    """
    quality = np.where(np.isnan(snr), -np.inf, snr)
    order = np.lexsort((-quality, number))
    ordered = number[order]
    first = np.searchsorted(ordered, ordered)  # of the row's bin
    rank = np.empty(len(number), dtype=np.int64)
    rank[order] = np.arange(len(number)) - first
    return np.where(number >= 0, rank, -1)
