"""Tables of a report on images: networks beside other methods (paper III, Tables 1 and 2), and what early looks saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from stellarscale.report.labels import count, on_page, short
from stellarscale.report.tables import NONE, table

Record = Mapping[str, Any]

NETWORK = "network"
ALGORITHMS = {"random_forest": "RF", "xgboost": "XGBoost", "lightgbm": "LightGBM", "catboost": "CatBoost"}
FEATURES = {"magnitudes": "mag", "colours": "color", "both": "mag&color", "image": "image"}
GROUPS = {
    "all": "All stars",
    "high": "High-quality sample",
    "low": "Low-quality sample",
    "neighbours": "Stars with a neighbour within 15 arcsec",
    "isolated": "Stars without a neighbour within 15 arcsec",
}
LABELS = {"teff": "Teff", "logg": "log g", "fe_h": "[Fe/H]"}
FIGURES = ("sigma", "std", "bias")


def method_title(record: Record) -> str:
    """Name of a method as paper III has it: ``CatBoost_mag&color``; networks are ACF and ACPF."""
    if record["algorithm"] == NETWORK:
        return str(record["method"])
    algorithm, features = record["algorithm"], record["features"]
    return f"{ALGORITHMS.get(algorithm, algorithm)}_{FEATURES.get(features, features)}"


def groups_in(records: Sequence[Record]) -> list[str]:
    """Groups of stars of the records, the whole first; those that hold the same stars as the whole are left out."""
    done = [record["groups"] for record in records if "failed" not in record]
    names = dict.fromkeys(name for groups in done for name in groups)
    return [
        name
        for name in names
        if name == "all" or any(0 < groups[name]["n"] < groups["all"]["n"] for groups in done if name in groups)
    ]


def table_rows(records: Sequence[Record], group: str) -> list[dict[str, Any]]:
    """One row per method, with the figures of each label with and without parallax, for one group of stars.

    Returns
    -------
    list of dict
        ``group``, ``method``, and ``<label>_<figure>_<with|without>`` and ``<label>_n_<with|without>``; figures are
        ``sigma`` (robust), ``std`` and ``bias`` (median). None where a method failed or has no stars.
    """
    rows: dict[str, dict[str, Any]] = {}
    for record in records:
        title = method_title(record)
        row = rows.setdefault(title, {"group": group, "method": title})
        ending = "with" if record["parallax"] else "without"
        found = record.get("groups", {}).get(group, {})
        for figure in (*FIGURES, "n"):
            row[f"{record['label']}_{figure}_{ending}"] = found.get(figure)
    return list(rows.values())


def comparison_rows(records: Sequence[Record], group: str, figure: str = "sigma") -> str:
    """Table like the paper's: a row per method, for each label a figure with and without parallax.

    The one nearest to zero is bold.
    """
    labels = list(dict.fromkeys(record["label"] for record in records))
    rows = table_rows(records, group)
    columns = [(label, ending) for label in labels for ending in ("with", "without")]
    least = {
        column: min(
            (value for row in rows if (value := _value(row, column, figure)) is not None), key=abs, default=None
        )
        for column in columns
    }
    head = ["Method_features<"]
    head += [f"{escape(LABELS.get(label, label))}|{ending} parallax" for label, ending in columns]
    cells = [
        [escape(row["method"]), *(_bold(_value(row, each, figure), least[each]) for each in columns)] for row in rows
    ]
    stars = [row.get(f"{label}_n_{ending}") for row in rows for label, ending in columns]
    number = {value for value in stars if value is not None}
    best = "nearest to 0" if figure == "bias" else "least"
    caption = f"{_told(figure)} of network or method − label for {_range(number)} held-out stars; the {best} in bold."
    return table(head, cells, caption=caption)


def failure_table(records: Sequence[Record]) -> str:
    """Methods that failed, and why; empty if none did."""
    failed = [record for record in records if "failed" in record]
    if not failed:
        return ""
    cells = [
        [
            escape(method_title(record)),
            on_page(record["label"]),
            "with" if record["parallax"] else "without",
            f'<td class="wrap">{escape(record["failed"])}</td>',
        ]
        for record in failed
    ]
    return table(["Method_features<", "Label<", "Parallax<", "Failed<"], cells)


def search_table(records: Sequence[Record]) -> str:
    """What the searches chose; folded, because it is long."""
    chosen = [record for record in records if "params" in record]
    if not chosen:
        return ""
    cells = [
        [
            escape(method_title(record)),
            on_page(record["label"]),
            "with" if record["parallax"] else "without",
            count(record["n_train"]),
            short(record["search_rmse"]),
            count(len(record["search_history"])),
            f"{record['fit_seconds']:.1f}",
            f'<td class="wrap">{_params(record["params"])}</td>',
        ]
        for record in chosen
    ]
    head = [
        "Method_features<", "Label<", "Parallax<", "Trained|on stars", "RMSE|of the search", "Trials", "Time|s",
        "Hyper-parameters<",
    ]  # fmt: skip
    return "<details><summary>Hyper-parameters that the searches chose</summary>" + table(head, cells) + "</details>"


def early_look_table(looks: Mapping[str, Mapping[str, Any]]) -> str:
    """Residuals of the validation stars at the early look of each network, beside those of the mean label."""
    head = ["Network<", "Epoch", "Label<", "Stars", "Bias|median", "Robust σ", "Robust σ|of the mean label"]
    cells = [
        [
            escape(name),
            count(look["epoch"]),
            on_page(label),
            count(found["n"]),
            short(found["bias"]),
            short(found["sigma"]),
            short(found["mean_predictor_sigma"]),
        ]
        for name, look in looks.items()
        for label, found in look["labels"].items()
    ]
    return table(head, cells)


def _value(row: Mapping[str, Any], column: tuple[str, str], figure: str) -> float | None:
    return row.get(f"{column[0]}_{figure}_{column[1]}")


def _bold(value: float | None, least: float | None) -> str:
    if value is None:
        return NONE
    return f"<b>{short(value)}</b>" if value == least else short(value)


def _told(figure: str) -> str:
    return {"sigma": "Robust σ", "std": "Standard deviation", "bias": "Median"}[figure]


def _range(numbers: set[int]) -> str:
    if not numbers:
        return "no"
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _params(params: Mapping[str, Any]) -> str:
    return escape(
        ", ".join(f"{name} {short(value) if isinstance(value, float) else value}" for name, value in params.items())
    )
