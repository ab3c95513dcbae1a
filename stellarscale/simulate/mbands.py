"""Bands and lines of M stars: where they lie (Angstrom, vacuum), how they look, and what makes them strong."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx

RESOLUTION = 1800.0
FOREST_STEP_DEX = 2.2e-4


class Band(NamedTuple):
    """A molecular band: a sharp blue head, and absorption that fades to the red with a scale in Angstrom."""

    head_aa: float
    fade_aa: float
    strength: float


class Line(NamedTuple):
    """An atomic line: Gaussian core of the instrument's width, with Lorentzian wings of ``wing_aa``."""

    wave_aa: float
    wing_aa: float
    strength: float


# Band heads after the compilations of Kirkpatrick et al. (1991, ApJS 77, 417), moved to vacuum by eye. Their strengths
# are those of a picture, not of a line list: enough to look like M stars at a resolving power of 1800.
BANDS: dict[str, tuple[Band, ...]] = {
    "tio_blue": (
        Band(4586, 40, 0.45), Band(4762, 45, 0.9), Band(4956, 55, 1.1), Band(5169, 60, 1.2), Band(5450, 55, 0.9),
        Band(5499, 25, 0.25), Band(5599, 20, 0.3), Band(5631, 40, 0.3), Band(5661, 40, 0.2),
    ),
    "tio_yellow": (
        Band(5848, 90, 0.5), Band(5899, 40, 0.1), Band(6160, 120, 0.36), Band(6189, 90, 0.18), Band(6216, 80, 0.1),
        Band(6270, 60, 0.08), Band(6323, 90, 0.08),
    ),
    "tio_red": (
        Band(6653, 100, 0.20), Band(6683, 90, 0.16), Band(6716, 120, 0.14), Band(7056, 70, 0.40), Band(7090, 85, 0.34),
        Band(7127, 110, 0.32), Band(7200, 90, 0.1),
    ),
    "tio_far": (
        Band(7592, 90, 0.24), Band(7630, 80, 0.17), Band(7668, 110, 0.24), Band(7708, 90, 0.12), Band(7822, 80, 0.07),
        Band(8208, 60, 0.05), Band(8253, 70, 0.06), Band(8305, 80, 0.05), Band(8862, 100, 0.22), Band(8940, 60, 0.08),
    ),
    "tio_epsilon": (Band(8434, 35, 0.24), Band(8445, 40, 0.18), Band(8455, 60, 0.18), Band(8516, 60, 0.06)),
    "cah": (
        Band(6348, 25, 0.14), Band(6384, 40, 0.30), Band(6755, 80, 0.20), Band(6831, 60, 0.30), Band(6905, 45, 0.36),
        Band(6948, 60, 0.42),
    ),
    "vo": (
        Band(7336, 70, 0.45), Band(7394, 60, 0.25), Band(7853, 70, 0.45), Band(7900, 55, 0.25), Band(8524, 60, 0.3),
        Band(8580, 60, 0.22),
    ),
    "caoh": (Band(5532, 28, 0.5), Band(6232, 24, 0.22)),
    "mgh": (Band(4776, 35, 0.3), Band(5007, 30, 0.35), Band(5130, 55, 0.6)),
    "cn": (Band(7870, 35, 0.08), Band(7898, 40, 0.08), Band(8066, 45, 0.1), Band(8178, 50, 0.06), Band(8320, 40, 0.05)),
}  # fmt: skip
LINES: dict[str, tuple[Line, ...]] = {
    "na_k": (
        Line(5891.6, 5.0, 1.0), Line(5897.6, 5.0, 0.9), Line(7667.0, 4.0, 0.5), Line(7701.1, 4.0, 0.45),
        Line(8185.5, 3.0, 0.42), Line(8197.1, 3.2, 0.5),
    ),
    "caii": (Line(8500.4, 1.2, 0.32), Line(8544.4, 2.0, 0.62), Line(8664.5, 1.8, 0.52)),
    "cai": (Line(4227.9, 9.0, 1.6), Line(6104.4, 0.8, 0.2), Line(6123.9, 0.9, 0.25), Line(6163.9, 1.0, 0.25)),
    "barium": (Line(6498.7, 0.6, 0.16), Line(6143.4, 0.6, 0.1), Line(6345.0, 0.6, 0.08)),
    "halpha": (Line(6564.6, 0.8, 0.28), Line(4862.7, 0.8, 0.2)),
    "h_emission": (Line(6564.6, 0.6, -0.9), Line(4862.7, 0.6, -0.8), Line(4341.7, 0.6, -0.6)),
}  # fmt: skip
# Many weak lines that no resolution of 1800 tells apart: a fixed random pattern, one for each thing it depends on.
FORESTS = ("tio_forest", "metal_forest", "gravity_forest")
# What lies between the heads: the wings of countless TiO bands, which dim everything blueward of 7000 Angstrom.
HAZE = "tio_haze"
FEATURES = (*BANDS, *LINES, *FORESTS, HAZE)


