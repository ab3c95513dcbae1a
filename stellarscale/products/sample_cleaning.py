"""The empirical sample and its reference grid, from labelled spectra (paper II, sections 2.3-2.6 and 4).

Recalibration and clustering bin by bin, review, network, leave-one-out by the matcher, best spectrum of each bin.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.kernels.fluxes import filled, medians, scaled
from stellarscale.kernels.parameter_bins import ParameterBins, rank_in_bin
from stellarscale.kernels.recalibrate import ModelGrid
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.models.label_network import Session, clean_by_network
from stellarscale.products.review_table import DROP, KEEP, ReviewRow, read_review, update_review
from stellarscale.products.sample_bins import Candidates, Fate, Load, Sample, bin_name, clean_bins, covered
from stellarscale.report.plots_cleaning import ClusterExample
from stellarscale.report.plots_review import plot_review
from stellarscale.report.plots_style import png
from stellarscale.settings.cleaning import SampleCleaning

log = logging.getLogger(__name__)
REVIEW_TABLE = "review.csv"
_COMPANIONS = 7

Match = Callable[[NDArray, NDArray, NDArray, NDArray], tuple[NDArray[np.integer], NDArray[np.floating]]]
"""Matches spectra against the others of the same set: flux, ivar and the references' flux, each (n, n_pix), and the
star of each (n,); returns references (n, k), -1 for none, and weights (n, k) that sum to one where there are any.
References of a spectrum's own star are not candidates."""


