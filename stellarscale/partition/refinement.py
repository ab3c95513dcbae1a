"""The refinement of labels as the matching of spectra calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError
from stellarscale.settings.spectra_matching import SpectraMatching

if TYPE_CHECKING:
    from stellarscale.kernels.label_refine import Refiner
    from stellarscale.kernels.template_match import Matches

LOGARITHMIC = "teff"
"""The label that spans a factor, whose logarithm is regressed."""


@dataclass(frozen=True, eq=False)
class LabelRefinement:
    """A refiner, which labels it serves (bool, (n_labels,)), and the S/N of spectra without errors."""

    refiner: Refiner
    served: NDArray[np.bool_]
    assumed_snr: float

    def __call__(self, flux: NDArray, ivar: NDArray, matches: Matches) -> NDArray[np.float64]:
        """Labels (n, n_labels); NaN where the combination's stay."""
        from stellarscale.kernels.label_refine import refine

        labels = refine(flux, self._to_scale(flux, ivar), matches, self.refiner).labels
        labels[:, ~self.served] = np.nan
        return labels

    def _to_scale(self, flux: NDArray, ivar: NDArray) -> NDArray[np.float32]:
        """Inverse variances, those that only mask made such as the assumed S/N has: the regression weighs by them."""
        unknown = np.flatnonzero(((ivar == 0) | (ivar == 1)).all(axis=1) & (ivar == 1).any(axis=1))
        if not len(unknown):
            return ivar
        scaled = np.array(ivar, dtype=np.float32)
        for row in unknown:
            level = abs(float(np.median(flux[row, ivar[row] == 1])))
            scaled[row] *= (self.assumed_snr / level) ** 2 if level > 0 else 1.0
        return scaled


def label_refinement(
    flux: NDArray[np.float32], labels: NDArray[np.float64], settings: SpectraMatching
) -> LabelRefinement | None:
    """Learn the refinement from references; None where the settings have none.

    Parameters
    ----------
    flux : ndarray of float32, shape (n_ref, n_pix)
        The references as the matcher has them.
    labels : ndarray of float64, shape (n_ref, n_labels)
        In the order of ``settings.labels``.
    settings : SpectraMatching

    Raises
    ------
    InputError
        If the references are too few, or a temperature is not positive.
    """
    given = settings.refinement
    if given is None:
        return None
    from stellarscale.kernels.label_refine import RefineConfig, prepare_refiner

    place = settings.labels.index(LOGARITHMIC) if LOGARITHMIC in settings.labels else None
    components = min(given.components, *(max(size - 1, 1) for size in flux.shape))
    config = RefineConfig(components, given.whitening, given.length, log_label=place)
    try:
        refiner = prepare_refiner(flux, labels, order=settings.order, config=config)
    except ValueError as error:
        raise InputError("the references cannot refine labels", seen=error, cause="matching.refinement") from error
    served = np.array([not given.labels or label in given.labels for label in settings.labels])
    return LabelRefinement(refiner, served, given.assumed_snr)
