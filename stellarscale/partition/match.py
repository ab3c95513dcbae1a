"""Cross-match of one left partition with the right rows around it: two Arrow tables in, one out."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.errors import InputError, SchemaError
from stellarscale.kernels.match import Pairs, Sky, match, match_moving
from stellarscale.kernels.sphere import propagate
from stellarscale.partition.match_config import MatchConfig, SkyColumns, margin_arcsec

__all__ = [
    "MatchConfig",
    "Matched",
    "SkyColumns",
    "joined",
    "margin_arcsec",
    "match_partition",
    "match_sky",
    "output_schema",
    "take_rows",
]

SKY_KEY = "_healpix_29"


def output_schema(left: pa.Schema, right: pa.Schema, config: MatchConfig) -> pa.Schema:
    """Schema of the matched table, without matching anything.

    Returns
    -------
    pa.Schema
        Left fields as they are, right fields prefixed with their metadata (without the sky key), then
        ``separation_arcsec``, ``n_candidates`` and, with an epoch, ``no_motion``.

    Raises
    ------
    SchemaError
        Lists every name that two sources would give (whatever the case of its letters), or every missing
        column.
    """
    _check_columns(left, right, config)
    fields = [
        *left,
        *(f.with_name(config.right_prefix + f.name).with_nullable(True) for f in right if f.name != SKY_KEY),
        *_pair_fields(config),
    ]
    by_name: dict[str, list[str]] = defaultdict(list)
    for f in fields:
        by_name[f.name.casefold()].append(f.name)
    double = sorted({name for names in by_name.values() if len(names) > 1 for name in names})
    if double:
        raise SchemaError(
            "columns of the matched table would have two sources",
            seen=", ".join(double),
            needed="names that differ by more than the case of their letters",
            cause=f"the prefix {config.right_prefix!r} of the right columns is empty or already taken",
        )
    return pa.schema(fields)  # the metadata of either catalogue would not be true of the pair


def _check_columns(left: pa.Schema, right: pa.Schema, config: MatchConfig) -> None:
    for name, schema, sky in (("left", left, config.left), ("right", right, config.right)):
        missing = [column for column in sky.names if column not in schema.names]
        if missing:
            raise SchemaError(
                "columns that the match reads are missing",
                where=f"{name} catalogue",
                seen=", ".join(schema.names),
                needed=", ".join(missing),
            )


def _pair_fields(config: MatchConfig) -> list[pa.Field]:
    about = "separation of the pair"
    if config.epoch is not None:
        about += " at the epoch of the row that stays" if config.epoch == "rows" else f" at J{config.epoch}"
    columns = [
        ("separation_arcsec", pa.float64(), "arcsec", "pos.angDistance", about),
        ("n_candidates", pa.int32(), "", "meta.number", f"right rows within {config.radius_arcsec} arcsec"),
    ]
    if config.epoch is not None:
        missing = "a proper motion was missing and counted as zero"
        columns.append(("no_motion", pa.bool_(), "", "meta.code", missing))
    return [
        pa.field(config.pair_prefix + name, kind, True, {"unit": unit, "ucd": ucd, "description": text})
        for name, kind, unit, ucd, text in columns
    ]


class _Side(NamedTuple):
    """The sky of one table as arrays, and which of its rows lack the motion they are moved by."""

    sky: Sky
    no_motion: NDArray[np.bool_] | None


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column as float64 with NaN for null."""
    return table[name].cast(pa.float64()).to_numpy()


def _epochs(table: pa.Table, columns: SkyColumns, needed: NDArray[np.bool_], name: str) -> NDArray[np.float64]:
    """Epoch of each row; rows where it is not needed may have none, and get any."""
    default = math.nan if columns.epoch_yr is None else columns.epoch_yr
    if columns.epoch is None:
        return np.full(table.num_rows, default)
    epoch = _floats(table, columns.epoch)
    epoch = np.where(np.isnan(epoch), default, epoch)
    lost = np.isnan(epoch)
    if (lost & needed).any():
        raise InputError(
            "a row has no epoch to match at",
            where=f"{name} table, column {columns.epoch}, row {int(np.flatnonzero(lost & needed)[0])}",
            needed="an epoch in years, or one for the rows without",
        )
    return np.where(lost, 0.0, epoch)


def _side(tables: list[pa.Table], config: MatchConfig, name: Literal["left", "right"]) -> _Side:
    columns: SkyColumns = getattr(config, name)
    table = pa.concat_tables([table.select(columns.names) for table in tables])
    ra, dec = _floats(table, columns.ra), _floats(table, columns.dec)
    if columns.pmra is None or columns.pmdec is None or name not in config.movers:
        if config.epoch != "rows":
            return _Side(Sky(ra, dec), None)
        everywhere = np.ones(table.num_rows, bool)
        return _Side(Sky(ra, dec, epoch=_epochs(table, columns, everywhere, name)), None)
    pmra, pmdec = _floats(table, columns.pmra), _floats(table, columns.pmdec)
    missing = np.isnan(pmra) | np.isnan(pmdec)
    pmra, pmdec = np.where(missing, 0.0, pmra), np.where(missing, 0.0, pmdec)
    epoch = _epochs(table, columns, ~missing, name)
    if isinstance(config.epoch, int | float):
        return _Side(Sky(*propagate(ra, dec, pmra, pmdec, config.epoch - epoch)), missing)
    return _Side(Sky(ra, dec, pmra, pmdec, epoch), missing)


