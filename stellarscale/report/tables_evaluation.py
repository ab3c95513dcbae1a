"""Tables of the evaluation: coverage, flagged stars, star clusters, metal-poor shares, samples."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from stellarscale.report.content import ClassHistograms, ClusterResult, SampleStars
from stellarscale.report.coverage import CoverageRow, NoveltyRow
from stellarscale.report.labels import count, model_on_page, on_page, reference_name, sample_name, short
from stellarscale.report.numbers import class_rows, cluster_row, sample_rows
from stellarscale.report.tables import NONE, percent, table


def coverage_table(rows: Sequence[CoverageRow], *, by: str = "magnitude") -> str:
    """Coverage of all stars of each evaluation and class, then by magnitude or S/N; long tables fold away."""
    head = [
        "Model<|reference",
        "Class<",
        f"{by[0].upper()}{by[1:]}<",
        "Stars",
        "Bias|median",
        "Robust σ",
        "68 %",
        "95 %",
    ]
    whole = [_coverage_cells(row) for row in rows if row.low is None]
    binned = [_coverage_cells(row) for row in rows if row.low is not None]
    html = table(head, whole, caption="Shares of stars within the claimed intervals; bias and σ in the label's unit.")
    if not binned:
        return html
    return html + f"<details><summary>By {by}</summary>" + table(head, binned) + "</details>"


def _coverage_cells(row: CoverageRow) -> list[str]:
    return [
        f"{model_on_page(row.model)}<small>{escape(reference_name(row.against))}</small>",
        escape(row.group),
        f"{row.low:g} – {row.high:g}" if row.low is not None else NONE,
        count(row.n),
        short(row.bias),
        short(row.sigma),
        percent(row.coverage_68),
        percent(row.coverage_95),
    ]


def novelty_table(rows: Sequence[NoveltyRow]) -> str:
    """Residuals of the stars inside the training sample beside those flagged as outside."""
    head = [
        "Model<|reference", "Inside|stars", "Flagged|stars", "σ inside", "σ flagged", "RMSE inside", "RMSE flagged",
        "68 % inside", "68 % flagged",
    ]  # fmt: skip
    cells = [
        [
            f"{model_on_page(row.model)}<small>{escape(reference_name(row.against))}</small>",
            count(row.n_inside),
            count(row.n_flagged),
            short(row.sigma_inside),
            short(row.sigma_flagged),
            short(row.rmse_inside),
            short(row.rmse_flagged),
            percent(row.coverage_68_inside),
            percent(row.coverage_68_flagged),
        ]
        for row in rows
    ]
    caption = "Flagged: the inputs lie outside of what the model was trained on (EXTRAPOLATED). σ is robust."
    return table(head, cells, caption=caption)


def cluster_table(clusters: Sequence[ClusterResult]) -> str:
    """Members after each stage of the selection, and the value beside the literature's."""
    stages = list(dict.fromkeys(stage for cluster in clusters for stage in cluster.counts))
    head = ["Cluster<", "Outcome<", *(stage.replace("_", "|", 1) for stage in stages)]
    head += ["Mean", "σ", "Literature", "Difference"]
    rows = []
    for cluster in clusters:
        figures = cluster_row(cluster)
        star = "*" if figures["converged"] is False else ""
        rows.append(
            [
                f"{escape(cluster.name)}<small>literature: {escape(cluster.reference)}</small>",
                f'<td class="wrap">{escape(cluster.status)}</td>',
                *(count(cluster.counts.get(stage)) for stage in stages),
                short(figures["mean"]) + star,
                short(figures["sigma"]) + star,
                short(cluster.literature),
                short(figures["difference"]),
            ]
        )
    return table(head, rows, caption="Values marked * are the median and the robust σ, where no Gaussian was fitted.")


def class_table(histograms: ClassHistograms) -> str:
    """Stars of each class, and the number and share at or below each limit."""
    name = on_page(histograms.label)
    head = ["Class<", "Stars", *(f"{name} ≤ {_signed(limit)}|stars, share" for limit in histograms.limits)]
    rows = []
    for row in class_rows(histograms):
        cells = [
            f"{count(row[f'n_below_{limit:g}'])} ({percent(row[f'share_below_{limit:g}'])})"
            for limit in histograms.limits
        ]
        rows.append([escape(row["class"]), count(row["n"]), *cells])
    return table(head, rows)


def sample_table(samples: Sequence[SampleStars]) -> str:
    """Stars of each model by catalogue and role."""
    head = ["Model<", "Catalogue<", "Sample<", "Stars", "Lowest|label", "Median|label", "Highest|label"]
    rows = [
        [
            model_on_page(row["model"]),
            escape(row["catalogue"]),
            escape(sample_name(row["role"])),
            count(row["n"]),
            short(row["lowest"]),
            short(row["median"]),
            short(row["highest"]),
        ]
        for sample in samples
        for row in sample_rows(sample)
    ]
    return table(head, rows)


def role_table(samples: Sequence[SampleStars]) -> str:
    """How many stars of each model train, calibrate its errors, are held out, and test."""
    found = {role for sample in samples for role in sample.roles}
    fixed = [role for role in ("train", "calibrate", "held_out", "held_out_wide") if role in found]
    roles = [*fixed, *sorted(found - set(fixed))]
    head = ["Model<", *(_two_lines(sample_name(role)) for role in roles)]
    rows = [[model_on_page(each.model), *(count(each.roles.get(role, 0)) for role in roles)] for each in samples]
    caption = "Calibration: stars beyond the training cuts that scale the errors only, and do not train."
    return table(head, rows, caption=caption if "calibrate" in found else "")


def _two_lines(name: str) -> str:
    """A head such as ``Held-out|labels beyond the cuts``."""
    return escape(name[0].upper() + name[1:]).replace(" ", "|", 1)


def _signed(value: float) -> str:
    return f"{value:g}".replace("-", "−")
