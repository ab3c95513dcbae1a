"""What the report says of the empirical sample; drawn when the sample is made, because its arrays are not kept."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.kernels.label_transfer import LabelOffset
from stellarscale.kernels.stats import robust_sigma
from stellarscale.models.label_network import Session
from stellarscale.partition.features import floats
from stellarscale.products.residuals import residual_numbers, residual_table
from stellarscale.products.sample_cleaning import CleanedSample
from stellarscale.products.sample_labels import offsets_table
from stellarscale.products.sample_selection import SampleResult
from stellarscale.report.content import ExtraSection
from stellarscale.report.labels import count, short
from stellarscale.report.pieces import picture
from stellarscale.report.plots_cleaning import (
    plot_clusterings,
    plot_leave_one_out,
    plot_predictions,
    plot_training,
)
from stellarscale.report.plots_sample import DiagramOfBranch, plot_branches, plot_offsets
from stellarscale.report.plots_style import DPI
from stellarscale.report.tables import table
from stellarscale.settings.sample import LABELS

UNITS = ("K", "dex", "dex")


def sample_sections(
    result: SampleResult, sample: pa.Table, cleaned: CleanedSample, wave_aa: NDArray[np.float64]
) -> tuple[ExtraSection, ExtraSection]:
    """The selection (paper II, Figs 2, 3, 5, 6) and the cleaning (Figs 7 to 10) as finished sections of the page.

    Parameters
    ----------
    result : SampleResult
        What the selection made.
    sample : Table
        Its rows that have a spectrum.
    cleaned : CleanedSample
        What became of them.
    wave_aa : ndarray
        Wavelengths of the clustered spectra.
    """
    return _selection(result), _cleaning(sample, cleaned, wave_aa)


def _selection(result: SampleResult) -> ExtraSection:
    steps, offsets = result.steps.to_pylist(), offsets_table(result.offsets).to_pylist()
    head = ["after<", "branch<", "spectra left", "stars left"]
    html = ["<p>What each step of the selection left, in order: each is named for what it takes away.</p>"]
    html.append(table(head, [_texts(row, ("step", "branch"), ("spectra", "stars")) for row in steps]))
    fits = result.branches.items()
    diagrams = [
        DiagramOfBranch(name, fit.colour, fit.magnitude, fit.branch, fit.config.colour, fit.config.magnitude)
        for name, fit in fits
    ]
    if diagrams:
        text = "Means and σ of the bins, the polynomial through them, and the band that is kept."
        html.append(picture(plot_branches(diagrams), "Colour – absolute magnitude diagrams", text, DPI))
    html.append("<h3>Labels against the reference</h3>")
    html.append(table([f"{name}<" if name in _NAMES else name for name in _COLUMNS], [_offset(row) for row in offsets]))
    for branch in result.branches:
        drawn = plot_offsets(branch, "reference", _by_catalog(result, branch))
        html.append(
            picture(drawn, f"Labels of the branch {branch}", f"Branch {escape(branch)}, before the shift.", DPI)
        )
    numbers = {"steps": steps, "offsets": offsets}
    return ExtraSection("selection", "The empirical sample: selection", "\n".join(html), numbers=numbers)


_NAMES = ("catalog", "branch", "label", "method")
_COLUMNS = (*_NAMES, "added", "mean", "sigma", "stars")


def _offset(row: dict[str, Any]) -> list[str]:
    return [escape(str(row[name])) for name in _NAMES] + [short(row[n]) for n in _COLUMNS[4:7]] + [count(row["stars"])]


def _texts(row: dict[str, Any], names: tuple[str, ...], numbers: tuple[str, ...]) -> list[str]:
    return [escape(str(row[name] or "all")) for name in names] + [count(row[name]) for name in numbers]


def _by_catalog(result: SampleResult, branch: str) -> list[tuple[str, list[LabelOffset]]]:
    found: dict[str, list[LabelOffset]] = {}
    for item in result.offsets:
        if item.branch == branch:
            found.setdefault(item.catalog, []).append(item.offset)
    return list(found.items())


def _cleaning(sample: pa.Table, cleaned: CleanedSample, wave_aa: NDArray[np.float64]) -> ExtraSection:
    labels = np.stack([floats(sample, name) for name in LABELS], axis=1)
    final, derived = labels[cleaned.rows], cleaned.derived
    html = [
        table(["what became of the spectra<", "spectra"], [[escape(k), count(v)] for k, v in cleaned.counts.items()])
    ]
    references = int(cleaned.reference.sum())
    html.append(f"<p>Spectra of the reference grid, the best of each parameter bin: {count(references)}.</p>")
    if cleaned.examples:
        text = (
            "The fullest parameter bin: all spectra in grey, the cluster in red, at the job's radius and at twice that."
        )
        html.append(picture(plot_clusterings(wave_aa, cleaned.examples), "Clustered spectra", text, DPI))
    html += _sessions(cleaned.sessions, labels)
    html.append("<h3>Each spectrum matched against those of the other stars</h3>")
    left_out = residual_numbers(LABELS, derived - final)
    html.append(residual_table(left_out, dict(zip(LABELS, UNITS, strict=True))))
    text = "Lines lead from the labels to what the matching of the other stars gives."
    html.append(picture(plot_leave_one_out(final, derived), "Leave-one-out", text, DPI))
    numbers = {
        "fates": cleaned.counts,
        "references": references,
        "leave_one_out": left_out,
        "sessions": [_session_numbers(session, labels) for session in cleaned.sessions],
    }
    return ExtraSection("cleaning", "The empirical sample: cleaning", "\n".join(html), numbers=numbers)


def _sessions(sessions: tuple[Session, ...], labels: NDArray[np.float64]) -> list[str]:
    if not sessions:
        return []
    head = ["session<", "stars", "dropped", *(f"σ({name})|{unit}" for name, unit in zip(LABELS, UNITS, strict=True))]
    rows = []
    for number, session in enumerate(sessions, 1):
        figures = _session_numbers(session, labels)
        rows.append(
            [str(number), count(figures["stars"]), count(figures["dropped"])] + [short(s) for s in figures["sigma"]]
        )
    last = sessions[-1]
    seen = labels[last.rows[last.test]]
    return [
        "<h3>The network</h3>",
        "<p>σ of the stars held out of each session.</p>",
        table(head, rows),
        picture(plot_training(last.curve), "Training curve", "Loss in the last session.", DPI),
        picture(
            plot_predictions(seen, last.predicted[last.test]), "Predictions", "Held-out stars of the last session.", DPI
        ),
    ]


def _session_numbers(session: Session, labels: NDArray[np.float64]) -> dict[str, Any]:
    residual = session.predicted[session.test] - labels[session.rows[session.test]]  # a test part is never empty
    return {
        "stars": len(session.rows),
        "dropped": int(session.outlier.sum()),
        "sigma": [float(robust_sigma(column)) for column in residual.T],
    }
