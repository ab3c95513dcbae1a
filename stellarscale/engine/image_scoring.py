"""The stars that score networks on images and the methods beside them, in groups of quality. No Dask here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.engine.image_training_set import SPLIT, TABLE_FILE
from stellarscale.errors import InputError
from stellarscale.kernels.stats import robust_sigma
from stellarscale.models.image_stars import TEST, VALIDATION
from stellarscale.partition.features import floats

Record = dict[str, Any]

QUALITY, NEIGHBOUR = "sample_quality", "self_dist_arcsec"
NEIGHBOUR_ARCSEC = 15.0
"""Stars with another one closer than this are a group of their own (paper III, section 2.2)."""
GROUP_COLUMNS = (QUALITY, NEIGHBOUR)
"""Columns of the labelled stars that make groups, where the training set carries them along."""


def held_out_file(models: Path, network: str) -> Path:
    """Predictions of a network for the stars held out, in the directory of the networks.

    A row for each star and label: ``object_id``, ``split`` (1 validation, 2 test), ``label`` (its name), ``truth``,
    ``prediction``, ``std``, ``err``, ``err95``, ``magnitude``, ``parallax`` and ``row`` of the training set.
    """
    return models / f"held_out_{network}.parquet"


def read_stars(training: Path) -> pa.Table:
    """The stars of a training set.

    Raises
    ------
    InputError
        If they are not there.
    """
    path = training / TABLE_FILE
    if not path.is_file():
        raise InputError("the stars of the networks are not there", where=path, cause="nothing has been trained yet")
    return pq.read_table(path, partitioning=None)


def held_out(models: Path, table: pa.Table, label: str, network: str) -> NDArray[np.float64]:
    """A network's predictions for the stars of the table, shape (n,); NaN for those it was not asked for.

    Raises
    ------
    InputError
        If the file is not there, or is of another training set.
    """
    path = held_out_file(models, network)
    if not path.is_file():
        raise InputError("the network's predictions are not there", where=path, cause="its training did not finish")
    found = pq.read_table(path, columns=["row", "label", "prediction"], partitioning=None)
    found = found.filter(pc.equal(found["label"], label))
    rows = found["row"].to_numpy()
    if len(rows) and rows.max() >= table.num_rows:
        raise InputError(
            "the network's predictions are of another training set",
            where=path,
            seen=f"row {rows.max()}",
            needed=f"rows below {table.num_rows}",
        )
    predicted = np.full(table.num_rows, np.nan)
    predicted[rows] = floats(found, "prediction")
    return predicted


def scored(models: Path, table: pa.Table, label: str, network: str) -> NDArray[np.bool_]:
    """Stars that score every method: of the test part (validation where there is none), with label and prediction.

    Raises
    ------
    InputError
        If there are fewer than two, or as :func:`held_out`.
    """
    split = table[SPLIT].to_numpy()
    part = TEST if (split == TEST).any() else VALIDATION
    known = np.isfinite(floats(table, label)) & np.isfinite(held_out(models, table, label, network))
    chosen = (split == part) & known
    if chosen.sum() < 2:
        raise InputError(
            "too few stars to compare methods on",
            where=f"label {label}, network {network}",
            seen=f"{int(chosen.sum())} of {int((split == part).sum())} have a label and a prediction",
            needed=2,
        )
    return chosen


def groups_of(table: pa.Table) -> dict[str, NDArray[np.bool_]]:
    """Groups of stars that figures are given for: all, by quality of the sample, and those with a close neighbour."""
    groups = {"all": np.ones(table.num_rows, dtype=bool)}
    if QUALITY in table.column_names:
        quality = table[QUALITY].fill_null("unknown").to_numpy(zero_copy_only=False).astype(str)
        groups |= {str(name): quality == name for name in np.unique(quality)}
    if NEIGHBOUR in table.column_names:
        near = floats(table, NEIGHBOUR) < NEIGHBOUR_ARCSEC
        groups |= {"neighbours": near, "isolated": ~near}
    return groups


def group_figures(residual: NDArray[np.float64], groups: Mapping[str, NDArray[np.bool_]]) -> dict[str, Record]:
    """Stars, bias (median), robust sigma and standard deviation of the residuals of each group; None for no stars."""
    return {name: _figures(residual[chosen]) for name, chosen in groups.items()}


def _figures(residual: NDArray[np.float64]) -> Record:
    if len(residual) < 2:
        return {"n": len(residual), "bias": None, "sigma": None, "std": None}
    return {
        "n": len(residual),
        "bias": float(np.median(residual)),
        "sigma": robust_sigma(residual),
        "std": float(np.std(residual)),
    }
