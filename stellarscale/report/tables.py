"""The tables of the page as HTML; everything that came from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from stellarscale.flags import DESCRIPTIONS
from stellarscale.report.content import Evaluation, StepRow
from stellarscale.report.labels import count, duration, model_on_page, reference_name, several, short
from stellarscale.report.numbers import EvaluationNumbers

NONE = "–"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "", foot: Sequence[str] = ()) -> str:
    """An HTML table without the columns that hold only dashes.

    Cells are HTML; the first of a row heads it, and cells that start with ``<td`` stand as is. A head of
    ``"name|unit"`` puts the unit on a second line; a ``<`` in a head marks a column of text.
    """
    used = [i for i in range(len(head)) if i == 0 or not rows or any(row[i] != NONE for row in rows)]
    head, rows = [head[i] for i in used], [[row[i] for i in used] for row in rows]
    foot = [foot[i] for i in used] if foot else []
    lines = ['<div class="scroll"><table>']
    if caption:
        lines.append(f"<caption>{caption}</caption>")
    lines.append("<thead><tr>" + "".join(_head(text) for text in head) + "</tr></thead><tbody>")
    for row in rows:
        cells = [f'<th scope="row" class="text">{row[0]}</th>']
        cells += [_cell(cell, "<" in text) for cell, text in zip(row[1:], head[1:], strict=True)]
        lines.append("<tr>" + "".join(cells) + "</tr>")
    lines.append("</tbody>")
    if foot:
        cells = [_cell(cell, "<" in text) for cell, text in zip(foot[1:], head[1:], strict=True)]
        lines.append(f'<tfoot><tr><th scope="row" class="text">{foot[0]}</th>{"".join(cells)}</tr></tfoot>')
    lines.append("</table></div>")
    return "\n".join(lines)


def _head(text: str) -> str:
    kind = ' class="text"' if "<" in text else ""
    name, _, unit = text.replace("<", "").partition("|")
    return f'<th scope="col"{kind}>{name}' + (f"<small>{unit}</small>" if unit else "") + "</th>"


def _cell(cell: str, is_text: bool) -> str:
    if cell.startswith("<td"):
        return cell
    return f'<td class="text">{cell}</td>' if is_text else f"<td>{cell}</td>"


def step_table(steps: Sequence[StepRow]) -> str:
    """Rows, partitions, time and memory of each step."""
    head = [
        "Step<", "Rows in", "Rows out", "Rejected", "Left out", "Partitions", "Resumed", "Time", "Rate|rows/s",
        "Peak memory|MB",
    ]  # fmt: skip
    rows = [_step_cells(step) for step in steps]
    foot = ["All steps", "", "", count(sum(step.rejected for step in steps))]
    foot += [
        count(sum(step.left_out for step in steps)),
        count(sum(step.partitions for step in steps)),
        count(sum(step.resumed_partitions for step in steps)),
    ]
    foot += [duration(sum(step.seconds for step in steps if not step.made_before)), "", ""]
    caption = (
        "Rejected: rows that an import could not take. Left out: rows that a cut of the job does not want. Resumed: "
        "partitions that an earlier run had finished; a step without a time was made by one, and is not in the total. "
        "Peak memory: resident, largest of any worker."
    )
    return table(head, rows, caption=caption, foot=foot)


def _step_cells(step: StepRow) -> list[str]:
    return [
        escape(step.name)
        + (f"<small>{escape(step.kind)}</small>" if step.title != step.name else "")
        + (f"<em>{escape(step.note)}</em>" if step.note else ""),
        count(step.rows_in),
        count(step.rows_out),
        count(step.rejected),
        count(step.left_out),
        count(step.partitions),
        count(step.resumed_partitions),
        NONE if step.made_before else duration(step.seconds),
        count(round(step.rate)) if step.rate is not None else NONE,
        count(round(step.peak_memory_mb)) if step.peak_memory_mb is not None else NONE,
    ]


def evaluation_table(evaluations: Sequence[Evaluation], numbers: Sequence[EvaluationNumbers]) -> str:
    """Figures of merit, one row per model and reference."""
    head = [
        "Model<|reference, unit", "Stars", "Trained|on stars", "Bias|median", "Robust σ|1.48 MAD",
        "Fit μ", "Fit σ", "RMSE", "Outliers|&gt; 3σ", "R²", "OOB|R²", "68 %|inside", "95 %|inside",
    ]  # fmt: skip
    rows = [_evaluation_cells(each, figures) for each, figures in zip(evaluations, numbers, strict=True)]
    notes = ["Residuals are predicted − true. Fit: Gaussian fitted to the histogram of residuals by least squares"]
    if not all(figures.gaussian_converged for figures in numbers):
        notes.append("figures marked * are the median and the robust σ, where no Gaussian could be fitted")
    if any(figures.n_missing for figures in numbers):
        left_out = sum(figures.n_missing for figures in numbers)
        notes.append(f"{count(left_out)} pairs with a missing value are left out")
    if any(figures.coverage_68 is not None for figures in numbers):
        notes.append("68 %, 95 % inside: share of stars whose reference lies within the claimed interval")
    return table(head, rows, caption="; ".join(notes) + ".")


def _evaluation_cells(evaluation: Evaluation, figures: EvaluationNumbers) -> list[str]:
    star = "" if figures.gaussian_converged or not figures.n else "*"
    reference = ", ".join(text for text in (reference_name(evaluation.against), evaluation.unit) if text)
    return [
        f"{model_on_page(evaluation.model)}<small>{escape(reference)}</small>",
        count(figures.n),
        count(evaluation.n_train),
        short(figures.bias),
        short(figures.robust_sigma),
        short(figures.gaussian_mean) + star,
        short(figures.gaussian_sigma) + star,
        short(figures.rmse),
        percent(figures.outlier_fraction),
        short(figures.r_squared),
        short(evaluation.oob_score),
        percent(figures.coverage_68),
        percent(figures.coverage_95),
    ]


def comparison_table(evaluations: Sequence[Evaluation], numbers: Sequence[EvaluationNumbers]) -> str:
    """Figures of other methods beside ours; empty text when there are none."""
    rows = []
    for evaluation, figures in zip(evaluations, numbers, strict=True):
        for name, value in evaluation.comparisons.items():
            rows.append(
                [
                    model_on_page(evaluation.model),
                    escape(reference_name(evaluation.against)),
                    escape(evaluation.unit) or NONE,
                    f'<td class="wrap">{escape(name)}</td>',
                    short(value, 4),
                    short(figures.robust_sigma, 4),
                    short(figures.rmse, 4),
                    short(figures.r_squared, 4),
                ]
            )
    head = ["Model<", "Against<", "Unit<", "Other figure<", "Value", "Our robust σ", "Our RMSE", "Our R²"]
    return table(head, rows) if rows else ""


def flag_rows(flag_counts: Mapping[str, int], rows_total: int | None) -> str:
    """Rows that carry each flag, and what the flag means; the flags that no row carries fold away."""
    used = {name: number for name, number in flag_counts.items() if number}
    unused = {name: number for name, number in flag_counts.items() if not number}
    html = _flag_table(used, rows_total, "A row can carry several flags.") if used else "<p>No row has a flag.</p>"
    if not unused:
        return html
    summary = f"{several(len(unused), 'flag')} that no row has"
    return f"{html}<details><summary>{summary}</summary>{_flag_table(unused, rows_total)}</details>"


def _flag_table(flag_counts: Mapping[str, int], rows_total: int | None, caption: str = "") -> str:
    meaning = {flag.name: text for flag, text in DESCRIPTIONS.items()}
    rows = [
        [
            f"<code>{escape(name)}</code>",
            count(number),
            percent(number / rows_total) if rows_total else NONE,
            f'<td class="wrap">{escape(meaning.get(name, ""))}</td>',
        ]
        for name, number in flag_counts.items()
    ]
    return table(["Flag<", "Rows", "Share", "Meaning<"], rows, caption=caption)


def name_table(pairs: Mapping[str, str], first: str, second: str) -> str:
    """Names and texts, such as versions."""
    rows = [[escape(name), f'<td class="text"><code>{escape(text)}</code></td>'] for name, text in pairs.items()]
    return table([f"{first}<", f"{second}<"], rows)


def percent(fraction: float | None) -> str:
    """A fraction in per cent; a dash for none."""
    return NONE if fraction is None or fraction != fraction else f"{short(100 * fraction)} %"
