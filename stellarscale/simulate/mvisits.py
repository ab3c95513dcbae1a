"""One row for each mock spectrum: who, when, on which fibre, how bright, and in which file layout."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.wavelength import LIGHT_KMS
from stellarscale.simulate import stars
from stellarscale.simulate.mplan import BAD_KINDS, MStarPlan
from stellarscale.simulate.mstars import draw_m_stars, draw_visits, subclass
from stellarscale.simulate.observe import select
from stellarscale.simulate.plan import Columns
from stellarscale.simulate.spectra import input_positions
from stellarscale.simulate.text import coordinate_name

LAYOUTS = ("pilot", "dr7", "dr10")
LAYOUT_SHARE = (0.15, 0.35, 0.50)
FIRST_NIGHT = {"pilot": 55860, "dr7": 56200, "dr10": 58700}
NIGHTS = {"pilot": 200, "dr7": 2400, "dr10": 1200}
PLATE_ROWS = 60
RV_ERROR_KMS = 5.0
SNR_RANGE = (5.0, 300.0)
ZIPPED_SHARE = {"pilot": 0.1, "dr7": 0.5, "dr10": 0.8}


def plan_visits(plan: MStarPlan) -> tuple[Columns, Columns]:
    """The true stars, and the spectra taken of them.

    Returns
    -------
    sky : dict of ndarray
        From :func:`~stellarscale.simulate.mstars.draw_m_stars`.
    visits : dict of ndarray
        One entry per spectrum: ``star`` (row of ``sky``), ``obsid``, ``designation``, ``layout`` (index into
        ``LAYOUTS``), ``lmjd``, ``planid``, ``spid``, ``fiberid``, ``stem`` (file name without suffixes), ``zipped``,
        ``snr_i``, ``z``, ``z_err``, ``subclass``, ``class``, ``bad`` (one of ``BAD_KINDS`` or empty).
    """
    star = draw_visits(plan)
    sky = draw_m_stars(plan, int(star[-1]) + 1)
    rng = plan.rng("visits", 1)
    n = plan.rows
    visits: Columns = {"star": star, "obsid": 100_000_000 + 7 * np.arange(n, dtype=np.int64)}
    visits["layout"] = rng.choice(len(LAYOUTS), n, p=LAYOUT_SHARE)
    visits |= _plates(visits["layout"], rng)
    target = select(sky, star)
    ra, dec = input_positions(target)
    visits["designation"] = np.char.decode(coordinate_name(ra, dec, prefix="J", decimals=(2, 1)))
    visits["snr_i"] = _signal_to_noise(target, rng)
    worse = np.clip(25.0 / visits["snr_i"], 0.6, 2.5)
    velocity = target["rv_kms"] + RV_ERROR_KMS * worse * rng.standard_normal(n)
    visits |= {"z": np.round(velocity / LIGHT_KMS, 8), "z_err": RV_ERROR_KMS * worse / LIGHT_KMS}
    # The pipeline's subclass is good to one step, worse when the spectrum is poor.
    guess = target["teff"] + rng.normal(0.0, 60.0, n) * worse
    visits |= {"subclass": subclass(guess, target["kind"]), "class": np.full(n, "STAR")}
    visits["bad"] = np.full(n, "", dtype="U13")
    visits["bad"][rng.permutation(n)[: plan.bad_files * len(BAD_KINDS)]] = np.repeat(BAD_KINDS, plan.bad_files)
    return sky, visits


def _signal_to_noise(target: Columns, rng: np.random.Generator) -> NDArray[np.float64]:
    """Like the survey's: mostly 10 to 50 for dwarfs, higher for giants, a repeat of a star differs."""
    giant = target["kind"] == stars.GIANT
    expected = np.where(giant, 55.0 * 10.0 ** (-0.08 * (target["mag_g"] - 12.2)), 0.0)
    expected += np.where(giant, 0.0, 27.0 * 10.0 ** (-0.14 * (target["mag_g"] - 15.6)))
    return np.clip(expected * np.exp(rng.normal(0.0, 0.5, len(giant))), *SNR_RANGE)


def _plates(layout: NDArray, rng: np.random.Generator) -> Columns:
    """Night, plate and fibre: sixty M stars a plate, no fibre used twice, names as in each release."""
    n = len(layout)
    out: Columns = {"lmjd": np.zeros(n, np.int64), "planid": np.zeros(n, "U18"), "stem": np.zeros(n, "U48")}
    out |= {"spid": np.zeros(n, np.int64), "fiberid": np.zeros(n, np.int64), "zipped": np.zeros(n, bool)}
    for number, name in enumerate(LAYOUTS):
        rows = np.flatnonzero(layout == number)
        plate, seat = np.divmod(np.arange(len(rows)), PLATE_ROWS)
        night = FIRST_NIGHT[name] + rng.integers(0, NIGHTS[name], plate.max(initial=0) + 1)
        fibre = seat * (4000 // PLATE_ROWS) + rng.integers(0, 4000 // PLATE_ROWS, len(rows))
        out["lmjd"][rows] = night[plate]
        out["spid"][rows], out["fiberid"][rows] = fibre // 250 + 1, fibre % 250 + 1
        form = "B{:05d}" if name == "pilot" else "HD{:06d}N241312M01"
        out["planid"][rows] = [form.format(p) for p in plate]
        out["zipped"][rows] = rng.random(len(rows)) < ZIPPED_SHARE[name]
    out["stem"] = np.array(
        [
            f"spec-{night}-{plate}_sp{spectrograph:02d}-{fibre:03d}"
            for night, plate, spectrograph, fibre in zip(
                out["lmjd"], out["planid"], out["spid"], out["fiberid"], strict=True
            )
        ]
    )
    return out
