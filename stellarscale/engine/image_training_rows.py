"""Which labelled stars a network on images learns from, in the columns of its training set. No Dask here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.layout import SKY_COLUMN
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import StoredCatalog, open_stored, read_pixel
from stellarscale.config import Label
from stellarscale.errors import SchemaError
from stellarscale.flags import COLUMN, Flag
from stellarscale.models.image_augment import split_of
from stellarscale.partition.features import floats
from stellarscale.partition.training import label_values
from stellarscale.schema import field_metadata
from stellarscale.stamp_columns import StampFormat, format_of

PARALLAX, PARALLAX_ERROR, SPLIT = "parallax", "parallax_error", "split"


@dataclass(frozen=True)
class TrainingSetTask:
    """Where the labelled stars and their stamps are, and what of them a training needs.

    Attributes
    ----------
    source, out : Path
        HATS catalogue with stamps, and the directory of the training set.
    labels : mapping of str to Label
        Parameters to learn, by the names that they get.
    parallax : tuple of str
        Columns of the parallax and of its error, mas.
    needs_parallax : bool
        Whether a star without them is of no use.
    object_id : str
        Column of the ids, integers.
    keep : tuple of str
        Further columns to carry along, e.g. magnitudes.
    split : tuple of float
        Shares of training, validation and test stars.
    seed : int
        Of the split.
    """

    source: Path
    out: Path
    labels: Mapping[str, Label]
    parallax: tuple[str, str]
    needs_parallax: bool
    object_id: str
    keep: tuple[str, ...]
    split: tuple[float, float, float]
    seed: int

    @property
    def columns(self) -> list[str]:
        """Columns that are read, but for the stamps."""
        wanted = [name for label in self.labels.values() for name in (label.column, label.error) if name]
        return list(dict.fromkeys([self.object_id, *self.parallax, COLUMN, *wanted, *self.keep]))


def check_training_set(task: TrainingSetTask) -> StampFormat:
    """What can be wrong with the columns before any work is done; returns what the stamps are.

    Raises
    ------
    SchemaError
        If a column is missing, the ids are no integers, the stamps say not what they are, or a carried column has
        the name of a label.
    """
    schema = open_stored(task.source).schema
    missing = [name for name in task.columns if name not in schema.names]
    if missing:
        raise SchemaError(
            "the labelled stars lack columns that the training needs",
            where=task.source,
            seen=", ".join(schema.names),
            needed=", ".join(missing),
            cause="a typing error in the job, or the prefix of the match differs from the one in the names",
        )
    kind = schema.field(task.object_id).type
    if not pa.types.is_integer(kind):
        raise SchemaError("ids of stars must be integers", where=f"column {task.object_id}", seen=kind)
    taken = sorted(set(task.keep) & {*task.labels, PARALLAX, PARALLAX_ERROR, SPLIT})
    if taken:
        raise SchemaError("a column that is carried along has the name of another one", seen=", ".join(taken))
    return format_of(schema)


def useful_stars(
    task: TrainingSetTask, catalog: StoredCatalog, pixel: Pixel, seen: NDArray[np.int64], rejected: Counter[str]
) -> tuple[pa.Table, NDArray[np.bool_]]:
    """Rows of a partition that take part, in the columns of the training set, and which of all its rows they are.

    Stars whose ids are among ``seen`` are left out; ``rejected`` counts the reasons.
    """
    properties = catalog.properties
    columns = [properties.ra, properties.dec, *task.columns]
    table = read_pixel(catalog, pixel, columns=list(dict.fromkeys(columns)))
    values = {name: label_values(table, label) for name, label in task.labels.items()}
    keep = np.ones(table.num_rows, dtype=bool)
    for reason, failed in _reasons(task, table, values).items():
        rejected.update({reason: int((keep & failed).sum())} if (keep & failed).any() else {})
        keep &= ~failed
    ids = table[task.object_id].to_numpy().astype(np.int64)
    once = np.zeros(len(ids), dtype=bool)
    rows = np.flatnonzero(keep)
    once[rows[np.unique(ids[rows], return_index=True)[1]]] = True
    once &= ~np.isin(ids, seen)
    rejected.update({"another row of the star": int((keep & ~once).sum())} if (keep & ~once).any() else {})
    return _in_shape(task, catalog, table, values).filter(pa.array(once)), once


def _reasons(
    task: TrainingSetTask, table: pa.Table, values: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.bool_]]:
    """Which rows are of no use, by the reason; the first that holds counts."""
    flags = table[COLUMN].fill_null(0).to_numpy() if table.num_rows else np.empty(0, np.int32)
    parallax, error = (floats(table, name) for name in task.parallax)
    reasons = {
        "no id": table[task.object_id].is_null().to_numpy(),
        "incomplete bands": (flags & int(Flag.INCOMPLETE_BANDS)) != 0,
        "no label": np.all([np.isnan(column) for column in values.values()], axis=0),
    }
    if task.needs_parallax:
        reasons["no parallax"] = ~(np.isfinite(parallax) & (error > 0) & np.isfinite(error))
    return reasons


def no_stars(task: TrainingSetTask, catalog: StoredCatalog) -> pa.Table:
    """The training set of a catalogue without rows."""
    table = catalog.schema.empty_table()
    return _in_shape(task, catalog, table, {name: np.empty(0) for name in task.labels})


def _in_shape(
    task: TrainingSetTask, catalog: StoredCatalog, table: pa.Table, values: Mapping[str, NDArray[np.float64]]
) -> pa.Table:
    """The columns of the training set under its own names."""
    ids = table[task.object_id].cast(pa.int64())
    columns: dict[str, tuple[Any, bytes, str]] = {
        "object_id": (ids, b"", "id of the star"),
        SKY_COLUMN: (table[SKY_COLUMN], b"", "place on the sky"),
        "ra": (table[catalog.properties.ra].cast(pa.float64()), b"deg", "right ascension"),
        "dec": (table[catalog.properties.dec].cast(pa.float64()), b"deg", "declination"),
        PARALLAX: (table[task.parallax[0]].cast(pa.float64()), b"mas", "parallax"),
        PARALLAX_ERROR: (table[task.parallax[1]].cast(pa.float64()), b"mas", "its error"),
    }
    for name, column in values.items():
        label = task.labels[name]
        columns[name] = (pa.array(column, mask=np.isnan(column)), label.unit.encode(), f"label, from {label.column}")
    split = split_of(ids.fill_null(0).to_numpy(), task.split, seed=task.seed)
    columns[SPLIT] = (pa.array(split), b"", "0 training, 1 validation, 2 test")
    arrays = [values for values, _, _ in columns.values()]
    fields = [
        pa.field(name, column.type, metadata=field_metadata(unit.decode(), "", text))
        for name, (column, unit, text) in columns.items()
    ]
    for name in dict.fromkeys([COLUMN, *task.keep]):
        if name not in columns:
            arrays.append(table[name])
            fields.append(table.schema.field(name))
    return pa.table(arrays, schema=pa.schema(fields))
