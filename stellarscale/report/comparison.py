"""Other methods beside the forest: one table of accuracy, time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from stellarscale.report.content import ExtraSection
from stellarscale.report.labels import count, duration, sample_name, several, short
from stellarscale.report.tables import NONE, table


def method_table(records: Sequence[Mapping[str, Any]]) -> str:
    """One row per model, set of test stars and method, the forest first; a method that failed says why.

    Parameters
    ----------
    records : sequence of mapping
        As ``comparison.json`` has them.
    """
    head = [
        "Model<|stars", "Method<", "Stars", "Robust σ|1.48 MAD", "Beside|the forest", "Bias|median", "Fit σ", "RMSE",
        "Training", "Prediction|stars/s", "Memory|peak, MB",
    ]  # fmt: skip
    rows = [cells for model in _in_order(records, "model") for cells in _model_rows(records, model)]
    caption = (
        "Every method trains and tests on the same stars; residuals are predicted − label. Training: wall-clock "
        "time on as many threads as given, other fits beside it included; of the forest: of one thread, added over its "
        "trees. Peak memory: of the whole process that did it."
    )
    return table(head, rows, caption=caption)


def comparison_section(records: Sequence[Mapping[str, Any]]) -> ExtraSection:
    """The section of the page."""
    return ExtraSection(
        key="methods", title="Other methods", html=method_table(records), numbers=[dict(record) for record in records]
    )


def _model_rows(records: Sequence[Mapping[str, Any]], model: str) -> list[list[str]]:
    mine = [record for record in records if record["model"] == model]
    done = [record for record in mine if "failed" not in record]
    tests = list(dict.fromkeys(test for record in done for test in record["against"]))
    rows = []
    for test in tests:
        forest = next(
            (r["against"][test]["sigma"] for r in done if r["kind"] == "forest" and test in r["against"]), None
        )
        best = min(record["against"][test]["sigma"] for record in done if test in record["against"])
        rows += [_cells(record, test, forest, best) for record in done if test in record["against"]]
    return rows + [_failed(record) for record in mine if "failed" in record]


def _cells(record: Mapping[str, Any], test: str, forest: float | None, best: float) -> list[str]:
    numbers = record["against"][test]
    sigma = short(numbers["sigma"])
    threads = record.get("threads")
    seconds, rate, memory = (record.get(name) for name in ("fit_seconds", "predict_rows_per_second", "peak_memory_mb"))
    return [
        f"{escape(record['model'])}<small>{escape(sample_name(test))}</small>",
        escape(record["method"]) + (f"<small>{several(threads, 'thread')}</small>" if threads else ""),
        count(numbers["n"]),
        f"<b>{sigma}</b>" if numbers["sigma"] == best else sigma,
        f"{100 * (numbers['sigma'] / forest - 1):+.1f} %".replace("-", "−") if forest else NONE,
        short(numbers["bias"]),
        short(numbers["gaussian_sigma"]),
        short(numbers["rmse"]),
        NONE if seconds is None else duration(seconds),
        count(rate),
        count(memory),
    ]


def _failed(record: Mapping[str, Any]) -> list[str]:
    reason = f'<td class="wrap">{escape(record["method"])}<em>failed: {escape(record["failed"])}</em></td>'
    return [escape(record["model"]), reason, *[NONE] * 9]


def _in_order(records: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    return list(dict.fromkeys(record[name] for record in records))
