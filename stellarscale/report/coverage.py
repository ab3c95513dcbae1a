"""How honest the errors are: residuals and coverage by class and magnitude, and of flagged stars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.stats import robust_sigma
from stellarscale.report.content import Evaluation

FEWEST = 20
FEWEST_FLAGGED = 5
ALL = "all"
BIN_MAG = 1.0
SNR = "S/N"
# Steps of 5 as in paper II, Fig. 17, and wider ones where spectra get rare.
SNR_EDGES = (0, *range(5, 51, 5), 60, 80, 100, 150, 200, 300, 500, 1000)


@dataclass(frozen=True)
class CoverageRow:
    """Residuals and claimed errors of some stars of one evaluation.

    ``coverage_68`` and ``coverage_95`` are the shares of stars whose truth lies in the claimed intervals, 0.683 and
    0.95 for honest errors; None where no such errors were claimed. ``low`` and ``high`` bound the magnitude, or
    the S/N, None for all stars.
    """

    model: str
    label: str
    unit: str
    against: str
    group: str
    low: float | None
    high: float | None
    n: int
    bias: float
    sigma: float
    coverage_68: float | None
    coverage_95: float | None


@dataclass(frozen=True)
class NoveltyRow:
    """Residuals of the stars inside the training sample and of those flagged as outside."""

    model: str
    label: str
    unit: str
    against: str
    n_inside: int
    n_flagged: int
    sigma_inside: float
    sigma_flagged: float
    rmse_inside: float
    rmse_flagged: float
    coverage_68_inside: float | None
    coverage_68_flagged: float | None


def coverage_rows(evaluation: Evaluation, class_names: Mapping[int, str] | None = None) -> list[CoverageRow]:
    """All stars, then bins of one magnitude, or of S/N; and the same for each class where the evaluation has several.

    Groups of fewer than 20 stars are left out, except all stars together.
    """
    residual = _residual(evaluation)
    known = np.isfinite(residual)
    rows = _by_magnitude(evaluation, residual, known, evaluation.group or ALL)
    if evaluation.code is not None:
        for code, name in sorted((class_names or {}).items()):
            chosen = known & (evaluation.code == code)
            if chosen.sum() >= FEWEST:
                rows += _by_magnitude(evaluation, residual, chosen, name)
    return rows


def novelty_row(evaluation: Evaluation) -> NoveltyRow | None:
    """Inside against flagged; None when no star is flagged or the evaluation does not tell."""
    if evaluation.novel is None:
        return None
    residual = _residual(evaluation)
    known = np.isfinite(residual)
    inside, flagged = known & ~evaluation.novel, known & evaluation.novel
    if not inside.any() or not flagged.any():
        return None
    return NoveltyRow(
        model=evaluation.model,
        label=evaluation.label,
        unit=evaluation.unit,
        against=evaluation.against,
        n_inside=int(inside.sum()),
        n_flagged=int(flagged.sum()),
        sigma_inside=robust_sigma(residual[inside]),
        sigma_flagged=robust_sigma(residual[flagged]) if flagged.sum() >= FEWEST_FLAGGED else math.nan,
        rmse_inside=_rmse(residual[inside]),
        rmse_flagged=_rmse(residual[flagged]),
        coverage_68_inside=_share(residual, evaluation.error, inside),
        coverage_68_flagged=_share(residual, evaluation.error, flagged),
    )


def share_inside(evaluation: Evaluation, half_width: NDArray[np.floating] | None) -> float | None:
    """Share of the complete pairs whose truth lies within the claimed half width; None where none is claimed."""
    residual = _residual(evaluation)
    return _share(residual, half_width, np.isfinite(residual))


def share_range(share: float, n: int) -> tuple[float, float]:
    """One-sigma range (Wilson) of a share found among n stars; never empty, nor beyond 0 and 1."""
    middle = (share + 0.5 / n) / (1.0 + 1.0 / n)
    half = math.sqrt(share * (1.0 - share) / n + 0.25 / n**2) / (1.0 + 1.0 / n)
    # Rounding must not put a share of 0 or 1 beyond its own range.
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))


def _by_magnitude(
    evaluation: Evaluation, residual: NDArray[np.float64], chosen: NDArray[np.bool_], group: str
) -> list[CoverageRow]:
    rows = [_row(evaluation, residual, chosen, group, None)]
    magnitude = evaluation.magnitude
    if magnitude is None or not (chosen & np.isfinite(magnitude)).any():
        return rows
    for low, high in _bins(magnitude[chosen & np.isfinite(magnitude)], evaluation.magnitude_name):
        inside = chosen & (magnitude >= low) & (magnitude < high)
        if inside.sum() >= FEWEST:
            rows.append(_row(evaluation, residual, inside, group, (low, high)))
    return rows


def _bins(values: NDArray[np.floating], name: str) -> list[tuple[float, float]]:
    """Whole magnitudes that occur, or steps of S/N where the errors are looked at by that."""
    if name == SNR:
        return list(pairwise(SNR_EDGES))
    return [(BIN_MAG * start, BIN_MAG * (start + 1)) for start in np.unique(np.floor(values / BIN_MAG)).tolist()]


def _row(
    evaluation: Evaluation,
    residual: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    group: str,
    bounds: tuple[float, float] | None,
) -> CoverageRow:
    values = residual[chosen]
    return CoverageRow(
        model=evaluation.model,
        label=evaluation.label,
        unit=evaluation.unit,
        against=evaluation.against,
        group=group,
        low=float(bounds[0]) if bounds else None,
        high=float(bounds[1]) if bounds else None,
        n=len(values),
        bias=float(np.median(values)) if len(values) else math.nan,
        sigma=robust_sigma(values) if len(values) else math.nan,
        coverage_68=_share(residual, evaluation.error, chosen),
        coverage_95=_share(residual, evaluation.error95, chosen),
    )


def _residual(evaluation: Evaluation) -> NDArray[np.float64]:
    predicted = np.asarray(evaluation.predicted, dtype=np.float64)
    return predicted - np.asarray(evaluation.truth, dtype=np.float64)


def _rmse(residual: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(residual**2)))


def _share(
    residual: NDArray[np.float64], half_width: NDArray[np.floating] | None, chosen: NDArray[np.bool_]
) -> float | None:
    """Share of residuals within the claimed half width, of the stars that have one."""
    if half_width is None:
        return None
    width = np.asarray(half_width, dtype=np.float64)
    claimed = chosen & np.isfinite(width) & (width >= 0)
    return float(np.mean(np.abs(residual[claimed]) <= width[claimed])) if claimed.any() else None
