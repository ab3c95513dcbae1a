"""What catalogues say about the mock M stars: each on its own scale, with noise, gaps and a few gross errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stellarscale.simulate import stars
from stellarscale.simulate.plan import Columns

LABELS = ("teff", "logg", "m_h")
WRONG_SHARE = 0.02
_TOP = (400.0, 0.6, 0.5)


class MScale(NamedTuple):
    """Offset from the truth and Gaussian noise, for Teff (K), log g and [M/H] (dex)."""

    offset: tuple[float, float, float]
    noise: tuple[float, float, float]


# StarHorse is the standard. What has to be added to ASPCAP is paper II's (Figs 5, 6): dwarfs -87, +0.05, +0.02, giants
# -156, -0.16, +0.17. The old LASPM puts log g 0.27 to 0.63 too high and [M/H] 0.25 too low (paper II, introduction).
# Qiu23 was trained on ASPCAP and shares its scale; Ding22's offsets are invented.
SCALES: dict[tuple[str, int], MScale] = {
    ("starhorse_edr3", stars.DWARF): MScale((0.0, 0.0, 0.0), (35.0, 0.05, 0.06)),
    ("starhorse_edr3", stars.GIANT): MScale((0.0, 0.0, 0.0), (25.0, 0.06, 0.06)),
    ("apogee_dr17", stars.DWARF): MScale((87.0, -0.05, -0.02), (30.0, 0.05, 0.05)),
    ("apogee_dr17", stars.GIANT): MScale((156.0, 0.16, -0.17), (20.0, 0.06, 0.05)),
    ("ding2022", stars.DWARF): MScale((-48.0, 0.09, -0.12), (40.0, 0.07, 0.08)),
    ("qiu2023", stars.GIANT): MScale((150.0, 0.15, -0.16), (25.0, 0.07, 0.06)),
    ("lamost_lrs_mstellar", stars.DWARF): MScale((5.0, 0.27, -0.25), (50.0, 0.09, 0.10)),
    ("lamost_lrs_mstellar", stars.GIANT): MScale((40.0, 0.63, -0.25), (80.0, 0.25, 0.18)),
}


def labelled(
    target: Columns, survey: str, rng: np.random.Generator, *, worse: NDArray | float = 1.0
) -> tuple[Columns, NDArray[np.bool_]]:
    """Labels as a catalogue gives them.

    Parameters
    ----------
    target : dict of ndarray
        True stars, all of kinds that the catalogue has a scale for.
    survey : str
        First half of a key of ``SCALES``.
    rng : numpy.random.Generator
        The catalogue's stream.
    worse : ndarray or float
        Factor of the noise, for low signal to noise.

    Returns
    -------
    columns : dict of ndarray
        ``teff``, ``logg``, ``m_h`` and their ``_err``.
    wrong : ndarray of bool
        The stars that the catalogue gets wrong by several hundred kelvin or half a dex.
    """
    n = len(target["kind"])
    wrong = rng.random(n) < WRONG_SHARE
    out: Columns = {}
    for place, name in enumerate(LABELS):
        offset, noise = np.zeros(n), np.zeros(n)
        for (owner, kind), scale in SCALES.items():
            if owner == survey:
                offset[target["kind"] == kind] = scale.offset[place]
                noise[target["kind"] == kind] = scale.noise[place]
        sigma = noise * worse
        gross = wrong * _TOP[place] * rng.choice([-1.0, 1.0], n) * rng.uniform(0.7, 1.3, n)
        out[name] = target[name] + offset + sigma * rng.standard_normal(n) + gross
        out[f"{name}_err"] = sigma * np.exp(rng.normal(0.0, 0.3, n))
    return out, wrong


def described() -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """The table for the manifest: by survey and class, offset and noise of each label."""
    out: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for (survey, kind), scale in SCALES.items():
        named = {key: dict(zip(LABELS, values, strict=True)) for key, values in scale._asdict().items()}
        out.setdefault(survey, {})["giant" if kind == stars.GIANT else "dwarf"] = named
    return out
