"""The stars that get parameters: cuts, high and low quality, and a sample that keeps one in so many of each kind."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.errors import ConfigError, SchemaError
from stellarscale.partition.cuts import check_numbers, cut_columns, failed_cuts_of
from stellarscale.partition.features import floats
from stellarscale.schema import field_metadata
from stellarscale.settings.cuts import Selection, Strata

QUALITY = "sample_quality"
HIGH, NOT_DRAWN = "high_quality", "strata"
_STREAM = 0x57A7A  # keeps the draw apart from other streams of the same seed and partition


def select_rows(
    table: pa.Table, selection: Selection, *, seed: int, pixel: tuple[int, int]
) -> tuple[pa.Table, dict[str, int]]:
    """Rows of one partition that the selection takes, and why the others are lost.

    Parameters
    ----------
    table : Table
        Matched stars with the columns of the cuts and of the strata.
    selection : Selection
        Cuts, those that the low-quality sample may fail, and strata (paper III, sections 2.2, 5.4 and 6).
    seed : int
        Seed of the job.
    pixel : tuple of int
        HEALPix order and number of the partition; the draw depends on them, the seed and the rows, nothing else.

    Returns
    -------
    kept : Table
        Schema :func:`selected_schema`; ``sample_quality`` is ``high`` for rows that pass every cut, ``low`` for those
        that fail relaxed ones only.
    lost : dict of str to int
        Lost rows by reason: the first cut that costs the row its place, ``high_quality`` where only low-quality rows
        are wanted, ``strata``. Rows in = rows kept + rows lost.

    Raises
    ------
    SchemaError
        If a column is missing or does not hold numbers, or ``sample_quality`` is taken.
    ConfigError
        If the edges of a stratum's classes do not ascend.
    """
    schema = selected_schema(table.schema, selection)
    failed = failed_cuts_of(table, selection.cuts)
    relaxed = [mask for name, mask in failed.items() if name in selection.relaxed]
    low = np.logical_or.reduce(relaxed) if relaxed else np.zeros(table.num_rows, dtype=np.bool_)
    costs = {
        name: mask for name, mask in failed.items() if selection.quality == "high" or name not in selection.relaxed
    }
    if selection.quality == "low":
        costs[HIGH] = ~low
    taken = np.ones(table.num_rows, dtype=np.bool_)
    lost: dict[str, int] = {}
    for name, mask in costs.items():
        _lose(taken, mask, lost, name)
    if selection.strata is not None:
        drawn = np.ones(table.num_rows, dtype=np.bool_)
        codes = strata_codes(table, selection.strata)
        drawn[taken] = draw_rows(codes[taken], selection.strata.keep_one_in, seed=seed, pixel=pixel)
        _lose(taken, ~drawn, lost, NOT_DRAWN)
    kept = table.filter(pa.array(taken))
    quality = pa.array(np.where(low[taken], "low", "high"), pa.string())
    return pa.Table.from_arrays([*kept.columns, quality], schema=schema), lost


def selected_schema(schema: pa.Schema, selection: Selection) -> pa.Schema:
    """Schema of :func:`select_rows`' result: that of the table, then ``sample_quality`` (string).

    Raises
    ------
    SchemaError
        As :func:`select_rows`.
    ConfigError
        As :func:`select_rows`.
    """
    check_numbers(schema, cut_columns(selection.cuts), where="selection.cuts")
    if selection.strata is not None:
        _check_edges(selection.strata)
        for name in selection.strata.by:
            check_numbers(schema, _columns(name, schema), where="selection.strata.by")
    if QUALITY in schema.names:
        raise SchemaError("the selection would hide a column of the table", seen=QUALITY)
    text = "high: passes every cut of the selection; low: fails some of those that may be relaxed"
    return schema.append(pa.field(QUALITY, pa.string(), metadata=field_metadata("", "meta.code.qual", text)))


def strata_codes(table: pa.Table, strata: Strata) -> NDArray[np.int64]:
    """Number of the stratum of each row (n_rows,); a missing value is a class of its own."""
    codes = np.zeros(table.num_rows, dtype=np.int64)
    for name, edges in strata.by.items():
        values = [floats(table, column) for column in _columns(name, table.schema)]
        value = values[0] if len(values) == 1 else values[0] - values[1]
        classes = np.searchsorted(np.asarray(edges, dtype=np.float64), value, side="right")
        classes[np.isnan(value)] = len(edges) + 1
        codes = codes * (len(edges) + 2) + classes
    return codes


def draw_rows(codes: NDArray[np.int64], keep_one_in: int, *, seed: int, pixel: tuple[int, int]) -> NDArray[np.bool_]:
    """One row in so many of each stratum of a partition, at random.

    Parameters
    ----------
    codes : ndarray of int64, shape (n_rows,)
        Stratum of each row.
    keep_one_in : int
        N: of n rows of a stratum floor(n / N) are kept, and one more with the probability of the rest, so that every
        row has the same chance 1 / N however the sky is cut into partitions.
    seed : int
        Seed of the job.
    pixel : tuple of int
        HEALPix order and number of the partition.

    Returns
    -------
    ndarray of bool, shape (n_rows,)
    """
    rng = np.random.default_rng([_STREAM, seed, *pixel])
    found, stratum, counts = np.unique(codes, return_inverse=True, return_counts=True)
    whole, rest = np.divmod(counts, keep_one_in)
    wanted = whole + (rng.random(len(found)) * keep_one_in < rest)
    order = np.lexsort((rng.random(len(codes)), stratum))
    rank = np.empty(len(codes), dtype=np.int64)
    rank[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank < wanted[stratum]


def _lose(taken: NDArray[np.bool_], costs: NDArray[np.bool_], lost: dict[str, int], reason: str) -> None:
    """Take rows away, in place, and count them."""
    rows = taken & costs
    taken &= ~costs
    if count := int(rows.sum()):
        lost[reason] = lost.get(reason, 0) + count


def _columns(name: str, schema: pa.Schema) -> list[str]:
    """The column, or the two of a colour."""
    first, minus, second = name.partition("-")
    return [name] if name in schema.names or not minus else [first.strip(), second.strip()]


def _check_edges(strata: Strata) -> None:
    for name, edges in strata.by.items():
        if not edges or np.any(np.diff(edges) <= 0):
            raise ConfigError(
                "the edges of classes must ascend", where=f"selection.strata.by, {name}", seen=list(edges) or "none"
            )
