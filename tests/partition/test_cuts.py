"""Cuts of a job on small tables."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.errors import SchemaError
from stellarscale.partition.cuts import cut_columns, failed_cuts_of, passes
from stellarscale.settings.cuts import Cut

NAN = math.nan


def table(**columns) -> pa.Table:
    return pa.table({name: pa.array(values) for name, values in columns.items()})


@pytest.mark.parametrize(
    "test, good",
    [
        ({"equals": 1}, [False, True, False]),
        ({"min": 1}, [False, True, True]),
        ({"max": 1}, [True, True, False]),
        ({"below": 1}, [True, False, False]),
        ({"above": 1}, [False, False, True]),
        ({"min": 1, "below": 2}, [False, True, False]),
    ],
)
def test_each_comparison(test, good):
    assert passes(table(a=[0, 1, 2]), [Cut(name="c", columns=("a",), **test)]).tolist() == good


def test_every_column_of_a_cut_must_pass():
    rows = table(u=[1, 0, 1], v=[1, 1, 0])
    cut = Cut(name="ngood", columns=("u", "v"), min=1)
    assert failed_cuts_of(rows, [cut])["ngood"].tolist() == [False, True, True]


def test_absolute_values():
    assert passes(
        table(glat=[-11.0, -9.0, 10.0]), [Cut(name="b", columns=("glat",), absolute=True, min=10)]
    ).tolist() == [
        True,
        False,
        True,
    ]


def test_a_missing_value_fails_or_passes_as_the_cut_says():
    rows = table(d=[None, NAN, 14.0, 15.0])
    fails, let = (Cut(name="d", columns=("d",), min=15, null=null) for null in ("fail", "pass"))
    assert passes(rows, [fails]).tolist() == [False, False, False, True]
    assert passes(rows, [let]).tolist() == [True, True, False, True]


def test_a_ratio_with_a_divisor_that_is_not_positive_fails_whatever_null_says():
    rows = table(err=[0.1, 0.1, 0.1, 0.1, None, 0.5], plx=[1.0, 0.0, -1.0, None, 1.0, 1.0])
    for null, missing in (("fail", False), ("pass", True)):
        cut = Cut(name="plx", columns=("err",), over="plx", below=0.3, null=null)
        assert passes(rows, [cut]).tolist() == [True, False, False, missing, missing, False]


def test_a_ratio_of_which_numerator_and_divisor_fail_is_not_missing():
    cut = Cut(name="plx", columns=("err",), over="plx", below=0.3, null="pass")
    assert not passes(
        table(err=[None], plx=[-1.0]).cast(pa.schema([("err", pa.float64()), ("plx", pa.float64())])), [cut]
    )[0]


def test_a_limit_is_rounded_as_the_column_is():
    rows = pa.table({"a": pa.array([0.7], pa.float32()), "b": pa.array([1.0], pa.float32())})
    assert passes(rows, [Cut(name="a", columns=("a",), min=0.7)])[0]
    assert passes(rows, [Cut(name="a", columns=("a",), equals=0.7)])[0]


def test_booleans_are_numbers():
    assert passes(table(use=[True, False, None]), [Cut(name="use", columns=("use",), equals=1)]).tolist() == [
        True,
        False,
        False,
    ]


def test_cuts_come_in_order_and_no_cut_passes_all():
    rows = table(a=[1.0], b=[2.0])
    cuts = [Cut(name="second", columns=("b",), min=0), Cut(name="first", columns=("a",), min=0)]
    assert list(failed_cuts_of(rows, cuts)) == ["second", "first"]
    assert passes(rows, ()).tolist() == [True]
    assert passes(rows.slice(0, 0), cuts).shape == (0,)
    assert cut_columns([*cuts, Cut(name="r", columns=("a",), over="c", min=0)]) == ["b", "a", "c"]


def test_a_missing_column_is_told_with_the_nearest():
    with pytest.raises(SchemaError, match=r"class_sta.*did you mean 'class_star'"):
        passes(table(class_star=[1.0]), [Cut(name="c", columns=("class_sta",), min=0.6)])
    with pytest.raises(SchemaError, match="missing"):
        passes(table(a=[1.0]), [Cut(name="c", columns=("a",), over="parallax", min=0.6)])


def test_a_column_of_text_is_refused():
    with pytest.raises(SchemaError, match=r"column name.*string.*numbers"):
        passes(table(name=["a"]), [Cut(name="c", columns=("name",), min=0.6)])


number = st.one_of(st.none(), st.floats(-3, 3), st.just(NAN))


@given(
    rows=st.lists(st.tuples(number, number), max_size=20),
    over=st.booleans(),
    absolute=st.booleans(),
    null=st.sampled_from(["fail", "pass"]),
    limit=st.floats(-2, 2),
)
def test_rows_are_judged_one_by_one(rows, over, absolute, null, limit):
    kind = pa.float64()
    rows_table = pa.table({"a": pa.array([r[0] for r in rows], kind), "b": pa.array([r[1] for r in rows], kind)})
    cut = Cut(name="c", columns=("a",), over="b" if over else None, absolute=absolute, null=null, max=limit)
    expected = [_plain(a, b if over else None, over, cut, limit) for a, b in rows]
    np.testing.assert_array_equal(passes(rows_table, [cut]), np.array(expected, dtype=bool))


def _plain(value, divisor, over, cut, limit):
    """The rule of a cut for one row, in words of the settings."""
    gone = [each is None or math.isnan(each) for each in ((value, divisor) if over else (value,))]
    if over and not gone[1] and divisor <= 0:
        return False
    if any(gone):
        return cut.null == "pass"
    ratio = float(np.float64(value) / np.float64(divisor)) if over else value
    return (abs(ratio) if cut.absolute else ratio) <= limit
