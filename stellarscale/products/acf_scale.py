"""What a million stars would take, from what the steps of a run took (paper III, section 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from stellarscale.products.image_models import TrainedNetwork
from stellarscale.products.steps import Summary
from stellarscale.report.content import ExtraSection
from stellarscale.report.labels import count, duration, short
from stellarscale.report.tables import table
from stellarscale.settings.acf import AcfJob

STARS = 1_000_000
_GROWING = ("stamps", "predict")
_FIXED = ("stamps of labelled stars",)  # of as many stars as there are labels, whatever the catalogue
GIB = 1 << 30


def planned(steps: Sequence[Summary], networks: Sequence[TrainedNetwork], stars: int = STARS) -> list[dict[str, Any]]:
    """Time, storage and memory of each step for so many stars, in proportion to what was measured.

    Parameters
    ----------
    steps : sequence of dict
        Summaries of a run's steps; one that was killed and went on tells no time.
    networks : sequence of TrainedNetwork
        Their training, like the stamps that they learn from, is given for as many labelled stars as there were: it
        does not grow with the catalogue.
    stars : int
        Stars to plan for.

    Returns
    -------
    list of dict
        ``step``, ``rows`` (measured), ``rows_per_s``, ``seconds`` and ``bytes`` for the planned number, and
        ``peak_memory_mb``, which grows with the rows in flight and not with the catalogue.
    """
    found = [
        _planned(step, stars if step["name"] in _GROWING else step["rows_in"])
        for step in steps
        if step["name"] in (*_GROWING, *_FIXED) and _tells(step)
    ]
    for network in networks:
        if {"stars_per_s", "n_train"} <= network.numbers.keys():
            found.append(_training(network))
    return found


def planned_section(steps: Sequence[Summary], networks: Sequence[TrainedNetwork], job: AcfJob) -> ExtraSection | None:
    """The plan as a table; None where nothing was measured."""
    rows = planned(steps, networks)
    if not rows:
        return None
    head = [
        "Step<",
        "Measured on",
        "Rate|rows/s",
        f"Time|{STARS:,} stars",
        f"Storage|GiB, {STARS:,} stars",
        "Peak memory|MB",
    ]
    cells = [
        [
            escape(row["step"]),
            count(row["rows"]),
            short(row["rows_per_s"]),
            duration(row["seconds"]) if row["seconds"] is not None else "–",
            short(row["bytes"] / GIB) if row["bytes"] is not None else "–",
            short(row["peak_memory_mb"]) if row["peak_memory_mb"] is not None else "–",
        ]
        for row in rows
    ]
    stamp = job.stamps.format.nbytes
    html = (
        f"<p>In proportion to what this run took, with the workers it had. A stamp takes {stamp:,} bytes before "
        f"compression. Labelled stars and trainings take the time of their own stars, whatever the catalogue.</p>"
    )
    return ExtraSection("planned", "A million stars", html + table(head, cells), (), rows)


def _tells(step: Summary) -> bool:
    """Whether the step's time is that of all its rows; one that was found finished has the time of its making."""
    return bool(step["rows_in"]) and not step.get("resumed_partitions")


def _planned(step: Mapping[str, Any], stars: int) -> dict[str, Any]:
    rate = step["rows_in"] / max(step["seconds"], 1e-9)
    return {
        "step": step["name"],
        "rows": step["rows_in"],
        "rows_per_s": rate,
        "seconds": stars / rate,
        "bytes": step["bytes"] * stars / step["rows_in"],
        "peak_memory_mb": step.get("peak_memory_mb"),
    }


def _training(network: TrainedNetwork) -> dict[str, Any]:
    numbers = network.numbers
    epochs = len(network.curve)
    return {
        "step": f"training of {network.name}, {epochs} epochs",
        "rows": numbers["n_train"],
        "rows_per_s": numbers["stars_per_s"],
        "seconds": numbers["n_train"] * epochs / max(numbers["stars_per_s"], 1e-9),
        "bytes": None,
        "peak_memory_mb": None,
    }
