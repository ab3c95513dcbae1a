"""The sections that a laspm report has of its own: Kiel diagrams, recovery by S/N, examples, references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.catalog.spectra_fits import read_spectra_fits
from stellarscale.engine.spectra_tasks import ReferenceFile
from stellarscale.flags import COLUMN, Flag
from stellarscale.partition.features import floats
from stellarscale.products.isochrones import read_isochrones
from stellarscale.products.laspm_examples import Example
from stellarscale.report.content import Evaluation, ExtraSection
from stellarscale.report.coverage import SNR, coverage_rows
from stellarscale.report.labels import several
from stellarscale.report.plots_kiel import KielStars, plot_kiel_metals
from stellarscale.report.plots_snr import plot_by_snr
from stellarscale.report.plots_spectra import plot_fits
from stellarscale.report.tables_spectra import example_table, label_table, snr_table, source_table

if TYPE_CHECKING:
    from stellarscale.settings.laspm import LaspmJob

# Parameters of these are not to be relied on.
DOUBTFUL = Flag.BAD_FIT | Flag.LOW_SNR | Flag.EDGE_OF_GRID | Flag.RV_AT_LIMIT
KIEL = ("teff", "logg", "m_h")
SNR_RANGES = ((0.0, 10.0), (10.0, 20.0), (20.0, 50.0), (50.0, 100.0), (100.0, np.inf))
FITS_PER_FIGURE = 3
DWARFS_FROM, GIANTS_TO = 4.0, 3.5  # log g of the close views


def kiel_section(job: LaspmJob, stars: pa.Table) -> ExtraSection | None:
    """Stars without doubtful flags, isochrones over them, and the same by S/N (paper II, Fig. 16); None without log g.

    Parameters
    ----------
    job : LaspmJob
    stars : Table
        A sample of the catalogue: parameters, flags and S/N.
    """
    if not set(KIEL) <= set(job.matching.labels):
        return None
    flags = stars[COLUMN].fill_null(0).to_numpy()
    good = (flags & int(DOUBTFUL)) == 0
    lines = read_isochrones(job.report.isochrones) if job.report.isochrones else ()
    shown = _kiel("all", stars, good)
    views = [shown, *_branches(shown)]
    text = "Spectra without a doubtful flag, coloured by [M/H]; the close views leave out the outermost 0.5 per cent."
    figures = [(plot_kiel_metals(views, lines), "Kiel diagram coloured by metallicity", text)]
    parts = _by_snr(job, stars, good)
    if len(parts) > 1:
        caption = "The same stars by the signal to noise of the spectrum."
        figures.append((plot_kiel_metals(parts), "Kiel diagrams by signal to noise", caption))
    names = ", ".join(f"<code>{flag.name}</code>" for flag in Flag if flag & DOUBTFUL)
    html = (
        f"<p>{int(good.sum()):,} of {several(stars.num_rows, 'row')} of the sample carry none of {names}. "
        "All rows of the sample are under <a href='#stars'>Stars</a>.</p>"
    )
    numbers = {"sample": stars.num_rows, "good": int(good.sum()), "complete": int(shown.complete.sum())}
    return ExtraSection("kiel", "Kiel diagram", html, tuple(figures), numbers)


def by_snr_section(evaluations: Sequence[Evaluation], names: Mapping[int, str]) -> ExtraSection | None:
    """Scatter and bias against the truth in steps of S/N; None where there is no truth, or no S/N."""
    rows = [
        row
        for each in evaluations
        if each.kind == "truth" and each.magnitude_name == SNR
        for row in coverage_rows(each, names)
        if row.low is not None
    ]
    if not rows:
        return None
    caption = "Steps of 5 up to S/N 50, wider ones beyond; at least 20 spectra in each."
    figure = (plot_by_snr(rows), "Scatter and bias by signal to noise", caption)
    html = "<p>Estimates against the truth, spectrum by spectrum.</p>"
    return ExtraSection("by_snr", "Recovery by S/N", html + snr_table(rows), (figure,), [asdict(row) for row in rows])


def example_section(examples: Sequence[Example]) -> ExtraSection | None:
    """Spectra with their best fit and residual, those that nothing fits last; None where there are none."""
    if not examples:
        return None
    figures = []
    for bad, caption in (
        (False, "Chosen to span temperature and signal to noise, coolest first."),
        (True, "Spectra flagged BAD_FIT: no combination of references fits every pixel, be it a spike."),
    ):
        fits = [each.fit for each in examples if each.is_bad == bad]
        for start in range(0, len(fits), FITS_PER_FIGURE):
            part = fits[start : start + FITS_PER_FIGURE]
            names = ", ".join(each.title for each in part)
            figures.append((plot_fits(part), f"Spectra with their best fit: {names}", caption))
    html = (
        "<p>Each spectrum over the compared wavelengths, with the weighted sum of its best references, each times its "
        "polynomial. Grey bands mark molecules and lines; pixels without information are gaps.</p>"
    )
    rows = [each.row for each in examples]
    return ExtraSection("examples", "Example spectra", html + example_table(rows), tuple(figures), rows)


def reference_section(job: LaspmJob, references: ReferenceFile) -> ExtraSection:
    """What the spectra were matched against: number, labels, S/N, sources (paper II, Fig. 11)."""
    labels = job.matching.labels
    names, digest = dict(references.names), references.digest
    spectra = read_spectra_fits(references.path, labels=labels, names=names, expect_digest=digest)
    table = spectra.table
    values = {label: floats(table, label) for label in labels}
    snr = next((name for name in ("snr_i", "snr") if name in table.column_names), None)
    if snr:
        values["S/N"] = floats(table, snr)
    sources = _sources(table)
    units = {**job.units, "S/N": ""}
    html = (
        f"<p>{len(spectra.flux):,} spectra of <code>{escape(references.path.name)}</code>: "
        f"{escape(str(spectra.grid))}.</p>"
    )
    rows = [_quantiles(name, units[name], column) for name, column in values.items()]
    html += label_table(rows)
    html += source_table(sources) if sources else ""
    figures = []
    if set(KIEL) <= set(labels):
        shown = KielStars("references", values["teff"], values["logg"], values["m_h"])
        text = (
            "Kiel diagram of the references, coloured by [M/H]; the close views leave out the outermost 0.5 per cent."
        )
        figures.append((plot_kiel_metals([shown, *_branches(shown)]), "Kiel diagram of the references", text))
    numbers = {"n": len(spectra.flux), "labels": rows, "sources": sources}
    return ExtraSection("references", "References", html, tuple(figures), numbers)


def _kiel(title: str, stars: pa.Table, chosen: NDArray[np.bool_]) -> KielStars:
    teff, logg, m_h = (floats(stars, name)[chosen] for name in KIEL)
    return KielStars(title, teff, logg, m_h)


def _branches(stars: KielStars) -> list[KielStars]:
    """Close views of the dwarfs and the giants, where there are both."""
    dwarfs = KielStars("dwarfs", stars.teff, stars.logg, stars.m_h, (DWARFS_FROM, np.inf))
    giants = KielStars("giants", stars.teff, stars.logg, stars.m_h, (-np.inf, GIANTS_TO))
    return [dwarfs, giants] if dwarfs.complete.any() and giants.complete.any() else []


def _by_snr(job: LaspmJob, stars: pa.Table, good: NDArray[np.bool_]) -> list[KielStars]:
    name = job.errors_by[0]
    if name is None:
        return []
    snr = floats(stars, name)
    parts = []
    for low, high in SNR_RANGES:
        chosen = good & (snr >= low) & (snr < high)
        if chosen.any():
            title = f"S/N {low:g} – {high:g}" if np.isfinite(high) else f"S/N above {low:g}"
            parts.append(_kiel(title, stars, chosen))
    return parts


def _quantiles(name: str, unit: str, values: NDArray[np.float64]) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    low, median, high = np.percentile(known, [0, 50, 100]).tolist() if len(known) else (None, None, None)
    return {"label": name, "unit": unit, "n": len(known), "lowest": low, "median": median, "highest": high}


def _sources(table: pa.Table) -> dict[str, int]:
    """References by the catalogue that their labels are from."""
    if "label_source" not in table.column_names:
        return {}
    counts = pc.value_counts(pc.fill_null(table["label_source"].cast(pa.string()), "unknown")).to_pylist()
    return dict(sorted((each["values"], each["counts"]) for each in counts))
