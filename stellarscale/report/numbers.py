"""The figures of merit of an evaluation, and a run's figures as plain data for JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.stats import coverage, gaussian_fit, robust_sigma
from stellarscale.report.content import Evaluation, ReportContent, StepRow

ONE_SIGMA = 0.682689492137086


@dataclass(frozen=True)
class EvaluationNumbers:
    """Figures of one evaluation; residuals are predicted minus truth, in the label's unit.

    Attributes
    ----------
    n, n_missing : int
        Pairs used, and pairs left out because a member is missing.
    bias : float
        Median residual.
    robust_sigma : float
        1.4826 times the median absolute deviation.
    gaussian_mean, gaussian_sigma : float
        Of a Gaussian fitted to the histogram of residuals; median and robust sigma where it did not converge.
    rmse : float
        Root of the mean squared residual: every star counts, however far off.
    outlier_fraction : float
        Share of stars more than three robust sigmas from the median residual.
    r_squared : float
        Share of the truth's variance explained; NaN when the truth does not vary.
    coverage_68 : float, optional
        Share of stars whose truth lies within one claimed standard deviation; 0.683 for honest errors.
    """

    n: int
    n_missing: int
    bias: float
    robust_sigma: float
    gaussian_mean: float
    gaussian_sigma: float
    gaussian_converged: bool
    rmse: float
    outlier_fraction: float
    r_squared: float
    coverage_68: float | None


def pairs(evaluation: Evaluation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Truth and residual (predicted - truth) of the pairs that have both, as float64.

    Raises
    ------
    ValueError
        If the arrays differ in length.
    """
    predicted = np.asarray(evaluation.predicted, dtype=np.float64)
    truth = np.asarray(evaluation.truth, dtype=np.float64)
    if predicted.shape != truth.shape:
        raise ValueError(
            f"{evaluation.model}: predicted and truth differ in length ({len(predicted)} and {len(truth)})"
        )
    kept = np.isfinite(predicted) & np.isfinite(truth)
    return truth[kept], predicted[kept] - truth[kept]


def summarise(evaluation: Evaluation) -> EvaluationNumbers:
    """Figures of merit of an evaluation; every figure is NaN when no pair is complete."""
    truth, residual = pairs(evaluation)
    missing = len(evaluation.truth) - len(truth)
    if len(residual) == 0:
        nan = math.nan
        return EvaluationNumbers(0, missing, nan, nan, nan, nan, False, nan, nan, nan, None)
    bias, sigma, fit = float(np.median(residual)), robust_sigma(residual), gaussian_fit(residual)
    spread = float(np.mean((truth - truth.mean()) ** 2))
    square = float(np.mean(residual**2))
    return EvaluationNumbers(
        n=len(residual),
        n_missing=missing,
        bias=bias,
        robust_sigma=sigma,
        gaussian_mean=fit.mean,
        gaussian_sigma=fit.sigma,
        gaussian_converged=fit.converged,
        rmse=math.sqrt(square),
        outlier_fraction=float(np.mean(np.abs(residual - bias) > 3 * sigma)),
        r_squared=1 - square / spread if spread > 0 else math.nan,
        coverage_68=_coverage(evaluation),
    )


def _coverage(evaluation: Evaluation) -> float | None:
    if evaluation.error is None:
        return None
    error = np.asarray(evaluation.error, dtype=np.float64)
    residual = np.asarray(evaluation.predicted, dtype=np.float64) - np.asarray(evaluation.truth, dtype=np.float64)
    kept = np.isfinite(error) & np.isfinite(residual) & (error >= 0)
    return coverage(residual[kept], error[kept], ONE_SIGMA) if kept.any() else None


def numbers_json(content: ReportContent) -> dict[str, Any]:
    """Every figure of the page as plain data: numbers that are not finite become None."""
    return _plain(
        {
            "title": content.title,
            "rows": content.rows,
            "seconds": sum(step.seconds for step in content.steps),
            "steps": [_step(step) for step in content.steps],
            "evaluations": [_evaluation(evaluation) for evaluation in content.evaluations],
            "importances": {
                each.model: dict(zip(each.names, each.values, strict=True)) for each in content.importances
            },
            "flag_counts": content.flag_counts,
            "versions": content.versions,
            "digests": content.digests,
            "notes": list(content.notes),
        }
    )


def _step(step: StepRow) -> dict[str, Any]:
    return asdict(step) | {"rows_per_second": step.rate}


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    named = {name: getattr(evaluation, name) for name in ("model", "label", "unit", "against", "n_train", "oob_score")}
    return named | {"comparisons": evaluation.comparisons} | asdict(summarise(evaluation))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
