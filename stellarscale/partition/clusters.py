"""Members of one star cluster among the stars around it (paper I, section 3.5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.kernels.clusters import MotionFit, fit_motions, on_ridge, same_parallax
from stellarscale.partition.features import floats
from stellarscale.settings.clusters import StarCluster
from stellarscale.settings.evaluation import ClusterSettings

STAGES = ("precise_motion", "comoving", "same_parallax", "on_ridge", "used")
"""Columns of a member table, each a subset of the one before: what a star has passed."""


@dataclass(frozen=True, eq=False)
class Members:
    """The stars of a cluster's field and how far each came; ``fit`` is None where there was nothing to fit.

    ``stars`` is the input with ``probability`` (float64, null where no motion was used), the boolean columns of
    ``STAGES`` and ``ridge_colour`` (mag, colour of the ridge line at the star's magnitude).
    """

    stars: pa.Table
    fit: MotionFit | None

    def count(self, stage: str) -> int:
        """Stars that passed a stage."""
        return int(np.count_nonzero(self.stars[stage].to_numpy()))


def cluster_members(table: pa.Table, cluster: StarCluster, settings: ClusterSettings) -> Members:
    """Choose the members: precise motions, over-density of motions, parallax, ridge line, precise magnitudes.

    Parameters
    ----------
    table : Table
        The stars around the centre, with the columns ``settings.needed``.
    cluster : StarCluster
        Where to look for the over-density.
    settings : ClusterSettings
        Columns and cuts.
    """
    motion, error, precise = _motions(table, cluster, settings)
    probability = np.full(table.num_rows, np.nan)
    passed = {name: np.zeros(table.num_rows, dtype=bool) for name in STAGES}
    passed["precise_motion"] = precise
    ridge = np.full(table.num_rows, np.nan)
    fit = None
    if np.count_nonzero(precise) >= 5:
        fit = fit_motions(motion[precise], error[precise], (cluster.pmra, cluster.pmdec))
        probability[precise] = fit.probability
    if fit is not None and fit.converged:
        passed["comoving"] = precise & (np.nan_to_num(probability) >= settings.min_probability)
        passed["same_parallax"] = passed["comoving"] & _parallax(table, passed["comoving"], settings)
        passed["on_ridge"] = _on_ridge(table, passed["same_parallax"], ridge, settings)
        passed["used"] = passed["on_ridge"] & _precise_magnitudes(table, settings)
    added = {"probability": pa.array(probability, mask=np.isnan(probability))}
    added |= {name: pa.array(mask) for name, mask in passed.items()}
    added["ridge_colour"] = pa.array(ridge, mask=np.isnan(ridge))
    for name, column in added.items():
        table = table.append_column(name, column)
    return Members(table, fit)


def _motions(
    table: pa.Table, cluster: StarCluster, settings: ClusterSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    names = settings.columns
    motion = np.stack([floats(table, names.pmra), floats(table, names.pmdec)], axis=1)
    error = np.stack([floats(table, names.pmra_error), floats(table, names.pmdec_error)], axis=1)
    near = np.abs(motion - [cluster.pmra, cluster.pmdec]).max(axis=1, initial=0.0) <= settings.motion_window
    return motion, error, near & (error < settings.max_motion_error).all(axis=1)


def _parallax(table: pa.Table, chosen: NDArray[np.bool_], settings: ClusterSettings) -> NDArray[np.bool_]:
    names = settings.columns
    return same_parallax(
        floats(table, names.parallax), floats(table, names.parallax_error), chosen, sigmas=settings.parallax_sigmas
    )


def _on_ridge(
    table: pa.Table, chosen: NDArray[np.bool_], ridge: NDArray[np.float64], settings: ClusterSettings
) -> NDArray[np.bool_]:
    """Which of the chosen are on their ridge line; its colours are filled in."""
    names = settings.columns
    colour, magnitude = floats(table, names.colour)[chosen], floats(table, names.magnitude)[chosen]
    result = np.zeros(table.num_rows, dtype=bool)
    result[chosen], ridge[chosen] = on_ridge(colour, magnitude, sigmas=settings.cmd_sigmas)
    return result


def _precise_magnitudes(table: pa.Table, settings: ClusterSettings) -> NDArray[np.bool_]:
    """Stars with the label and with small errors of the magnitudes it comes from."""
    good = np.isfinite(floats(table, settings.label))
    for name, limit in settings.max_mag_error.items():
        good &= floats(table, name) < limit
    return good
