"""Features of matched stars: dereddened magnitudes, colours, absolute magnitudes, classes and cuts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.config import Classes, ClassRule, FeatureConfig
from stellarscale.errors import SchemaError
from stellarscale.flags import COLUMN, Flag
from stellarscale.kernels.photometry import absolute_magnitude, deredden, line
from stellarscale.schema import field_metadata


def add_features(table: pa.Table, config: FeatureConfig, ebv: NDArray | None = None) -> pa.Table:
    """Append the features of each row; no row is dropped and what is unknown is null.

    Parameters
    ----------
    table : Table
        Matched rows with the columns that the config names.
    config : FeatureConfig
        Bands, extinction, parallax, colours, absolute magnitudes, classes.
    ebv : ndarray, shape (n,), optional
        E(B-V) from dust maps, needed when the config names maps.

    Returns
    -------
    Table
        The input, then ``ebv``, ``<band>_0``, ``<a>_<b>_0`` per colour, ``m_<band>_0``, ``class_code`` (int8) as
        far as configured; ``quality_flags`` updated.

    Raises
    ------
    SchemaError
        If a named column is missing, or a feature's name is taken.
    """
    check_columns(table.schema, config)
    reddening = _reddening(table, config, ebv)
    names = feature_names(config)
    values = _values(table, config, reddening)
    flags = np.zeros(table.num_rows, dtype=np.int32)
    result = table
    for name in names:
        result = result.append_column(feature_field(name), _nullable(values[name], pa.float32()))
    if config.classes:
        codes, by_limit = _classify(table, config, values)
        flags |= np.where(by_limit, np.int32(Flag.CLASS_BY_PARALLAX_LIMIT), 0)
        result = result.append_column(feature_field("class_code"), pa.array(codes, mask=codes < 0, type=pa.int8()))
    return set_flags(result, flags)


def feature_names(config: FeatureConfig) -> list[str]:
    """Names of the float features that :func:`add_features` appends, in order."""
    names = ["ebv"] if config.ebv else []
    names += [f"{band}_0" for band in config.bands]
    pairs = list(config.colours)
    if config.classes and config.classes.colour not in pairs:
        pairs.append(config.classes.colour)
    names += [colour_name(pair) for pair in pairs]
    absolute = list(config.absolute)
    if config.classes and config.classes.absolute not in absolute:
        absolute.append(config.classes.absolute)
    return names + [f"m_{band}_0" for band in absolute]


def colour_name(pair: str) -> str:
    """Column of a dereddened colour: ``bp-rp`` is ``bp_rp_0``."""
    return pair.replace("-", "_") + "_0"


def feature_field(name: str) -> pa.Field:
    """Arrow field of a feature."""
    if name == "class_code":
        return pa.field(name, pa.int8(), metadata=field_metadata("", "src.class", "class from the CMD"))
    if name == "ebv":
        return pa.field(name, pa.float32(), metadata=field_metadata("mag", "phot.color.excess", "E(B-V), SFD98 scale"))
    kind = "absolute magnitude" if name.startswith("m_") else "magnitude or colour"
    ucd = "phot.mag;phys.absolute" if name.startswith("m_") else "phot.mag"
    return pa.field(name, pa.float32(), metadata=field_metadata("mag", ucd, f"{kind} {name[:-2]}, dereddened"))


def needed_columns(config: FeatureConfig) -> list[str]:
    """Columns of the matched table that :func:`add_features` and :func:`failed_cuts` read, without the position."""
    needed = [band.mag for band in config.bands.values()]
    needed += [band.err for band in config.bands.values() if band.err]
    needed += [config.ebv.column] if config.ebv and config.ebv.column else []
    needed += [config.parallax.value, config.parallax.error] if config.parallax else []
    return needed


def check_columns(schema: pa.Schema, config: FeatureConfig) -> None:
    """Refuse a table that lacks a column, or has one that a feature would hide; see :func:`add_features`."""
    needed = needed_columns(config)
    missing = sorted(set(needed) - set(schema.names))
    if missing:
        raise SchemaError(
            "the features need columns that the table does not have",
            seen=", ".join(schema.names),
            needed=", ".join(missing),
            cause="a catalogue of the chain is missing, or its prefix differs from the job's",
        )
    taken = sorted({*feature_names(config), "class_code"} & set(schema.names))
    if taken:
        raise SchemaError("a feature would hide a column of the table", seen=", ".join(taken))


def failed_cuts(table: pa.Table, config: FeatureConfig, *, training: bool) -> dict[str, NDArray[np.bool_]]:
    """Which rows fail which cut of paper I, Table 2; a missing value fails.

    Returns
    -------
    dict of str to ndarray of bool, shape (n,)
        Name of the cut, e.g. ``error of u``, ``E(B-V)``, ``parallax over error``.
    """
    cuts: dict[str, NDArray[np.bool_]] = {}
    for name, band in config.bands.items():
        limit = band.train_err if training else band.predict_err
        if limit is not None and band.err:
            cuts[f"error of {name}"] = ~(floats(table, band.err) < limit)
    limit = config.ebv_max_train if training else config.ebv_max_predict
    if limit is not None:
        cuts["E(B-V)"] = ~(floats(table, "ebv") < limit)
    if config.parallax:
        limit = config.parallax.train_snr if training else config.parallax.predict_snr
        if limit is not None:
            ratio = floats(table, config.parallax.value) / floats(table, config.parallax.error)
            cuts["parallax over error"] = ~(ratio > limit)
    return cuts


def floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column as float64 with NaN for null, for arithmetic only."""
    column = pc.cast(table[name], pa.float64())
    return column.to_numpy(zero_copy_only=False) if table.num_rows else np.empty(0)