def _pairs(left: Sky, right: Sky, config: MatchConfig) -> Pairs:
    try:
        if config.epoch == "rows":
            return match_moving(left, right, radius_arcsec=config.radius_arcsec, keep=config.keep)
        return match(left.ra, left.dec, right.ra, right.dec, radius_arcsec=config.radius_arcsec, keep=config.keep)
    except ValueError as error:
        raise InputError(str(error), cause="a null or damaged position in the catalogue") from error


def match_partition(left: pa.Table, right: pa.Table, left_border: pa.Table | None, config: MatchConfig) -> pa.Table:
    """Match the rows of one left partition.

    Parameters
    ----------
    left : pa.Table
        Rows of the partition.
    right : pa.Table
        Right rows of the same pixel and within `margin_arcsec` around it, in sky order.
    left_border : pa.Table or None
        Left rows within twice the margin outside the partition, read by 'mutual' only, and of them only the
        columns named in the config.
    config : MatchConfig

    Returns
    -------
    pa.Table
        In the order of the left rows, with the schema of `output_schema`. ``n_candidates`` counts the right
        rows within the radius whatever is kept: an unmatched row of a mutual match may have some.

    Raises
    ------
    SchemaError
        If names collide or a column is missing.
    InputError
        If a row has no position, or no epoch where one is needed.
    """
    output_schema(left.schema, right.schema, config)  # a wrong name is told before the work
    matched = match_sky(left, right, left_border, config)
    return joined(take_rows(left, matched.left), take_rows(right, matched.right), matched, config)


class Matched(NamedTuple):
    """The rows of a result, all arrays of one length.

    `left` and `right` are rows of the two sides, `right` -1 where there is no partner; `pair` are the columns
    about the pairs.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    pair: list[pa.Array]

    @property
    def n_matched(self) -> int:
        """Rows with a partner."""
        return int(np.count_nonzero(self.right >= 0))


def match_sky(left: pa.Table, right: pa.Table, left_border: pa.Table | None, config: MatchConfig) -> Matched:
    """The part of `match_partition` that needs no other columns than those named in the config."""
    rivals = [left_border] if left_border is not None and config.keep == "mutual" else []
    left_side, right_side = _side([left, *rivals], config, "left"), _side([right], config, "right")
    pairs = _pairs(left_side.sky, right_side.sky, config)
    rows, partners, separation = _rows(pairs, left.num_rows, config.how)
    pair = [pa.array(separation, mask=partners < 0), pa.array(pairs.n_candidates[rows])]
    if config.epoch is not None:
        pair.append(_no_motion(left_side, right_side, rows, partners))
    return Matched(rows, partners, pair)


def take_rows(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Rows of a table, null for -1; the table itself when it is all of its rows in their order."""
    if rows.size == table.num_rows and np.array_equal(rows, np.arange(table.num_rows)):
        return table
    return table.unify_dictionaries().take(pa.array(rows, mask=rows < 0))


def joined(left: pa.Table, right: pa.Table, matched: Matched, config: MatchConfig) -> pa.Table:
    """The result from the rows of both sides, each already taken as `matched` says."""
    schema = output_schema(left.schema, right.schema, config)
    if SKY_KEY in right.schema.names:
        right = right.drop_columns([SKY_KEY])
    return pa.Table.from_arrays([*left.columns, *right.columns, *matched.pair], schema=schema)


def _rows(pairs: Pairs, n_left: int, how: str) -> tuple[NDArray, NDArray, NDArray]:
    """Left row, right row (-1: none) and separation of each row of the result."""
    own = int(np.searchsorted(pairs.left, n_left))  # pairs of the border's rows are its own partition's work
    left, right, separation = pairs.left[:own], pairs.right[:own], pairs.separation_arcsec[:own]
    if how == "inner":
        return left, right, separation
    count = np.bincount(left, minlength=n_left)
    repeats = np.maximum(count, 1)
    matched = np.repeat(count > 0, repeats)
    partners, distance = np.full(matched.size, -1), np.full(matched.size, math.nan)
    partners[matched], distance[matched] = right, separation
    return np.repeat(np.arange(n_left), repeats), partners, distance


def _no_motion(left: _Side, right: _Side, rows: NDArray, partners: NDArray) -> pa.Array:
    """Whether a motion was missing; null where only the right side moves and there is no right row."""
    missing = np.zeros(rows.size, bool)
    if left.no_motion is not None:
        missing |= left.no_motion[rows]
    if right.no_motion is None:
        return pa.array(missing)
    matched = partners >= 0
    missing[matched] |= right.no_motion[partners[matched]]
    return pa.array(missing, mask=None if left.no_motion is not None else ~matched)
