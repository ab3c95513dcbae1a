"""Other people's parameters of the same stars: H23 without gravities, A23 blind above 7000 K."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.simulate import observe, stars
from stellarscale.simulate.files import record_array
from stellarscale.simulate.plan import Columns, SkyPlan
from stellarscale.simulate.systematics import measured
from stellarscale.simulate.text import chosen_text, decimal

HUANG_DTYPE = np.dtype(
    [
        ("source_id", "i8"), ("ra", "f8"), ("dec", "f8"), ("teff", "f4"), ("teff_err", "f4"), ("feh", "f4"),
        ("feh_err", "f4"), ("type", "S5"),
    ]
)  # fmt: skip
HUANG_UNITS = {"ra": "deg", "dec": "deg", "teff": "K", "teff_err": "K"}
ANDRAE_COLUMNS = ["source_id", "ra", "dec", "mh_xgboost", "teff_xgboost", "logg_xgboost", "in_training_sample"]
ANDRAE_TRUSTED_K, ANDRAE_CEILING_K = 6500.0, 7000.0


def observe_huang(sky: Columns, plan: SkyPlan, chunk: int) -> tuple[NDArray, NDArray]:
    """Rows like those of Huang et al. 2023: Teff 50 K too high and [Fe/H] of F, G and K stars, no log g.

    Returns
    -------
    records : ndarray
        Structured rows of ``HUANG_DTYPE``; -9999 where there is no value.
    rows : ndarray of int
        The true star of each row.
    """
    rng = plan.rng(chunk, "huang")
    rows = _common(sky, plan, rng, hottest_k=7500.0)
    star, n = observe.select(sky, rows), len(rows)
    columns: dict = {name: star[name] for name in ("source_id", "ra", "dec")}
    for name, parameter in (("teff", "teff_k"), ("feh", "fe_h")):
        value, sigma = measured(star, "huang2023", parameter, rng, worse=_worse(star))
        lost = rng.random(n) < 0.01
        columns |= {name: np.where(lost, -9999.0, value), f"{name}_err": np.where(lost, -9999.0, sigma)}
    columns["type"] = np.where(star["kind"] == stars.GIANT, b"giant", b"dwarf")
    return record_array(columns, HUANG_DTYPE, n), rows


def observe_andrae(sky: Columns, plan: SkyPlan, chunk: int) -> tuple[dict[str, pa.Array | pa.Scalar], NDArray]:
    """Rows like those of Andrae et al. 2023, whose training set ends at 7000 K: hotter stars pile up below it.

    Returns
    -------
    columns : dict of Arrow arrays
        Native columns in file order, with the positions that their table of vetted giants has.
    rows : ndarray of int
        The true star of each row.
    """
    rng = plan.rng(chunk, "andrae")
    rows = _common(sky, plan, rng, hottest_k=20_000.0)
    star, n = observe.select(sky, rows), len(rows)
    columns: dict[str, pa.Array | pa.Scalar] = {"source_id": pa.array(star["source_id"])}
    columns |= {"ra": decimal(star["ra"], 8), "dec": decimal(star["dec"], 8)}
    value = {
        name: measured(star, "andrae2023", name, rng, worse=_worse(star))[0] for name in ("teff_k", "logg", "fe_h")
    }
    columns |= {"mh_xgboost": decimal(value["fe_h"], 4), "logg_xgboost": decimal(value["logg"], 4)}
    columns["teff_xgboost"] = decimal(_capped(value["teff_k"]), 2)
    columns["in_training_sample"] = chosen_text(["False", "True"], rng.random(n) < 0.01)
    return {name: columns[name] for name in ANDRAE_COLUMNS}, rows


def _common(sky: Columns, plan: SkyPlan, rng: np.random.Generator, *, hottest_k: float) -> NDArray[np.intp]:
    fit = (sky["kind"] <= stars.DWARF) & (sky["teff_k"] > 3900.0) & (sky["teff_k"] < hottest_k) & (sky["mag_g"] < 17.7)
    return observe.biased_choice(fit.astype(float), plan.external_targets * len(fit) / plan.rows, rng)


def _worse(star: Columns) -> NDArray[np.float64]:
    """Growth of the errors with magnitude: unchanged to G = 14, twice as large at 17."""
    return np.maximum(1.0, 1.0 + (star["mag_g"] - 14.0) / 3.0)


def _capped(teff_k: NDArray) -> NDArray[np.float64]:
    span = ANDRAE_CEILING_K - ANDRAE_TRUSTED_K
    above = np.maximum(teff_k - ANDRAE_TRUSTED_K, 0.0)
    return np.minimum(teff_k, ANDRAE_TRUSTED_K) - span * np.expm1(-above / span)
