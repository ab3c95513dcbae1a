"""A scan of hyper-parameters: its scores, and what the page says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np

from stellarscale.report.content import ExtraSection
from stellarscale.report.labels import count, duration, short
from stellarscale.report.tables import NONE, table


@dataclass(frozen=True)
class TreeScore:
    """1 - OOB R^2 of a forest of so many trees, a share of the features tried at each split (null: all)."""

    n_estimators: int
    max_features: float | None
    error: float
    seconds: float


@dataclass(frozen=True)
class DepthScore:
    """1 - OOB R^2 of one forest of a given depth."""

    max_depth: int
    repeat: int
    error: float
    seconds: float


@dataclass(frozen=True)
class TuningScan:
    """The scan of one model.

    Attributes
    ----------
    model : str
    stars : int
        Training stars that it used.
    trees, depths : tuple
        The scores of the two panels of paper I, Fig. 4.
    chosen, used : dict
        ``n_estimators``, ``max_features`` and ``max_depth`` that the scan speaks for, and that the job has.
    """

    model: str
    stars: int
    trees: tuple[TreeScore, ...]
    depths: tuple[DepthScore, ...]
    chosen: Mapping[str, Any]
    used: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TuningScan:
        """What :meth:`to_json` gave."""
        trees = tuple(TreeScore(**score) for score in record["trees"])
        depths = tuple(DepthScore(**score) for score in record["depths"])
        return cls(**{**record, "trees": trees, "depths": depths})

    def curve(self, max_features: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of trees, and 1 - OOB, for one share of the features."""
        scores = [score for score in self.trees if score.max_features == max_features]
        return np.array([score.n_estimators for score in scores]), np.array([score.error for score in scores])

    def mean_by_depth(self) -> tuple[np.ndarray, np.ndarray]:
        """Depths, and 1 - OOB averaged over the repeats."""
        depths = sorted({score.max_depth for score in self.depths})
        means = [np.mean([score.error for score in self.depths if score.max_depth == depth]) for depth in depths]
        return np.array(depths), np.array(means)


def tuning_table(scans: Sequence[TuningScan]) -> str:
    """What each scan speaks for beside what the job uses."""
    head = [
        "Model<", "Stars", "Setting<", "Trees", "Features|share per split", "Depth", "1 − OOB|trees, features",
        "1 − OOB|depth", "Time|all forests",
    ]  # fmt: skip
    rows = [
        _cells(scan, name, setting) for scan in scans for name, setting in (("scan", scan.chosen), ("job", scan.used))
    ]
    caption = (
        "1 − OOB: share of the label's variance that the out-of-bag predictions leave. The scan speaks for the share "
        "of features that is best with most trees, the fewest trees that are as good within its tolerance, and the "
        "depth with the best mean."
    )
    return table(head, rows, caption=caption)


def _cells(scan: TuningScan, name: str, setting: Mapping[str, Any]) -> list[str]:
    trees, errors = scan.curve(setting["max_features"])
    depths, means = scan.mean_by_depth()
    first = name == "scan"
    seconds = sum(score.seconds for score in scan.depths) + sum(
        max(score.seconds for score in scan.trees if score.max_features == share)
        for share in {score.max_features for score in scan.trees}
    )
    return [
        escape(scan.model) if first else "",
        count(scan.stars) if first else "",
        "the scan's choice" if first else "the job's",
        count(setting["n_estimators"]),
        share_text(setting["max_features"]),
        "free" if setting["max_depth"] is None else count(setting["max_depth"]),
        _at(trees, errors, setting["n_estimators"]),
        _at(depths, means, setting["max_depth"]),
        duration(seconds) if first else "",
    ]


def _at(places: np.ndarray, values: np.ndarray, place: int | None) -> str:
    found = values[places == place] if place is not None else values[:0]
    return short(float(found[0]), 4) if len(found) else NONE


def share_text(share: float | None) -> str:
    """A share of the features as the table and the plot call it."""
    return "all" if share is None else short(share, 2)


def tuning_section(scans: Sequence[TuningScan]) -> ExtraSection:
    """The section of the page: the table, and two panels per model."""
    from stellarscale.report.plots_tuning import plot_tuning

    caption = (
        "Left: 1 − OOB score against the number of trees, a line per share of the features. Right: against the depth, "
        "each repeat faint and the mean dashed. Filled star: the scan's choice; open circle: the job's setting."
    )
    figures = tuple(
        (
            plot_tuning(scan),
            f"{scan.model}: out-of-bag error over trees, features and depth",
            f"{scan.model}. {caption}",
        )
        for scan in scans
    )
    return ExtraSection(
        key="tuning",
        title="Hyper-parameters",
        html=tuning_table(scans),
        figures=figures,
        numbers=[scan.to_json() for scan in scans],
    )