@lru_cache(maxsize=8)
def _profiles(key: bytes, n_pix: int) -> NDArray[np.float64]:
    wave = np.frombuffer(key, dtype=np.float64, count=n_pix)
    rows = [sum(band.strength * band_profile(wave, band) for band in bands) for bands in BANDS.values()]
    rows += [sum(line.strength * line_profile(wave, line) for line in lines) for lines in LINES.values()]
    rows += [forest_profile(wave, number) for number in range(len(FORESTS))]
    rows.append(1.0 / (1.0 + np.exp((wave - 6850.0) / 200.0)))
    out = np.array(rows)
    out.setflags(write=False)
    return out


def feature_profiles(wave_aa: NDArray) -> NDArray[np.float64]:
    """Optical depth of each of ``FEATURES`` at unit amount, shape (n_features, n_pix); kept for the next call."""
    wave = np.ascontiguousarray(wave_aa, dtype=np.float64)
    return _profiles(wave.tobytes(), wave.size)


def band_profile(wave_aa: NDArray, band: Band) -> NDArray[np.float64]:
    """A step that fades exponentially, seen through the instrument: in closed form, no convolution."""
    sigma = band.head_aa / RESOLUTION / 2.3548
    rate = sigma / band.fade_aa
    x = (wave_aa - band.head_aa) / sigma
    # erfcx keeps the product exp(rate^2/2 - rate x) erfc((rate - x) / sqrt 2) from overflowing on the blue side.
    y = np.clip((rate - x) / np.sqrt(2.0), -25.0, None)
    blue = 0.5 * erfcx(np.maximum(y, 0.0)) * np.exp(-0.5 * x**2)
    red = 0.5 * erfcx(y) * np.exp(-(y**2)) * np.exp(np.minimum(0.5 * rate**2 - rate * x, 50.0))
    return np.where(y > 0.0, blue, red)


def line_profile(wave_aa: NDArray, line: Line) -> NDArray[np.float64]:
    """Core plus a third of wings; the peak is 1."""
    sigma = line.wave_aa / RESOLUTION / 2.3548
    x = wave_aa - line.wave_aa
    width = np.hypot(line.wing_aa, sigma)
    return 0.65 * np.exp(-0.5 * (x / sigma) ** 2) + 0.35 / (1.0 + (x / width) ** 2)


def forest_profile(wave_aa: NDArray, number: int) -> NDArray[np.float64]:
    """A smooth random pattern of mean about 0.5 that is the same in every mock, whatever its seed."""
    log = np.log10(np.asarray(wave_aa))
    knots = np.arange(3.5, 4.0, FOREST_STEP_DEX)
    height = np.random.default_rng([1800, number]).gamma(1.2, 0.45, len(knots))
    place = (log - knots[0]) / FOREST_STEP_DEX
    first = np.clip(place.astype(np.int64), 1, len(knots) - 3)
    t = place - first
    # Cubic B-spline weights: twice differentiable, so resampling the mock is benign.
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    pattern = sum(w * height[first + k - 1] for k, w in enumerate(weights)) / 6.0
    return pattern * (0.35 + 0.65 / (1.0 + np.exp((wave_aa - 7000.0) / 400.0)))
