"""Columns attached by key."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stellarscale.errors import SchemaError
from stellarscale.partition.attach import (
    AttachConfig,
    KeyColumns,
    attach_columns,
    attached_schema,
)

CONFIG = AttachConfig(KeyColumns("obsid"), KeyColumns("obsid"), {"source_id": "source_id", "class": "subclass"}, 10.0)
LEFT = pa.table({"obsid": [5, 3, None, 9, 3, 7], "ra": [10.0] * 6, "dec": [20.0] * 6, "teff": [1, 2, 3, 4, 5, 6]})


def right(**changes) -> pa.Table:
    columns = {
        "obsid": [3, 9, 5, 3, None],
        "ra": [10.0, 10.0, 10.0, 10.0, 10.0],
        "dec": [20.001, 20.1, 20.0, 20.0, 20.0],
        "source_id": pa.array([33, 99, 55, 333, 1], pa.int64()),
        "subclass": ["M3", "M9", None, "M4", "M0"],
    }
    return pa.table(columns | changes)


def test_rows_of_equal_keys_nearby_are_attached():
    attached = attach_columns(LEFT, right(), CONFIG)
    assert attached.table["source_id"].to_pylist() == [55, 33, None, None, 33, None]
    assert attached.table["class"].to_pylist() == [None, "M3", None, None, "M3", None]
    assert attached.table.select(LEFT.column_names).equals(LEFT)
    assert (attached.matched, attached.several) == (3, 2)


def test_the_first_of_several_must_itself_be_near():
    far = right(dec=[21.0, 20.1, 20.0, 20.0, 20.0])
    attached = attach_columns(LEFT, far, CONFIG)
    assert attached.table["source_id"].to_pylist() == [55, 333, None, None, 333, None]
    assert attached.several == 0


def test_pairs_of_random_keys_are_those_of_a_loop():
    rng = np.random.default_rng(2)
    ours, theirs = rng.integers(0, 60, 200), rng.integers(0, 80, 150)
    left = pa.table({"obsid": ours, "ra": np.zeros(200), "dec": np.zeros(200)})
    other = {"obsid": theirs, "ra": np.zeros(150), "dec": np.zeros(150), "source_id": np.arange(150)}
    config = AttachConfig(KeyColumns("obsid"), KeyColumns("obsid"), {"found": "source_id"}, 1.0)
    attached = attach_columns(left, pa.table(other), config)
    places = [np.flatnonzero(theirs == key) for key in ours]
    assert attached.table["found"].to_pylist() == [int(at[0]) if len(at) else None for at in places]
    assert attached.matched == sum(len(at) > 0 for at in places)
    assert attached.several == sum(len(at) > 1 for at in places)


def test_keys_may_be_text_or_integers_of_any_width():
    text = attach_columns(
        LEFT.set_column(0, "obsid", LEFT["obsid"].cast(pa.string())),
        right(obsid=["3", "9", "5", "3", None]),
        CONFIG,
    )
    narrow = attach_columns(LEFT, right(obsid=pa.array([3, 9, 5, 3, None], pa.int32())), CONFIG)
    assert (
        text.table["source_id"].to_pylist() == narrow.table["source_id"].to_pylist() == [55, 33, None, None, 33, None]
    )


def test_nothing_on_either_side():
    for left, other, rows in ((LEFT.slice(0, 0), right(), 0), (LEFT, right().slice(0, 0), 6)):
        attached = attach_columns(left, other, CONFIG)
        assert attached.table.schema.equals(attached_schema(LEFT.schema, right().schema, CONFIG))
        assert (attached.table.num_rows, attached.matched, attached.table["source_id"].null_count) == (rows, 0, rows)


def test_columns_that_do_not_fit_are_named():
    with pytest.raises(SchemaError, match="Needed: subclass"):
        attach_columns(LEFT, right().drop(["subclass"]), CONFIG)
    with pytest.raises(SchemaError, match="names that are taken"):
        attach_columns(LEFT.append_column("class", pa.array([""] * 6)), right(), CONFIG)
    with pytest.raises(SchemaError, match="cannot be equal"):
        attach_columns(LEFT, right(obsid=["3", "9", "5", "3", None]), CONFIG)
