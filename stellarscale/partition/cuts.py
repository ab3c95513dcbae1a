"""Cuts of a job applied to a table: which rows fail which of them."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.errors import SchemaError
from stellarscale.partition.features import floats
from stellarscale.settings.cuts import Cut

Mask = NDArray[np.bool_]
_TESTS = {"equals": operator.eq, "min": operator.ge, "max": operator.le, "below": operator.lt, "above": operator.gt}


def failed_cuts_of(table: pa.Table, cuts: Sequence[Cut]) -> dict[str, Mask]:
    """Which rows fail which cut.

    Parameters
    ----------
    table : Table
        With the columns of :func:`cut_columns`.
    cuts : sequence of Cut
        In the order in which they count.

    Returns
    -------
    dict of str to ndarray of bool, shape (n_rows,)
        By name of the cut, in order; cuts of one name are one. NaN counts as missing. Without ``over``, values of a
        float32 column are compared with the limit as float32, so that a file's 0.7 is at least 0.7.

    Raises
    ------
    SchemaError
        If a column is missing (the nearest name is told) or does not hold numbers.
    """
    check_numbers(table.schema, cut_columns(cuts), where="cuts")
    failed: dict[str, Mask] = {}
    for cut in cuts:
        mask = failed.get(cut.name, np.zeros(table.num_rows, dtype=np.bool_))
        for column in cut.columns:
            mask = mask | _failed(table, cut, column)
        failed[cut.name] = mask
    return failed


def passes(table: pa.Table, cuts: Sequence[Cut]) -> Mask:
    """Rows (n_rows,) that pass every cut; errors as :func:`failed_cuts_of`."""
    good = np.ones(table.num_rows, dtype=np.bool_)
    for failed in failed_cuts_of(table, cuts).values():
        good &= ~failed
    return good


def cut_columns(cuts: Sequence[Cut]) -> list[str]:
    """Columns that cuts read, without repeats."""
    return list(dict.fromkeys(name for cut in cuts for name in (*cut.columns, cut.over) if name is not None))


def check_numbers(schema: pa.Schema, names: Sequence[str], *, where: str) -> None:
    """Raise :class:`SchemaError` if a column is missing (the nearest name is told) or does not hold numbers."""
    for name in names:
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, n=1, cutoff=0.5)
            raise SchemaError(
                "a column is missing",
                where=where,
                seen=", ".join(schema.names),
                needed=name,
                cause=f"did you mean {near[0]!r}?" if near else "a catalogue of the chain is missing, or its prefix",
            )
        kind = schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise SchemaError(
                "a column does not hold numbers", where=f"{where}, column {name}", seen=str(kind), needed="numbers"
            )


def _failed(table: pa.Table, cut: Cut, column: str) -> Mask:
    values = floats(table, column)
    impossible = np.zeros(len(values), dtype=np.bool_)
    single = cut.over is None and table.schema.field(column).type == pa.float32()
    if cut.over is not None:
        divisor = floats(table, cut.over)
        impossible = divisor <= 0
        values = values / np.where(impossible, np.nan, divisor)
    if cut.absolute:
        values = np.abs(values)
    missing = np.isnan(values) & ~impossible
    fulfilled = np.ones(len(values), dtype=np.bool_)
    for test, given in cut.tests.items():
        limit = float(np.float32(given)) if single else given
        fulfilled &= _TESTS[test](values, limit)
    return impossible | (~missing & ~fulfilled) | (missing if cut.null == "fail" else False)
