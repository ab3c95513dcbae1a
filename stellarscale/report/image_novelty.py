"""Stars unlike the training stars of networks on images beside the others, by magnitude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.stats import robust_sigma
from stellarscale.report.content import Evaluation, ExtraSection
from stellarscale.report.coverage import FEWEST, FEWEST_FLAGGED
from stellarscale.report.labels import count, magnitude_in_text, on_page, reference_name, short
from stellarscale.report.tables import percent, table


@dataclass(frozen=True)
class NoveltyBin:
    """Flagged stars and the others of an evaluation between ``low`` and ``low + 1`` mag.

    A sigma is None of fewer than five stars, the share within the claimed 68 % intervals where none is claimed.
    """

    label: str
    against: str
    low: float
    n_others: int
    n_flagged: int
    sigma_others: float | None
    sigma_flagged: float | None
    coverage_68_others: float | None
    coverage_68_flagged: float | None


def novelty_bins(evaluation: Evaluation) -> list[NoveltyBin]:
    """Flagged stars and the others in bins of one magnitude that have 20 stars or more.

    Empty where no star is flagged, or the evaluation tells no magnitudes.
    """
    magnitude, novel = evaluation.magnitude, evaluation.novel
    if magnitude is None or novel is None or not novel.any():
        return []
    residual = np.asarray(evaluation.predicted, dtype=np.float64) - evaluation.truth
    known = np.isfinite(magnitude) & np.isfinite(residual)
    found = []
    for low in np.unique(np.floor(magnitude[known])).tolist():
        inside = known & (magnitude >= low) & (magnitude < low + 1)
        if inside.sum() >= FEWEST:
            sides = [_side(residual, evaluation.error, inside & side) for side in (~novel, novel)]
            counts, sigmas, shares = zip(*sides, strict=True)
            found.append(NoveltyBin(evaluation.label, evaluation.against, low, *counts, *sigmas, *shares))
    return found


def novelty_section(evaluations: Sequence[Evaluation], *, flagged: int, stars: int) -> ExtraSection | None:
    """How many stars are unlike the training stars, and their scatter by magnitude; None where none is flagged.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        Of the catalogue with the truth and other catalogues, and of held-out stars.
    flagged, stars : int
        Stars of the catalogue with the flag, and all.
    """
    found = [(each.magnitude_name, row) for each in evaluations for row in novelty_bins(each)]
    if not flagged and not found:
        return None
    html = (
        f"<p>{count(flagged)} of {count(stars)} stars of the catalogue ({percent(flagged / max(stars, 1))}) are "
        "flagged as EXTRAPOLATED: by their brightness in the bands, a brighter star beside them or, where a network "
        "uses it, their parallax they are unlike the stars that trained it. They have parameters and errors, but "
        "errors are calibrated on stars like the training stars, and may be too small here.</p>"
    )
    if found:
        html += _bin_table(found)
    numbers = {"flagged": flagged, "stars": stars, "by_magnitude": [asdict(row) for _, row in found]}
    return ExtraSection("image_novelty", "Stars unlike the training stars", html, (), numbers)


def _side(
    residual: NDArray[np.float64], error: NDArray[np.floating] | None, chosen: NDArray[np.bool_]
) -> tuple[int, float | None, float | None]:
    """Number, robust sigma and coverage of some stars."""
    n = int(chosen.sum())
    sigma = robust_sigma(residual[chosen]) if n >= FEWEST_FLAGGED else None
    claimed = chosen if error is None else chosen & np.isfinite(error)
    if error is None or not claimed.any():
        return n, sigma, None
    return n, sigma, float(np.mean(np.abs(residual[claimed]) <= error[claimed]))


def _bin_table(rows: Sequence[tuple[str, NoveltyBin]]) -> str:
    head = [
        "Parameter<|reference", "Magnitude<", "Flagged|stars", "Others|stars", "σ flagged", "σ others",
        "68 % flagged", "68 % others",
    ]  # fmt: skip
    cells = [
        [
            f"{on_page(row.label)}<small>{escape(reference_name(row.against))}</small>",
            f"{escape(magnitude_in_text(name))} {row.low:g} – {row.low + 1:g}",
            count(row.n_flagged),
            count(row.n_others),
            short(row.sigma_flagged),
            short(row.sigma_others),
            percent(row.coverage_68_flagged),
            percent(row.coverage_68_others),
        ]
        for name, row in rows
    ]
    caption = "Shares of stars within the claimed 68 % intervals; σ is robust."
    return f"<details><summary>By magnitude</summary>{table(head, cells, caption=caption)}</details>"
