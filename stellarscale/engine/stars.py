"""The stars of one model as arrays, by what they are for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.engine.sampling import CALIBRATE, TRAIN
from stellarscale.errors import InputError
from stellarscale.partition.features import floats, matrix


@dataclass(frozen=True, eq=False)
class Stars:
    """Arrays of stars, in catalogue order.

    Attributes
    ----------
    x : ndarray of float32, shape (n, n_inputs)
    y : ndarray of float64, shape (n,)
        Labels.
    role : ndarray of str, shape (n,)
        ``train``, ``held_out``, ``held_out_wide`` or ``test:<catalogue>``.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float64]
    role: NDArray[np.str_]


def sample_path(models: Path, name: str) -> Path:
    """Where the stars of a model are.

    Raises
    ------
    InputError
        If the model has not been trained.
    """
    path = models / f"{name}_sample.parquet"
    if not path.is_file():
        raise InputError("the stars of the model are not there", where=path, cause="the model has not been trained yet")
    return path


def read_stars(path: Path, inputs: Sequence[str], *, train: bool) -> Stars:
    """The stars that trained a model, or those that test it.

    Raises
    ------
    InputError
        If there are none.
    """
    columns = list(dict.fromkeys([*inputs, "label", "role"]))
    table = pq.read_table(path, columns=columns)
    mine = pc.is_in(table["role"], value_set=pa.array([TRAIN] if train else [TRAIN, CALIBRATE]))
    table = table.filter(mine if train else pc.invert(mine))
    if not table.num_rows:
        raise InputError("the sample has no stars of the kind needed", where=path, needed="train" if train else "test")
    role = table["role"].to_numpy(zero_copy_only=False).astype(str)
    return Stars(matrix(table, inputs), floats(table, "label"), role)
