"""Quality rules of a schema: where a condition holds, set a flag and blank columns."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.errors import ConfigError
from stellarscale.flags import Flag
from stellarscale.schema import Condition, QualityRule
from stellarscale.surveys.cells import Cells, Value, valid_of


def apply_rules(rules: Iterable[QualityRule], values: dict[str, Value], flags: NDArray[np.int32]) -> None:
    """Apply rules in order to a table's values, in place, to the rows where all its conditions hold."""
    encoded: dict[str, Value] = {}  # flag strings repeat: each column is encoded once, each distinct one tested once
    for rule in rules:
        hit = np.ones(len(flags), np.bool_)
        for condition in rule.when:
            if condition.column not in encoded:
                encoded[condition.column] = _encoded(values[condition.column])
            hit &= holds(condition, encoded[condition.column])
        if not hit.any():
            continue
        flags[hit] |= int(Flag[rule.flag])
        for name in rule.blank:
            if name in values:
                values[name] = _blank(values[name], hit)
                encoded.pop(name, None)


def holds(condition: Condition, value: Value) -> NDArray[np.bool_]:
    """Rows (rows,) where a condition holds; a null row fulfils ``is_null`` only.

    Raises
    ------
    ConfigError
        If the test does not suit the column's type.
    """
    if condition.is_null is not None:
        return valid_of(value) != condition.is_null
    if isinstance(value, Cells):
        return _number_holds(condition, value.values) & valid_of(value)
    return _string_holds(condition, value)


def _number_holds(condition: Condition, values: NDArray) -> NDArray[np.bool_]:
    if condition.is_true is not None:
        return values.astype(np.bool_) == condition.is_true
    if condition.equals is not None:
        return values == condition.equals
    if condition.not_equals is not None:
        return values != condition.not_equals
    if condition.above is not None:
        return values > condition.above
    if condition.below is not None:
        return values < condition.below
    if condition.bits is not None and values.dtype.kind == "i":
        return (values & values.dtype.type(condition.bits)) != 0
    raise ConfigError("the test does not suit a column of numbers", where=f"quality rule on {condition.column}")


def _string_holds(condition: Condition, value: pa.Array) -> NDArray[np.bool_]:
    encoded = value.dictionary_encode()  # at no cost where it is that already
    words = encoded.dictionary
    if condition.equals is not None:
        hit = pc.equal(words, str(condition.equals))
    elif condition.not_equals is not None:
        hit = pc.not_equal(words, str(condition.not_equals))
    elif condition.one_of is not None and condition.character is not None:
        letter = pc.utf8_slice_codeunits(words, condition.character, condition.character + 1)
        hit = pc.is_in(letter, value_set=pa.array(list(condition.one_of), pa.string()))
    else:
        raise ConfigError("the test does not suit a column of strings", where=f"quality rule on {condition.column}")
    table = np.append(hit.to_numpy(zero_copy_only=False).astype(np.bool_), False)
    return table[encoded.indices.fill_null(len(words)).to_numpy()]


def _encoded(value: Value) -> Value:
    return value if isinstance(value, Cells) else value.dictionary_encode()


def _blank(value: Value, hit: NDArray[np.bool_]) -> Value:
    if isinstance(value, Cells):
        return Cells(value.values, valid_of(value) & ~hit)
    return pc.if_else(pa.array(hit), pa.scalar(None, pa.string()), value)
