"""Columns of another catalogue for rows that share a key with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.errors import SchemaError
from stellarscale.kernels.sphere import separation_arcsec
from stellarscale.partition.features import floats


@dataclass(frozen=True)
class KeyColumns:
    """Columns of a table that name a row's key and position."""

    key: str
    ra: str = "ra"
    dec: str = "dec"

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [self.key, self.ra, self.dec]


@dataclass(frozen=True)
class AttachConfig:
    """What is attached: ``columns`` maps names in the result to the right table's."""

    left: KeyColumns
    right: KeyColumns
    columns: Mapping[str, str]
    radius_arcsec: float


class Attached(NamedTuple):
    """The left rows with new columns, how many found a partner, and for how many of them it was one of several."""

    table: pa.Table
    matched: int
    several: int


def attach_columns(left: pa.Table, right: pa.Table, config: AttachConfig) -> Attached:
    """Add columns of the right rows with an equal key that stand near enough; every left row stays, in its order.

    Parameters
    ----------
    left, right : Table
        With the columns of the configuration; right rows sorted along the sky, with those of the surroundings.
    config : AttachConfig
        Keys, positions, what is attached, the largest separation.

    Returns
    -------
    Attached
        Of several right rows the first along the sky counts. Without one, or without a key, the columns are null.

    Raises
    ------
    SchemaError
        As :func:`attached_schema`.
    """
    schema = attached_schema(left.schema, right.schema, config)
    pairs = _equal_keys(left[config.left.key], right[config.right.key])
    ours = [floats(left, name)[pairs[0]] for name in (config.left.ra, config.left.dec)]
    theirs = [floats(right, name)[pairs[1]] for name in (config.right.ra, config.right.dec)]
    near = separation_arcsec(*ours, *theirs) <= config.radius_arcsec
    rows, partners = pairs[0][near], pairs[1][near]
    found, first, counts = np.unique(rows, return_index=True, return_counts=True)
    partner = np.full(left.num_rows, -1, dtype=np.int64)
    partner[found] = partners[first]
    indices = pa.array(partner, mask=partner < 0)
    added = [right[source].take(indices) for source in config.columns.values()]
    return Attached(pa.Table.from_arrays([*left.columns, *added], schema=schema), len(found), int((counts > 1).sum()))


def attached_schema(left: pa.Schema, right: pa.Schema, config: AttachConfig) -> pa.Schema:
    """Schema of the left table with the attached columns behind its own.

    Raises
    ------
    SchemaError
        If a column is missing or a new one's name is taken, or the keys are of different types.
    """
    for schema, needed in ((left, config.left.names), (right, [*config.right.names, *config.columns.values()])):
        missing = sorted(set(needed) - set(schema.names))
        if missing:
            raise SchemaError(
                "columns to attach by are missing", seen=", ".join(schema.names), needed=", ".join(missing)
            )
    taken = sorted(set(config.columns) & set(left.names))
    if taken:
        raise SchemaError("attached columns have names that are taken", seen=", ".join(taken), needed="other names")
    kinds = [schema.field(side.key).type for schema, side in ((left, config.left), (right, config.right))]
    if _is_text(kinds[0]) != _is_text(kinds[1]) or any(pa.types.is_floating(kind) for kind in kinds):
        raise SchemaError("keys of these types cannot be equal", seen=f"{kinds[0]} and {kinds[1]}")
    added = [right.field(source).with_name(name).with_nullable(True) for name, source in config.columns.items()]
    return pa.schema([*left, *added], metadata=left.metadata)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _equal_keys(left: pa.ChunkedArray, right: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of rows whose keys are equal and not null, by left row, then by right row."""
    kind = pa.string() if _is_text(left.type) else pa.int64()
    left, right = left.cast(kind), right.cast(kind)
    known = pc.unique(right.drop_null())
    ours, theirs = (_codes(each, known) for each in (left, right))
    order = np.argsort(theirs, kind="stable")
    first = np.searchsorted(theirs[order], ours, side="left")
    counts = np.where(ours < 0, 0, np.searchsorted(theirs[order], ours, side="right") - first)
    rows = np.repeat(np.arange(len(ours)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, order[np.repeat(first, counts) + within]


def _codes(keys: pa.ChunkedArray, known: pa.Array) -> NDArray[np.int64]:
    """Place of each key among the known ones, -1 for null and for others."""
    places = pc.index_in(keys, value_set=known, skip_nulls=True)
    return pc.fill_null(places.cast(pa.int64()), -1).to_numpy()
