"""Spectra to look at: some from all over the catalogue and some that no references fit, each with its fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.gather import gather_rows
from stellarscale.catalog.layout import SKY_COLUMN
from stellarscale.catalog.reader import StoredCatalog, open_stored
from stellarscale.engine.spectra_tasks import ReferenceFile, load_references
from stellarscale.flags import COLUMN, Flag, decode
from stellarscale.partition.features import floats
from stellarscale.partition.references import References, place_in
from stellarscale.products.scan import thinned
from stellarscale.report.labels import in_plot, literal, short
from stellarscale.report.plots_spectra import SpectrumFit
from stellarscale.spectra_columns import FLUX, IVAR, grid_of, spectra_of

if TYPE_CHECKING:
    from stellarscale.settings.laspm import LaspmJob

MOST_ROWS = 200_000
MOST_BAD = 2
# Successive multiples of it, modulo 1, spread evenly however many there are.
_GOLDEN = 0.5 * (np.sqrt(5.0) - 1.0)
_IDS = ("spectrum_id", "obsid")


@dataclass(frozen=True, eq=False)
class Example:
    """A spectrum of the catalogue with its fit, and what the catalogue says of it."""

    fit: SpectrumFit
    row: dict[str, Any]

    @property
    def is_bad(self) -> bool:
        """Whether it is shown because nothing fits it."""
        return "BAD_FIT" in self.row["flags"]


def combined_fit(
    flux: NDArray, ivar: NDArray, references: NDArray, weights: NDArray, order: int
) -> NDArray[np.float64]:
    """The best combination of references as the matcher has it, each times a polynomial of its own.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n_pix,)
        ivar 0: the pixel carries no weight.
    references : ndarray, shape (k, n_pix)
    weights : ndarray, shape (k,)
        Not negative; their sum is 1.
    order : int
        Of the polynomials, which least squares determine.

    Returns
    -------
    ndarray, shape (n_pix,)
    """
    x = np.linspace(-1.0, 1.0, len(flux))
    powers = x[:, None] ** np.arange(order + 1)
    root = np.sqrt(np.asarray(ivar, dtype=np.float64))
    model = np.zeros(len(flux))
    for reference, weight in zip(references, weights, strict=True):
        if weight > 0:
            terms = powers * np.asarray(reference, dtype=np.float64)[:, None]
            coefficients = np.linalg.lstsq(terms * root[:, None], root * flux, rcond=None)[0]
            model += weight * (terms @ coefficients)
    return model


def choose_examples(teff: NDArray, snr: NDArray, chi2: NDArray, flags: NDArray, number: int) -> NDArray[np.int64]:
    """Rows to show: spread over Teff and S/N, and up to two among those that nothing fits.

    Parameters
    ----------
    teff, snr, chi2 : ndarray, shape (n,)
        Rows without a parameter are not chosen; an S/N that is not known counts as lowest.
    flags : ndarray of int, shape (n,)
    number : int
        How many, as far as there are rows.

    Returns
    -------
    ndarray of int64
        Different rows, coolest first, then those of bad fits; the same for the same catalogue.
    """
    known = np.isfinite(teff) & np.isfinite(chi2)
    is_bad = (flags & int(Flag.BAD_FIT)) != 0
    snr = np.where(np.isfinite(snr), snr, -1.0)
    poor, good = np.flatnonzero(known & is_bad), np.flatnonzero(known & ~is_bad)
    n_bad = min(MOST_BAD, number // 3, len(poor))
    chosen = _spread(teff[good], snr[good], number - n_bad)
    worst = _spread(chi2[poor], snr[poor], n_bad)
    return np.concatenate([good[chosen], poor[worst]])


def _spread(first: NDArray, second: NDArray, number: int) -> NDArray[np.int64]:
    """Different places, evenly along the ranks of the first values and scattered evenly over those of the second."""
    number = min(number, len(first))
    ranks = np.stack([_ranks(first), _ranks(second)], axis=1)
    free = np.ones(len(first), dtype=bool)
    chosen = []
    for i in range(number):
        target = np.array([(i + 0.5) / number, ((i + 1) * _GOLDEN) % 1.0])
        distance = np.where(free, ((ranks - target) ** 2).sum(axis=1), np.inf)
        chosen.append(int(np.argmin(distance)))
        free[chosen[-1]] = False
    return np.array(chosen, dtype=np.int64)


def _ranks(values: NDArray) -> NDArray[np.float64]:
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = (np.arange(len(values)) + 0.5) / max(len(values), 1)
    return ranks


def example_spectra(job: LaspmJob, stored: StoredCatalog, *, spectra: Path, references: ReferenceFile) -> list[Example]:
    """Spectra of the catalogue with the fit that its rows stand for; the good ones first.

    Parameters
    ----------
    job : LaspmJob
    stored : StoredCatalog
        The value-added catalogue.
    spectra : Path
        Catalogue of the spectra.
    references : ReferenceFile
        What the catalogue was made with.

    Returns
    -------
    list of Example
        Empty where none is asked for, or the catalogue kept no id that the spectra are found by.

    Raises
    ------
    InputError, CatalogError
        If the references or the spectra are not those of the run any more.
    """
    catalog = open_stored(spectra)
    ids = (catalog.properties.extra.get("stellarscale_id"), *_IDS)
    ours = next((name for name, source in job.matching.columns.items() if source in ids), None)
    if job.report.examples == 0 or ours is None:
        return []
    rows = _rows(job, stored, ours)
    if rows.num_rows == 0:
        return []
    source = job.matching.columns[ours]
    found = gather_rows(catalog, source, rows[ours].combine_chunks(), [FLUX, IVAR])
    places = {key: place for place, key in enumerate(_keys(found, source))}
    prepared = load_references(references, job.matching)
    flux, ivar = spectra_of(found, FLUX), spectra_of(found, IVAR)
    pixels = place_in(prepared, grid_of(found.schema))
    examples = []
    for row, key in zip(rows.to_pylist(), _keys(rows, ours), strict=True):
        if key in places:
            at = places[key]
            about = _about(job, row, ours)
            fit = _fit(job, row, about, (flux[at, pixels], ivar[at, pixels]), prepared)
            examples.append(Example(fit, about))
    return examples


def _rows(job: LaspmJob, stored: StoredCatalog, ours: str) -> pa.Table:
    """The chosen rows with what is told of them."""
    snr = job.errors_by[0]
    names = [ours, *job.matching.labels, "chi2_reduced", "reference_ids", "reference_weights", COLUMN]
    table, _ = thinned(stored, list(dict.fromkeys([*names, *([snr] if snr else [])])), MOST_ROWS)
    shown_by = floats(table, job.matching.labels[0])
    snr_values = floats(table, snr) if snr else np.full(table.num_rows, np.nan)
    flags = table[COLUMN].fill_null(0).to_numpy()
    return table.take(choose_examples(shown_by, snr_values, floats(table, "chi2_reduced"), flags, job.report.examples))


def _keys(table: pa.Table, column: str) -> list[tuple[Any, Any]]:
    """Place on the sky and id: an id alone may occur twice."""
    return list(zip(table[SKY_COLUMN].to_pylist(), table[column].to_pylist(), strict=True))


def _about(job: LaspmJob, row: dict[str, Any], ours: str) -> dict[str, Any]:
    snr = job.errors_by[0]
    return {
        "spectrum": str(row[ours]),
        **{label: row[label] for label in job.matching.labels},
        "snr": row[snr] if snr else None,
        "chi2_reduced": row["chi2_reduced"],
        "flags": decode(row[COLUMN] or 0),
        "references": [number for number, weight in _used(row)],
        "weights": [weight for _, weight in _used(row)],
    }


def _used(row: dict[str, Any]) -> list[tuple[int, float]]:
    pairs = zip(row["reference_ids"], row["reference_weights"], strict=True)
    return [(number, weight) for number, weight in pairs if number >= 0 and weight > 0]


def _fit(
    job: LaspmJob,
    row: dict[str, Any],
    about: dict[str, Any],
    spectrum: tuple[NDArray, NDArray],
    references: References,
) -> SpectrumFit:
    flux, ivar = spectrum
    informs = (ivar > 0) & np.isfinite(ivar) & np.isfinite(flux) & references.window
    places = np.searchsorted(references.rows, about["references"])
    weighted = np.where(informs, ivar, 0.0)
    values = np.where(informs, flux, 0.0).astype(np.float64)
    model = combined_fit(values, weighted, references.flux[places], np.array(about["weights"]), job.matching.order)
    error = 1.0 / np.sqrt(np.where(informs, ivar, np.inf).astype(np.float64))
    return SpectrumFit(
        title=_title(job, about),
        wave_aa=references.grid.wave_aa,
        flux=np.where(informs, values, np.nan),
        error=np.where(informs, error, np.nan),
        model=np.where(references.window, model, np.nan),
    )


def _title(job: LaspmJob, about: dict[str, Any]) -> str:
    told = [f"{in_plot(label)} {_value(about[label], unit)}" for label, unit in job.units.items()]
    told += [f"S/N {short(about['snr'])}"] if about["snr"] is not None else []
    told += [f"reduced $\\chi^2$ {short(about['chi2_reduced'])}", *about["flags"]]
    return f"{literal(about['spectrum'])}:  {',  '.join(told)}"


def _value(value: float, unit: str) -> str:
    text = f"{value:.0f} {unit}" if unit == "K" else f"{value:.2f}"
    return text.replace("-", "−")
