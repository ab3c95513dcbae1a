"""Clean spectra of a parameter bin: those that agree with one another, found by DBSCAN (paper II, section 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stellarscale.settings.cleaning import Clustering

OUTLIER = -1
_FAR = 1e30  # spectra that share too few pixels to be compared
_LEAST_SHARED = 0.5  # of the pixels


@dataclass(frozen=True, eq=False)
class BinClusters:
    """The clusters among the spectra of a bin.

    Attributes
    ----------
    cluster : ndarray of int64, shape (n,)
        Number of each spectrum's cluster, -1 for none.
    largest : ndarray of bool, shape (n,)
        Members of the largest cluster (of two equal ones, that of the higher mean S/N).
    chosen : ndarray of bool, shape (n,)
        The members of highest S/N, not more than the settings allow.
    nearest : ndarray, shape (n,)
        Distance to the nearest other spectrum, as it was clustered; infinite where there is none to compare with.
    noise : ndarray, shape (n,)
        Distance that noise alone puts between two copies of the spectrum: an ``eps`` below it cannot join them.
    """

    cluster: NDArray[np.int64]
    largest: NDArray[np.bool_]
    chosen: NDArray[np.bool_]
    nearest: NDArray[np.float64]
    noise: NDArray[np.float64]


def cluster_bin(flux: NDArray, ivar: NDArray, snr: NDArray, settings: Clustering) -> BinClusters:
    """Cluster the spectra of a bin and choose those to keep.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, n_pix)
        Spectra of unit median flux on one grid; ``ivar`` 0 where a pixel carries no information.
    snr : ndarray, shape (n,)
        Decides which members of the largest cluster are kept; ties by row.
    settings : Clustering
    """
    from sklearn.cluster import DBSCAN

    distance, noise = spectral_distances(flux, ivar), noise_distances(ivar)
    if settings.noise == "subtracted":
        distance = _beyond_noise(distance, noise)
    points = min_points(len(flux), settings)
    cluster = DBSCAN(eps=settings.eps, min_samples=points, metric="precomputed").fit(distance).labels_.astype(np.int64)
    largest = _largest(cluster, snr)
    members = np.flatnonzero(largest)
    best = members[np.argsort(-np.nan_to_num(snr[members], nan=-np.inf), kind="stable")[: settings.most]]
    chosen = np.zeros(len(flux), dtype=bool)
    chosen[best] = True
    np.fill_diagonal(distance, _FAR)
    nearest = distance.min(axis=1) if len(flux) > 1 else np.full(len(flux), _FAR)
    return BinClusters(cluster, largest, chosen, np.where(nearest < _FAR, nearest, np.inf), noise)


def min_points(population: int, settings: Clustering) -> int:
    """How many spectra make a cluster in a bin of this population, the spectrum itself included."""
    return [points for start, points in settings.min_points if population >= start][-1]


def spectral_distances(flux: NDArray, ivar: NDArray) -> NDArray[np.float64]:
    """Euclidean distances (n, n) between spectra, over the pixels that both have.

    Pixels that one of the two misses count as if the spectra differed there as they do elsewhere, so that distances
    stay comparable; two spectra that share less than half of the pixels are out of each other's reach (1e30).
    """
    has = (ivar > 0).astype(np.float64)
    values = np.where(ivar > 0, flux, 0.0).astype(np.float64)
    squares = (values**2) @ has.T
    difference = squares + squares.T - 2.0 * (values @ values.T)
    shared = has @ has.T
    enough = shared >= max(_LEAST_SHARED * flux.shape[1], 1.0)
    squared = np.maximum(difference, 0.0) * (flux.shape[1] / np.where(enough, shared, 1.0))
    result = np.where(enough, np.sqrt(squared), _FAR)
    np.fill_diagonal(result, 0.0)
    return result


def noise_distances(ivar: NDArray) -> NDArray[np.float64]:
    """Distance expected between two noisy copies of each spectrum, shape (n,): sqrt(2 n_pix) / (S/N) if uniform."""
    has = ivar > 0
    variance = np.divide(1.0, ivar, out=np.zeros(ivar.shape), where=has)
    share = np.maximum(np.count_nonzero(has, axis=1), 1) / ivar.shape[1]
    return np.sqrt(2.0 * variance.sum(axis=1) / share)


def _beyond_noise(distance: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances (n, n) that are left when the noise of both spectra is taken off in quadrature; zero for less."""
    explained = 0.5 * (noise[:, None] ** 2 + noise**2)
    return np.where(distance < _FAR, np.sqrt(np.maximum(distance**2 - explained, 0.0)), _FAR)


def _largest(cluster: NDArray[np.int64], snr: NDArray) -> NDArray[np.bool_]:
    """Members of the largest cluster; nobody where there is none."""
    numbers, sizes = np.unique(cluster[cluster != OUTLIER], return_counts=True)
    if len(numbers) == 0:
        return np.zeros(len(cluster), dtype=bool)
    quality = [np.nan_to_num(snr[cluster == number]).mean() for number in numbers]
    return cluster == numbers[np.lexsort((quality, sizes))[-1]]
