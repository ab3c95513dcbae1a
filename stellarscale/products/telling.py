"""Summaries of commands as text for a terminal."""

from __future__ import annotations

from typing import Any

_MOST_ITEMS = 6  # of a list inside of a line


def summary_text(summary: dict[str, Any]) -> str:
    """A summary, an entry a line; lists of records as tables."""
    width = max((len(key) for key in summary), default=0)
    told = []
    for key, value in summary.items():
        label = key.replace("_", " ")
        if isinstance(value, list):
            told.append(f"{label}:" + ("" if value else " none"))
            told += [f"  {line}" for line in _lines(value)]
        else:
            told.append(f"{label:<{width}}  {_line(value)}")
    return "\n".join(told)


def _lines(items: list[Any]) -> list[str]:
    """One line per item; records of the same keys as a table with those as its head."""
    if not items or not all(isinstance(item, dict) and item.keys() == items[0].keys() for item in items):
        return [_line(item) for item in items]
    table = [[key.replace("_", " ") for key in items[0]], *([_line(cell) for cell in item.values()] for item in items)]
    widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_line(item)}" for key, item in value.items()) or "none"
    if value is None:
        return "-"
    if isinstance(value, list) and len(value) > _MOST_ITEMS:
        return f"{', '.join(map(_line, value[:2]))}, ... {_line(value[-1])} ({len(value):,} in all)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
