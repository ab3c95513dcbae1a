"""Labelled spectra cleaned bin by bin: recalibrated, scaled, clustered (paper II, sections 2.3 and 2.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import ConfigError, InputError
from stellarscale.kernels.fluxes import medians, scaled, weighted
from stellarscale.kernels.parameter_bins import ParameterBins, parameter_bins, rank_in_bin
from stellarscale.kernels.recalibrate import ModelGrid, recalibrate
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.models.cleaning import OUTLIER, BinClusters, cluster_bin
from stellarscale.report.plots_cleaning import ClusterExample
from stellarscale.settings.cleaning import SampleCleaning

Load = Callable[[NDArray[np.int64]], tuple[NDArray, NDArray]]
"""Gives flux and ivar, each (k, n_pix), of rows of the sample, in their order."""

_LEAST_PIXELS = 0.5  # of the clustered wavelengths: what flags.MASKED_PIXELS calls too few


class Fate(StrEnum):
    """What became of a spectrum; every spectrum of the sample gets one."""

    KEPT = "kept"
    NO_LABELS = "a label is missing"
    BEYOND_BEST = "its bin has enough spectra of higher S/N"
    UNUSABLE = "fewer than half of the pixels carry information, or the median flux is not positive"
    NOT_RECALIBRATED = "no positive polynomial brings it to the model's shape"
    OUTLIER = "differs from the spectra of its bin"
    OTHER_CLUSTER = "in a smaller cluster of its bin"
    ENOUGH = "the cluster has enough spectra of higher S/N"
    NOT_REVIEWED = "its bin has no cluster, and enough spectra of higher S/N are under review"
    UNDECIDED = "dropped: under review without a decision"
    DROPPED = "dropped by the review table"
    CONTRADICTED = "the network contradicts its labels"


@dataclass(frozen=True, eq=False)
class Sample:
    """What is known of each labelled spectrum before it is read.

    Attributes
    ----------
    ids : ndarray of str, shape (n,)
        Unique.
    labels : ndarray, shape (n, 3)
        teff (K), logg, m_h (dex).
    snr : ndarray, shape (n,)
    stars : ndarray of int64, shape (n,)
        The star of each spectrum: other spectra of one star are no independent references for it.
    kinds : ndarray of str, shape (n,)
        Which model grid recalibrates it, for instance ``dwarf`` or ``giant``.

    Raises
    ------
    InputError
        If the arrays differ in length, or an id is there twice.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.float64]
    snr: NDArray[np.float64]
    stars: NDArray[np.int64]
    kinds: NDArray[np.str_]

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.labels), len(self.snr), len(self.stars), len(self.kinds)}
        if len(lengths) > 1:
            raise InputError("the columns of the sample differ in length", seen=sorted(lengths), needed="equal")
        names, counts = np.unique(self.ids, return_counts=True)
        if (counts > 1).any():
            raise InputError("a spectrum is in the sample twice", seen=names[counts > 1][0], needed="unique ids")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Spectra that clustering chose or left to review.

    Attributes
    ----------
    rows : ndarray of int64, shape (m,)
        Rows of the sample, rising.
    flux, ivar : ndarray of float32, shape (m, n_pix)
        Recalibrated, of unit median flux over the clustered wavelengths.
    reason : ndarray of str, shape (m,)
        Why the spectrum is under review; empty for those that are in.
    bins : ParameterBins
        Of all rows of the sample.
    fate : ndarray of Fate, shape (n,)
        Of all rows; ``KEPT`` for the chosen, ``UNDECIDED`` for those under review.
    examples : tuple of ClusterExample
        The fullest bin, clustered at the settings' ``eps`` and at twice that (Fig. 7).
    """

    rows: NDArray[np.int64]
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    reason: NDArray[np.object_]
    bins: ParameterBins
    fate: NDArray[np.object_]
    examples: tuple[ClusterExample, ...]


def clean_bins(
    sample: Sample,
    load: Load,
    *,
    grid: WaveGrid,
    settings: SampleCleaning,
    models: Mapping[str, ModelGrid] | None = None,
) -> Candidates:
    """Recalibrate and cluster the spectra of each parameter bin; spectra are loaded a bin at a time.

    Parameters
    ----------
    sample : Sample
    load : callable
        Reads the spectra of some rows.
    grid : WaveGrid
        Of the spectra; it must cover the clustered wavelengths.
    settings : SampleCleaning
    models : mapping of str to ModelGrid, optional
        For each kind of the sample; spectra are not recalibrated without.

    Raises
    ------
    ConfigError
        If the grid does not cover the wavelengths, or a kind has no models.
    InputError
        If models or spectra are on another grid.
    """
    _check_models(sample, grid, models)
    window = covered(grid, settings.clustering.wave_aa, "clustering")
    bins = parameter_bins(sample.labels, settings.bins.steps)
    best = rank_in_bin(bins.number, sample.snr) < settings.bins.best
    fate = np.where(bins.number >= 0, Fate.BEYOND_BEST, Fate.NO_LABELS).astype(object)
    fullest = int(bins.population.argmax()) if len(bins.lower) else -1
    examples: tuple[ClusterExample, ...] = ()
    parts: list[tuple[NDArray, ...]] = []
    for number in range(len(bins.lower)):
        rows = bins.rows(number)
        rows = rows[best[rows]]
        flux, ivar = _loaded(load, rows, grid)
        flux, ivar, fate[rows] = prepare(flux, ivar, sample.labels[rows], sample.kinds[rows], window, settings, models)
        usable = fate[rows] == Fate.KEPT
        rows, flux, ivar = rows[usable], flux[usable], ivar[usable]
        if len(rows) == 0:
            continue
        clusters = cluster_bin(flux[:, window], ivar[:, window], sample.snr[rows], settings.clustering)
        fate[rows] = _fates(clusters, sample.snr[rows], settings)
        if number == fullest:
            examples = _examples(flux[:, window], ivar[:, window], sample.snr[rows], bins.lower[number], settings)
        out = np.isin(fate[rows], (Fate.KEPT, Fate.UNDECIDED))
        parts.append((rows[out], flux[out], ivar[out], _reasons(clusters, settings)[out]))
    return _gathered(parts, grid, bins, fate, examples)


def prepare(
    flux: NDArray,
    ivar: NDArray,
    labels: NDArray,
    kinds: NDArray,
    window: slice,
    settings: SampleCleaning,
    models: Mapping[str, ModelGrid] | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.object_]]:
    """Recalibrated spectra of unit median flux in the window, and a fate each: ``KEPT`` if they can be clustered."""
    flux, ivar = weighted(flux, ivar)
    fate = np.full(len(flux), Fate.KEPT, dtype=object)
    enough = (ivar[:, window] > 0).mean(axis=1) >= _LEAST_PIXELS
    fate[~(enough & (medians(flux[:, window], ivar[:, window]) > 0))] = Fate.UNUSABLE
    chosen = settings.recalibration
    for kind, models_of_kind in (models or {}).items():
        rows = np.flatnonzero((kinds == kind) & (fate == Fate.KEPT))
        shapes, _ = models_of_kind.at(labels[rows])
        done = recalibrate(
            flux[rows],
            ivar[rows],
            shapes,
            degree=chosen.degree,
            clip_sigma=chosen.clip_sigma,
            iterations=chosen.iterations,
        )
        flux[rows], ivar[rows] = done.flux, done.ivar
        fate[rows[~done.fitted]] = Fate.NOT_RECALIBRATED
    unit = medians(flux[:, window], ivar[:, window])
    unit[fate != Fate.KEPT] = 1.0
    return *scaled(flux, ivar, unit), fate


def covered(grid: WaveGrid, wave_aa: tuple[float, float], step: str) -> slice:
    """Pixels of a range of wavelengths that the grid must cover to within one pixel.

    Raises
    ------
    ConfigError
        If it does not.
    """
    pixel = 10.0**grid.step_dex
    first, last = grid.wave_aa[[0, -1]]
    if first > wave_aa[0] * pixel or last < wave_aa[1] / pixel:
        raise ConfigError(
            f"the spectra do not cover the wavelengths of the {step}",
            seen=str(grid),
            needed=f"{wave_aa[0]:g}-{wave_aa[1]:g} Angstrom",
            cause="spectra imported on a narrower grid",
        )
    return grid.window(*wave_aa)


def _check_models(sample: Sample, grid: WaveGrid, models: Mapping[str, ModelGrid] | None) -> None:
    if models is None:
        return
    missing = set(np.unique(sample.kinds).tolist()) - set(models)
    if missing:
        raise ConfigError("no model grid for a kind of star", seen=sorted(missing), needed="models for every kind")
    for kind, each in models.items():
        if each.flux.shape[1] != grid.n_pix:
            raise InputError(
                "models and spectra are on different grids",
                where=f"models of kind {kind}",
                seen=f"{each.flux.shape[1]} pixels",
                needed=f"{grid.n_pix} pixels",
            )


def _loaded(load: Load, rows: NDArray[np.int64], grid: WaveGrid) -> tuple[NDArray, NDArray]:
    flux, ivar = load(rows)
    if flux.shape != (len(rows), grid.n_pix) or ivar.shape != flux.shape:
        raise InputError("the spectra are not on the grid", seen=flux.shape, needed=(len(rows), grid.n_pix))
    return flux, ivar


def _fates(clusters: BinClusters, snr: NDArray, settings: SampleCleaning) -> NDArray[np.object_]:
    """Fates of the spectra of a bin; where there is no cluster, those of highest S/N are left to review."""
    if not clusters.largest.any():
        rank = rank_in_bin(np.zeros(len(snr), dtype=np.int64), snr)
        return np.where(rank < settings.clustering.reviewed, Fate.UNDECIDED, Fate.NOT_REVIEWED).astype(object)
    result = np.where(clusters.cluster == OUTLIER, Fate.OUTLIER, Fate.OTHER_CLUSTER).astype(object)
    result[clusters.largest] = Fate.ENOUGH
    result[clusters.chosen] = Fate.KEPT
    return result


def _reasons(clusters: BinClusters, settings: SampleCleaning) -> NDArray[np.object_]:
    n = len(clusters.cluster)
    if clusters.largest.any():
        return np.full(n, "", dtype=object)
    if n == 1:
        return np.array(["alone in its bin"], dtype=object)
    head = f"no cluster among {n} spectra at eps {settings.clustering.eps:g}"
    pairs = zip(clusters.nearest, clusters.noise, strict=True)
    return np.array([f"{head}: nearest at {near:.2f}, noise {noise:.2f}" for near, noise in pairs], dtype=object)


def bin_name(lower: NDArray, steps: tuple[float, ...]) -> str:
    """``3550-3600 K, logg 4.7-4.8, [M/H] -0.4 to -0.3``."""
    (teff, logg, m_h), (teff_top, logg_top, m_h_top) = lower, lower + np.asarray(steps)
    return f"{teff:g}-{teff_top:g} K, logg {logg:.4g}-{logg_top:.4g}, [M/H] {m_h:.3g} to {m_h_top:.3g}"


def _examples(
    flux: NDArray, ivar: NDArray, snr: NDArray, lower: NDArray, settings: SampleCleaning
) -> tuple[ClusterExample, ...]:
    shown = []
    for eps in (settings.clustering.eps, 2.0 * settings.clustering.eps):
        clusters = cluster_bin(flux, ivar, snr, settings.clustering.model_copy(update={"eps": eps}))
        title = bin_name(lower, settings.bins.steps)
        shown.append(ClusterExample(title, eps, np.where(ivar > 0, flux, np.nan), clusters.largest))
    return tuple(shown)


def _gathered(
    parts: list[tuple[NDArray, ...]],
    grid: WaveGrid,
    bins: ParameterBins,
    fate: NDArray[np.object_],
    examples: tuple[ClusterExample, ...],
) -> Candidates:
    """All bins together, in the order of the sample."""
    empty = np.empty((0, grid.n_pix), dtype=np.float32)
    rows = np.concatenate([np.empty(0, dtype=np.int64), *(part[0] for part in parts)])
    order = np.argsort(rows)
    flux, ivar = (np.concatenate([empty, *(part[place] for part in parts)])[order] for place in (1, 2))
    reason = np.concatenate([np.empty(0, dtype=object), *(part[3] for part in parts)])[order]
    return Candidates(rows[order], flux, ivar, reason, bins, fate, examples)
