"""Tables of a report on spectra: recovery by S/N, examples, references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from stellarscale.report.coverage import CoverageRow
from stellarscale.report.labels import count, on_page, reference_name, short
from stellarscale.report.tables import NONE, percent, table


def snr_table(rows: Sequence[CoverageRow]) -> str:
    """Bias and scatter of each label and class in steps of S/N; folded, because it is long."""
    head = ["Label<|reference, unit", "Class<", "S/N", "Spectra", "Bias|median", "Robust σ", "68 %|inside"]
    cells = [
        [
            f"{on_page(row.label)}<small>{escape(_against(row))}</small>",
            escape(row.group),
            f"{row.low:g} – {row.high:g}",
            count(row.n),
            short(row.bias),
            short(row.sigma),
            percent(row.coverage_68),
        ]
        for row in rows
    ]
    return "<details><summary>Table</summary>" + table(head, cells) + "</details>"


def example_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The spectra that are drawn: their flags, and the references of their fits."""
    head = ["Spectrum<", "S/N", "Reduced χ²", "Flags<", "References<|row of their file: weight"]
    cells = [
        [
            f"<code>{escape(row['spectrum'])}</code>",
            short(row["snr"]),
            short(row["chi2_reduced"]),
            f'<td class="wrap">{escape(", ".join(row["flags"])) or NONE}</td>',
            f'<td class="wrap">{_weights(row)}</td>',
        ]
        for row in rows
    ]
    return table(head, cells)


def _weights(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{at}: {short(weight)}" for at, weight in zip(row["references"], row["weights"], strict=True))


def label_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Range of each label, and of the S/N, of the references."""
    head = ["Label<|unit", "References", "Lowest", "Median", "Highest"]
    cells = [
        [
            on_page(row["label"]) + (f"<small>{escape(row['unit'])}</small>" if row["unit"] else ""),
            count(row["n"]),
            *(short(row[name], 4) for name in ("lowest", "median", "highest")),
        ]
        for row in rows
    ]
    return table(head, cells)


def source_table(sources: Mapping[str, int]) -> str:
    """References by the catalogue that their labels are from."""
    total = sum(sources.values())
    cells = [[escape(name), count(number), percent(number / total)] for name, number in sources.items()]
    return table(["Source of the labels<", "References", "Share"], cells)


def _against(row: CoverageRow) -> str:
    return ", ".join(text for text in (reference_name(row.against), row.unit) if text)