def matrix(table: pa.Table, names: Sequence[str]) -> NDArray[np.float32]:
    """Feature matrix, shape (n, len(names)), float32, NaN for null.

    Raises
    ------
    SchemaError
        If a feature is not in the table.
    """
    missing = [name for name in names if name not in table.schema.names]
    if missing:
        raise SchemaError("features are missing", seen=", ".join(table.schema.names), needed=", ".join(missing))
    result = np.empty((table.num_rows, len(names)), dtype=np.float32)
    for index, name in enumerate(names):
        result[:, index] = floats(table, name)
    return result


def set_flags(table: pa.Table, flags: NDArray[np.int32]) -> pa.Table:
    """Add bits to ``quality_flags``; the column is made when the table has none."""
    if COLUMN not in table.schema.names:
        metadata = field_metadata("", "meta.code.qual", "sum of the flag bits")
        return table.append_column(pa.field(COLUMN, pa.int32(), metadata=metadata), pa.array(flags, pa.int32()))
    index = table.schema.get_field_index(COLUMN)
    old = pc.fill_null(table[COLUMN], 0).to_numpy()
    return table.set_column(index, table.schema.field(index), pa.array(old | flags, pa.int32()))


def _reddening(table: pa.Table, config: FeatureConfig, ebv: NDArray | None) -> NDArray[np.float64]:
    if config.ebv is None:
        return np.zeros(table.num_rows)
    if config.ebv.column is not None:
        return floats(table, config.ebv.column)
    if config.ebv.value is not None:
        return np.full(table.num_rows, config.ebv.value)
    if ebv is None:
        raise SchemaError("the job names SFD98 maps but no E(B-V) was handed over", needed="an array of E(B-V)")
    return ebv


def _values(table: pa.Table, config: FeatureConfig, ebv: NDArray) -> dict[str, NDArray[np.float64]]:
    values = {"ebv": ebv}
    for name, band in config.bands.items():
        values[f"{name}_0"] = deredden(floats(table, band.mag), ebv, band.extinction)
    pairs = {*config.colours, *([config.classes.colour] if config.classes else [])}
    for pair in pairs:
        first, second = pair.split("-")
        values[colour_name(pair)] = values[f"{first}_0"] - values[f"{second}_0"]
    if config.parallax:
        parallax = floats(table, config.parallax.value)
        for band_name in {*config.absolute, *([config.classes.absolute] if config.classes else [])}:
            values[f"m_{band_name}_0"] = absolute_magnitude(values[f"{band_name}_0"], parallax)
    return values


def _classify(
    table: pa.Table, config: FeatureConfig, values: dict[str, NDArray]
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Class codes (-1: none) and which of them rest on the parallax limit alone."""
    classes, parallax = config.classes, config.parallax
    assert classes is not None, "called for a config with classes"
    assert parallax is not None, "classes need a parallax: checked by the config"
    colour, absolute = values[colour_name(classes.colour)], values[f"m_{classes.absolute}_0"]
    codes = np.full(table.num_rows, -1, dtype=np.int8)
    for rule in classes.rules:
        holds = _holds(rule, colour, absolute) & (codes < 0)
        codes[holds] = rule.code
    uncertain = floats(table, parallax.error) > floats(table, parallax.value)
    if classes.likely_giant is None:
        codes[uncertain] = -1
        return codes, np.zeros(table.num_rows, dtype=bool)
    codes[uncertain] = class_code(classes, classes.likely_giant)
    return codes, uncertain


def _holds(rule: ClassRule, colour: NDArray, absolute: NDArray) -> NDArray[np.bool_]:
    holds = np.isfinite(colour) & np.isfinite(absolute)
    if rule.colour:
        holds &= (colour > rule.colour[0]) & (colour < rule.colour[1])
    if rule.absolute:
        holds &= (absolute > rule.absolute[0]) & (absolute < rule.absolute[1])
    if rule.fainter_than:
        holds &= absolute > line(colour, rule.fainter_than)
    if rule.brighter_than:
        holds &= absolute < line(colour, rule.brighter_than)
    return holds


def class_code(classes: Classes, name: str) -> int:
    """Code of a class.

    Raises
    ------
    SchemaError
        If no rule carries the name.
    """
    for rule in classes.rules:
        if rule.name == name:
            return rule.code
    raise SchemaError("no class of this name", seen=name, needed=", ".join(rule.name for rule in classes.rules))


def _nullable(values: NDArray, kind: pa.DataType) -> pa.Array:
    return pa.array(values.astype(kind.to_pandas_dtype()), mask=~np.isfinite(values), type=kind)
