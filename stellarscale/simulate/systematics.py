"""How the label catalogues of the mock differ from its truth: one table of offsets and noise for code and manifest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stellarscale.simulate.plan import Columns

PARAMETERS = ("teff_k", "logg", "fe_h")


class Scale(NamedTuple):
    """Offset from the truth and Gaussian noise at good signal to noise, for Teff (K), log g and [Fe/H] (dex)."""

    offset: tuple[float, float, float]
    noise: tuple[float, float, float]


# LAMOST trains the forests, so its scale is the truth's. The nine papers' [Fe/H] and H23's Teff are off by what paper I
# reports (its sections 2.3 and 3.4); the other offsets are of the size that surveys usually differ by.
SCALES = {
    "lamost_lrs_stellar": Scale((0.0, 0.0, 0.0), (60.0, 0.10, 0.07)),
    "apogee_dr17": Scale((15.0, 0.02, 0.01), (50.0, 0.06, 0.04)),
    "rave_dr5": Scale((-25.0, 0.05, 0.04), (90.0, 0.18, 0.13)),
    "pastel": Scale((20.0, -0.03, -0.02), (60.0, 0.10, 0.06)),
    "vmp_papers": Scale((-40.0, -0.10, -0.427), (100.0, 0.20, 0.10)),
    "huang2023": Scale((50.0, 0.0, 0.01), (60.0, 0.0, 0.09)),
    "andrae2023": Scale((-10.0, 0.03, -0.03), (60.0, 0.10, 0.10)),
}


def measured(
    star: Columns, survey: str, parameter: str, rng: np.random.Generator, *, worse: NDArray | float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A parameter as a catalogue gives it, and the sigma of its noise, both shape (n,).

    Parameters
    ----------
    star : dict of ndarray
        True stars.
    survey, parameter : str
        A key of ``SCALES``, and one of ``PARAMETERS``.
    worse : ndarray or float
        Factor of the noise, for low signal to noise.
    """
    place = PARAMETERS.index(parameter)
    scale, true = SCALES[survey], star[parameter]
    sigma = np.broadcast_to(scale.noise[place] * np.asarray(worse), true.shape)
    return true + scale.offset[place] + sigma * rng.standard_normal(len(true)), sigma


def described() -> dict[str, dict[str, dict[str, float]]]:
    """The table for the manifest: by survey, the offset and the noise of each parameter."""
    return {
        survey: {kind: dict(zip(PARAMETERS, values, strict=True)) for kind, values in scale._asdict().items()}
        for survey, scale in SCALES.items()
    }
