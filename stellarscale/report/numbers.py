"""The figures of merit of an evaluation, and a run's figures as plain data for JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.stats import Binned, binned, gaussian_fit, robust_sigma
from stellarscale.report.content import ClassHistograms, ClusterResult, Evaluation, ReportContent, SampleStars, StepRow
from stellarscale.report.coverage import coverage_rows, novelty_row, share_inside

FEWEST_PER_BIN = 10
EVALUATION_FIELDS = ("model", "label", "unit", "against", "group", "kind", "n_train", "oob_score", "note")


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
    coverage_68, coverage_95 : float, optional
        Share of stars whose truth lies within the claimed intervals; 0.683 and 0.95 for honest errors.
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
    coverage_95: float | None = None


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
        coverage_68=share_inside(evaluation, evaluation.error),
        coverage_95=share_inside(evaluation, evaluation.error95),
    )


def numbers_json(content: ReportContent) -> dict[str, Any]:
    """Every figure of the page as plain data: numbers that are not finite become None."""
    return plain(
        {
            "title": content.title,
            "rows": content.rows,
            "seconds": sum(step.seconds for step in content.steps),
            "steps": [_step(step) for step in content.steps],
            "evaluations": [_evaluation(evaluation) for evaluation in content.evaluations],
            "coverage": [asdict(row) for row in _coverage(content)],
            "extrapolated": [asdict(row) for row in map(novelty_row, content.evaluations) if row],
            "trends": [row for each in content.evaluations for row in trend_rows(each)],
            "samples": [row for sample in content.samples for row in sample_rows(sample)],
            "stars_of_models": {sample.model: sample.roles for sample in content.samples if sample.roles},
            "clusters": [cluster_row(cluster) for cluster in content.clusters],
            "metallicity": class_rows(content.metallicity) if content.metallicity else [],
            **{extra.key: extra.numbers for extra in content.extras if extra.numbers is not None},
            "importances": {
                each.model: dict(zip(each.names, each.values, strict=True)) for each in content.importances
            },
            "flag_counts": content.flag_counts,
            "versions": content.versions,
            "digests": content.digests,
            "notes": list(content.notes),
        }
    )


def trend_of(truth: NDArray, residual: NDArray) -> Binned | None:
    """Bias and sigma in up to 14 equal bins over the bulk of the truth; None when there are too few stars."""
    if len(truth) < 5 * FEWEST_PER_BIN:
        return None
    low, high = np.percentile(truth, [0.5, 99.5])
    if not high > low:
        return None
    bins = int(np.clip(len(truth) // (3 * FEWEST_PER_BIN), 3, 14))
    trend = binned(truth, residual, np.linspace(low, high, bins + 1), min_count=FEWEST_PER_BIN)
    return trend if np.isfinite(trend.bias).sum() >= 2 else None


def trend_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Bias and sigma against the label, a row per bin with enough stars (paper I, Fig. 8)."""
    trend = trend_of(*pairs(evaluation))
    if trend is None:
        return []
    named = {name: getattr(evaluation, name) for name in ("model", "label", "against", "group")}
    rows = zip(trend.edges[:-1], trend.edges[1:], trend.count, trend.bias, trend.sigma, strict=True)
    return [
        named | {"low": low, "high": high, "n": n, "bias": bias, "sigma": sigma}
        for low, high, n, bias, sigma in rows
        if np.isfinite(bias)
    ]


def _coverage(content: ReportContent) -> list[Any]:
    return [row for each in content.evaluations for row in coverage_rows(each, content.class_names)]


def sample_rows(sample: SampleStars) -> list[dict[str, Any]]:
    """Stars of a model by catalogue and role, with the median and the range of their labels."""
    rows = []
    for number, (source, role) in enumerate(sample.kinds):
        chosen = sample.value[sample.kind == number]
        if not len(chosen):
            continue
        low, median, high = np.percentile(chosen, [0, 50, 100]).tolist()
        named = {"model": sample.model, "label": sample.label, "catalogue": source, "role": role}
        rows.append(named | {"n": len(chosen), "lowest": low, "median": median, "highest": high})
    return rows


def cluster_row(cluster: ClusterResult) -> dict[str, Any]:
    """What a cluster gives beside the literature; numbers are None unless it was measured."""
    fit = gaussian_fit(cluster.values) if cluster.measured else None
    return {
        "cluster": cluster.name,
        "label": cluster.label,
        "status": cluster.status,
        **cluster.counts,
        "mean": fit.mean if fit else None,
        "sigma": fit.sigma if fit else None,
        "converged": fit.converged if fit else None,
        "literature": cluster.literature,
        "difference": fit.mean - cluster.literature if fit else None,
        "reference": cluster.reference,
    }


def class_rows(histograms: ClassHistograms) -> list[dict[str, Any]]:
    """Stars of each class with a value, and the number and share of those at or below each limit."""
    rows = []
    for name, total, below in zip(histograms.names, histograms.total, histograms.below, strict=True):
        row: dict[str, Any] = {"class": name, "label": histograms.label, "n": int(total)}
        for limit, number in zip(histograms.limits, below, strict=True):
            row[f"n_below_{limit:g}"] = int(number)
            row[f"share_below_{limit:g}"] = float(number / total) if total else None
        rows.append(row)
    return rows


def _step(step: StepRow) -> dict[str, Any]:
    return asdict(step) | {"rows_per_second": step.rate}


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    named = {name: getattr(evaluation, name) for name in EVALUATION_FIELDS}
    return named | {"comparisons": evaluation.comparisons} | asdict(summarise(evaluation))


def plain(value: Any) -> Any:
    """The value as JSON takes it: numpy numbers as Python's, what is not finite as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