@dataclass(frozen=True, eq=False)
class CleanedSample:
    """The empirical sample.

    Attributes
    ----------
    rows : ndarray of int64, shape (m,)
        Rows of the sample that was given, rising.
    flux, ivar : ndarray of float32, shape (m, n_pix)
        Recalibrated spectra of unit median flux over the clustered wavelengths; zero where a pixel carries no
        information.
    derived : ndarray, shape (m, 3)
        Labels by the leave-one-out match; NaN where no other star could be matched.
    reference : ndarray of bool, shape (m,)
        The best spectrum of each parameter bin.
    fate : ndarray of Fate, shape (n,)
        What became of every row that was given.
    sessions : tuple of Session
        Trainings of the network; their rows are rows of the sample that was given.
    examples : tuple of ClusterExample
    """

    rows: NDArray[np.int64]
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    derived: NDArray[np.float64]
    reference: NDArray[np.bool_]
    fate: NDArray[np.object_]
    sessions: tuple[Session, ...]
    examples: tuple[ClusterExample, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Spectra by fate, in the order of the steps; they add up to all that were given."""
        found = Counter(str(each) for each in self.fate)
        return {str(fate): found[str(fate)] for fate in Fate if found[str(fate)]}


def clean_sample(
    sample: Sample,
    load: Load,
    *,
    grid: WaveGrid,
    match: Match,
    directory: Path,
    settings: SampleCleaning,
    models: Mapping[str, ModelGrid] | None = None,
) -> CleanedSample:
    """Make the empirical sample and mark its reference grid.

    Parameters
    ----------
    sample : Sample
    load : callable
        Reads flux and ivar of some rows; called once per parameter bin.
    grid : WaveGrid
        Of the spectra; it must cover the wavelengths of every step.
    match : callable
        The matcher, for the leave-one-out.
    directory : Path
        Where the review table and its pictures are, or will be.
    settings : SampleCleaning
    models : mapping of str to ModelGrid, optional
        Models on the same grid for each kind of the sample; spectra are not recalibrated without.

    Raises
    ------
    ConfigError, InputError
        If spectra, models or the review table cannot be used.
    ModelError
        If the network cannot be trained.
    """
    windows = {
        name: covered(grid, each.wave_aa, name)
        for name, each in (
            ("network", settings.network),
            ("leave-one-out", settings.leave_one_out),
            ("reference grid", settings.reference),
        )
    }
    candidates = clean_bins(sample, load, grid=grid, settings=settings, models=models)
    accepted, fate = review(sample, candidates, grid=grid, directory=directory, settings=settings)
    rows, flux, ivar = candidates.rows[accepted], candidates.flux[accepted], candidates.ivar[accepted]
    bins, examples = candidates.bins, candidates.examples
    del candidates  # its spectra take as much memory as the sample's
    red = _window(flux, ivar, windows["network"])
    verdict = clean_by_network(*red, sample.labels[rows], settings.network, seed=settings.seed or 0)
    fate[rows[~verdict.kept]] = Fate.CONTRADICTED
    sessions = tuple(_of_sample(session, rows) for session in verdict.sessions)
    rows, flux, ivar = rows[verdict.kept], flux[verdict.kept], ivar[verdict.kept]
    red = _window(flux, ivar, windows["leave-one-out"])
    derived = leave_one_out(*red, sample.labels[rows], sample.stars[rows], match=match)
    masked = np.mean(ivar[:, windows["reference grid"]] <= 0, axis=1)
    complete = masked <= settings.reference.max_filled
    reference = reference_grid(bins, rows, sample.snr, complete)
    return CleanedSample(rows, flux, ivar, derived, reference, fate, sessions, examples)


def review(
    sample: Sample, candidates: Candidates, *, grid: WaveGrid, directory: Path, settings: SampleCleaning
) -> tuple[NDArray[np.bool_], NDArray[np.object_]]:
    """Write the review table with a picture of each spectrum, and apply what it says.

    ``drop`` counts for any candidate that the table names, ``keep`` for those under review; the rest of these follow
    ``settings.clustering.undecided``. Pictures of spectra under review for the same reason as before stay.

    Returns
    -------
    accepted : ndarray of bool, shape (m,)
        Of the candidates.
    fate : ndarray of Fate, shape (n,)
    """
    before = {row["spectrum_id"]: row for row in read_review(directory / REVIEW_TABLE)[0]}
    table = []
    places = np.flatnonzero(candidates.reason != "")
    best = np.argsort(-sample.snr[candidates.rows[places]], kind="stable")
    drawn = set(places[best[: settings.clustering.pictures]].tolist())
    for place in places:
        row = candidates.rows[place]
        name = bin_name(candidates.bins.lower[candidates.bins.number[row]], candidates.bins.steps)
        spectrum = str(sample.ids[row])
        plot = f"plots/{quote(spectrum, safe='')}.png" if place in drawn else ""
        made = ReviewRow(spectrum, name, candidates.reason[place], float(sample.snr[row]), plot)
        if plot and not (made.same_case(before.get(spectrum, {})) and (directory / plot).is_file()):
            with atomic_write(directory / plot) as part:
                part.write_bytes(_picture(sample, candidates, int(place), grid=grid, settings=settings))
        table.append(made)
    decisions = update_review(directory / REVIEW_TABLE, table)
    strange = sorted(set(decisions) - set(sample.ids.tolist()))
    if strange:  # a program for tables may have rounded long ids
        log.warning("%s: decisions on spectra that are not in the sample: %s", directory, ", ".join(strange[:5]))
    fate = candidates.fate.copy()
    for row, reason in zip(candidates.rows, candidates.reason, strict=True):
        decision = decisions.get(str(sample.ids[row]), "")
        if decision == DROP:
            fate[row] = Fate.DROPPED
        elif reason and (decision or settings.clustering.undecided) == KEEP:
            fate[row] = Fate.KEPT
    return fate[candidates.rows] == Fate.KEPT, fate


def leave_one_out(
    flux: NDArray[np.float32], ivar: NDArray[np.float32], labels: NDArray, stars: NDArray[np.int64], *, match: Match
) -> NDArray[np.float64]:
    """Labels of each spectrum by matching it against those of all other stars (paper II, section 2.6).

    Parameters
    ----------
    flux, ivar : ndarray of float32, shape (n, n_pix)
    labels : ndarray, shape (n, 3)
    stars : ndarray of int64, shape (n,)
    match : callable

    Returns
    -------
    ndarray, shape (n, 3)
        Labels combined with the weights of the match; NaN where it found no reference.
    """
    references, _ = filled(flux, ivar)
    index, weights = match(flux, ivar, references, stars)
    weights = np.where(index >= 0, weights, 0.0)
    derived = np.einsum("ij,ijk->ik", weights, labels[np.maximum(index, 0)])
    derived[weights.sum(axis=1) <= 0] = np.nan
    return derived


def template_matcher(*, order: int, k: int = 5, candidates: int = 8) -> Match:
    """The matcher of the product: ``k`` best at a multiplicative polynomial of an order, simplex weights."""
    from stellarscale.kernels.template_match import match_spectra, prepare

    def match(flux: NDArray, ivar: NDArray, references: NDArray, stars: NDArray) -> tuple[NDArray, NDArray]:
        found = match_spectra(
            flux, ivar, prepare(references, order=order), k=k, candidates=candidates, groups=stars, own=stars
        )
        return found.index, found.weights

    return match


def reference_grid(
    bins: ParameterBins, rows: NDArray[np.int64], snr: NDArray, complete: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The spectrum of highest S/N in each bin, among the complete ones (paper II, section 4).

    Parameters
    ----------
    bins : ParameterBins
        Of all rows.
    rows : ndarray of int64, shape (m,)
        Rows in the empirical sample.
    snr : ndarray, shape (n,)
        Of all rows.
    complete : ndarray of bool, shape (m,)
        Whether so few pixels are masked that the spectrum can serve as a reference.

    Returns
    -------
    ndarray of bool, shape (m,)
    """
    number = np.where(complete, bins.number[rows], -1)
    return rank_in_bin(number, snr[rows]) == 0


def _window(
    flux: NDArray[np.float32], ivar: NDArray[np.float32], window: slice
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Part of the spectra, of unit median flux there; without weight where that median is not positive."""
    flux, ivar = flux[:, window], ivar[:, window]
    unit = medians(flux, ivar)
    usable = unit > 0
    return scaled(flux, np.where(usable[:, None], ivar, 0.0), np.where(usable, unit, 1.0))


def _of_sample(session: Session, rows: NDArray[np.int64]) -> Session:
    return Session(rows[session.rows], session.test, session.predicted, session.outlier, session.curve)


def _picture(sample: Sample, candidates: Candidates, place: int, *, grid: WaveGrid, settings: SampleCleaning) -> bytes:
    """PNG of a spectrum under review."""
    row = candidates.rows[place]
    companions, others = _companions(sample, candidates, place, settings)
    window = covered(grid, settings.clustering.wave_aa, "clustering")
    shown = np.append(companions, place)
    lines = np.where(candidates.ivar[shown, window] > 0, candidates.flux[shown, window], np.nan)
    teff, logg, m_h = sample.labels[row]
    name = str(sample.ids[row])
    title = f"{name}: {teff:.0f} K, logg {logg:.2f}, [M/H] {m_h:+.2f}, S/N {sample.snr[row]:.0f}"
    drawn = plot_review(
        grid.wave_aa[window],
        lines[-1],
        lines[:-1],
        title=title,
        reason=candidates.reason[place],
        others=others,
    )
    return png(drawn, 100)


def _companions(
    sample: Sample, candidates: Candidates, place: int, settings: SampleCleaning
) -> tuple[NDArray[np.int64], str]:
    """Other spectra under review in the same bin, else the accepted ones nearest in the labels."""
    number = candidates.bins.number[candidates.rows]
    same = np.flatnonzero(number == number[place])
    same = same[same != place]
    if len(same):
        return same, "others of the bin"
    accepted = np.flatnonzero(candidates.reason == "")
    labels = sample.labels[candidates.rows] / np.asarray(settings.bins.steps)
    distance = np.abs(labels[accepted] - labels[place]).max(axis=1)
    return accepted[np.argsort(distance, kind="stable")[:_COMPANIONS]], "nearest accepted in the labels"
