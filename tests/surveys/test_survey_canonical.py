"""Sentinels, ranges, casts, flags, rejects and placeholder positions of the canonical step."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from stellarscale.errors import ConfigError, InputError, SchemaError
from stellarscale.flags import Flag
from stellarscale.schema import Column, Condition, QualityRule, SurveySchema, load_survey, parse_yaml
from stellarscale.surveys.cells import Cells, canonical_value, to_arrow
from stellarscale.surveys.placeholder import spread_positions
from stellarscale.surveys.quality import apply_rules, holds
from stellarscale.surveys.read import REJECTS, inspect, read_batches

USER = load_survey("user_table")


def cast(native: pa.Array, **column) -> tuple[list, list[int]]:
    flags = np.zeros(len(native), np.int32)
    spec = Column(native=("x",), **column)
    value = canonical_value(native, spec, flags, factor=1.0, where="file, column x", first_row=100)
    return to_arrow(value, pa.type_for_alias(spec.dtype)).to_pylist(), flags.tolist()


def user_batches(folder, table: pa.Table, columns=None, **options):
    path = folder / "t.parquet"
    parquet.write_table(table, path)
    return list(read_batches(path, USER, columns or inspect(path, USER), **options))


def test_sentinels_become_null_and_set_the_flag():
    values, flags = cast(pa.array([1.5, -999.0, None, 99.0]), null=(-999, 99))
    assert values == [1.5, None, None, None]
    assert flags == [0, 1, 0, 1]


def test_sentinels_that_float32_rounds():
    values, flags = cast(pa.array([-9999.99, 1.0]), null=(-9999.99,), dtype="float32")
    assert values == [None, 1.0]
    assert flags == [Flag.SENTINEL_NULL, 0]


def test_nan_is_null_without_a_flag_and_infinity_is_out_of_range():
    values, flags = cast(pa.array([math.nan, math.inf, -math.inf, 1.0]), dtype="float64")
    assert values == [None, None, None, 1.0]
    assert flags == [0, Flag.OUT_OF_RANGE, Flag.OUT_OF_RANGE, 0]


def test_a_double_beyond_float32_is_out_of_range():
    values, flags = cast(pa.array([1e300, 1.0]), dtype="float32")
    assert (values, flags) == ([None, 1.0], [Flag.OUT_OF_RANGE, 0])


@pytest.mark.parametrize("limits, kept", [((0, 10), [0.0, 10.0]), ((None, 5), [0.0, -1.0]), ((1, None), [10.0, 11.0])])
def test_range_keeps_its_ends(limits, kept):
    values, flags = cast(pa.array([0.0, 10.0, -1.0, 11.0]), range=limits)
    assert [value for value in values if value is not None] == kept
    assert [value is None for value in values] == [flag == Flag.OUT_OF_RANGE for flag in flags]


def test_integers_with_nulls_stay_exact():
    big = (1 << 62) + 1
    values, _ = cast(pa.array([big, None, -big]), dtype="int64")
    assert values == [big, None, -big]


def test_slices_of_arrow_arrays_keep_their_offset():
    native = pa.array([0, 1, None, 3, 4])[1:4]
    assert cast(native, dtype="int64")[0] == [1, None, 3]
    assert cast(native.cast(pa.float32()), dtype="float32")[0] == [1.0, None, 3.0]


@pytest.mark.parametrize(
    "dtype, value", [(pa.float64(), 2.0**53 + 2), (pa.float32(), 2.0**24 + 2), (pa.float64(), 1.5)]
)
def test_integers_in_floats_that_cannot_hold_them_are_refused(dtype, value):
    with pytest.raises(SchemaError, match="floating point") as caught:
        cast(pa.array([1.0, value], dtype), dtype="int64")
    assert caught.value.where == "file, column x"
    assert repr(np.dtype(dtype.to_pandas_dtype()).type(value)) in caught.value.seen


def test_whole_numbers_in_floats_are_accepted():
    assert cast(pa.array([1.0, math.nan, 2.0**53]), dtype="int64")[0] == [1, None, 1 << 53]


def test_float_ids_do_not_become_strings_with_a_point():
    assert cast(pa.array([12.0, None, math.nan]), dtype="string")[0] == ["12", None, None]
    with pytest.raises(SchemaError, match="floating point"):
        cast(pa.array([2.0**60]), dtype="string")


def test_strings_become_numbers_exactly():
    values, flags = cast(pa.array([" 9007199254740993", "", "null", "-9999", None]), dtype="int64", null=(-9999,))
    assert values == [9007199254740993, None, None, None, None]
    assert flags == [0, 0, 0, Flag.SENTINEL_NULL, 0]


def test_a_string_that_is_no_number_names_row_and_value():
    with pytest.raises(InputError, match="a string is not the number") as caught:
        cast(pa.array(["1", "2", "J12", "x"]), dtype="int64")
    assert caught.value.where == "file, column x, row 102"
    assert caught.value.seen == "'J12'"


def test_an_integer_too_large_for_its_column():
    with pytest.raises(SchemaError, match="does not fit") as caught:
        cast(pa.array([1, 40_000]), dtype="int16")
    assert caught.value.seen == 40_000


@pytest.mark.parametrize(
    "native, dtype, expected",
    [
        (pa.array(["a", "b", "a"]).dictionary_encode(), "string", ["a", "b", "a"]),
        (pa.array(["a", ""], pa.large_string()), "string", ["a", None]),
        (pa.array([3, None], pa.uint64()), "int64", [3, None]),
        (pa.array([7], pa.int64()), "string", ["7"]),
        (pa.array([True, None]), "bool", [True, None]),
        (pa.array([0, 2], pa.int8()), "bool", [False, True]),
        (pa.array([True, False]), "int16", [1, 0]),
        (pa.nulls(2), "float32", [None, None]),
        (pa.array([1.5], pa.float16()), "float64", [1.5]),
        (pa.array(["1.25"], pa.string()).cast(pa.decimal128(5, 2)), "float64", [1.25]),
    ],
)
def test_native_types(native, dtype, expected):
    assert cast(native, dtype=dtype)[0] == expected


def test_a_column_of_lists_is_refused(tmp_path):
    table = pa.table({"ra": [1.0], "dec": [1.0], "teff": [[1.0, 2.0]]})
    with pytest.raises(SchemaError, match="several values per row"):
        user_batches(tmp_path, table)
    assert user_batches(tmp_path, table, ["ra"])[0].rows_in == 1


def test_string_sentinels():
    values, flags = cast(pa.array(["a", "N/A", None]), dtype="string", null=("N/A",))
    assert (values, flags) == (["a", None, None], [0, Flag.SENTINEL_NULL, 0])


@pytest.mark.parametrize(
    "ra, dec, reason",
    [
        (None, 1.0, "position missing"),
        (1.0, math.nan, "position missing"),
        (math.inf, 1.0, "position missing"),
        (1.0, 90.0001, "declination out of range"),
        (1.0, -91.0, "declination out of range"),
        (-0.5, 1.0, "right ascension out of range"),
        (360.0001, 1.0, "right ascension out of range"),
        (400.0, 95.0, "declination out of range"),
    ],
)
def test_rejects_name_the_reason(tmp_path, ra, dec, reason):
    table = pa.table({"id": ["good", "bad"], "ra": pa.array([5.0, ra]), "dec": pa.array([6.0, dec])})
    (batch,) = user_batches(tmp_path, table)
    assert batch.table["id"].to_pylist() == ["good"]
    assert batch.rejects.schema.equals(REJECTS)
    (row,) = batch.rejects.to_pylist()
    assert (row["row"], row["id"], row["reason"]) == (1, "bad", reason)
    assert row["file"].endswith("t.parquet")
    assert row["ra"] == (ra if ra is not None and math.isfinite(ra) else None)


def test_positions_at_the_edges_are_kept(tmp_path):
    table = pa.table({"ra": [0.0, 360.0, 359.9999999, 12.0], "dec": [90.0, -90.0, 0.0, -0.0]})
    (batch,) = user_batches(tmp_path, table)
    assert batch.rejects.num_rows == 0
    assert batch.table["ra"].to_pylist() == [0.0, 0.0, 359.9999999, 12.0]


number = st.one_of(st.none(), st.floats(-500, 500), st.sampled_from([math.nan, math.inf, 360.0, 90.0, -90.0, 0.0]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(number, number), min_size=1, max_size=30), st.integers(1, 7))
def test_rows_are_conserved(tmp_path_factory, positions, batch_rows):
    ra, dec = (pa.array(list(values), pa.float64()) for values in zip(*positions, strict=True))
    folder = tmp_path_factory.mktemp("rows")
    table = pa.table({"id": [str(i) for i in range(len(ra))], "ra": ra, "dec": dec})
    batches = user_batches(folder, table, batch_rows=batch_rows)
    assert sum(batch.rows_in for batch in batches) == len(positions)
    kept = [name for batch in batches for name in batch.table["id"].to_pylist()]
    rejected = [row for batch in batches for row in batch.rejects["row"].to_pylist()]
    good = [
        i for i, (a, d) in enumerate(positions) if a is not None and d is not None and 0 <= a <= 360 and -90 <= d <= 90
    ]
    assert kept == [str(i) for i in good]
    assert sorted([*rejected, *good]) == list(range(len(positions)))


def test_row_numbers_go_on_from_the_files_before(tmp_path):
    table = pa.table({"ra": [1.0, 2.0, 3.0], "dec": [1.0, 2.0, 3.0]})
    batches = user_batches(tmp_path, table, first_id=1000, batch_rows=2)
    assert [name for batch in batches for name in batch.table["id"].to_pylist()] == ["1000", "1001", "1002"]


def test_placeholder_positions_do_not_depend_on_batches_or_files(tmp_path):
    schema = load_survey("segue_colours")
    lines = [f"{i % 7}.5,0.5,0.25,0.125,-1.0" for i in range(100)]
    whole, part = tmp_path / "whole.csv", tmp_path / "part.csv"
    whole.write_text("\n".join(["ug,gr,ri,iz,feh", *lines]))
    part.write_text("\n".join(["ug,gr,ri,iz,feh", *lines[60:]]))
    tables = [batch.table for batch in read_batches(whole, schema, ["u_g"], batch_rows=7)]
    full = pa.concat_tables(tables).combine_chunks()
    rest = next(read_batches(part, schema, ["u_g"], first_id=60)).table
    assert rest.equals(full.slice(60).combine_chunks())
    assert full["row_id"].to_pylist() == list(range(100))


def test_spread_positions_are_even():
    ra, dec = spread_positions(0, 20_000)
    assert ra.min() >= 0
    assert ra.max() < 360
    heights = np.histogram(np.sin(np.deg2rad(dec)), bins=20, range=(-1, 1))[0]
    quarters = np.histogram(ra, bins=16, range=(0, 360))[0]
    assert np.abs(heights - 1000).max() < 20
    assert np.abs(quarters - 1250).max() < 20


def test_optional_positions_of_a_placeholder_survey(tmp_path):
    schema = load_survey("andrae2023")
    path = tmp_path / "t.csv"
    path.write_text("source_id,mh_xgboost,teff_xgboost,logg_xgboost,ra,dec\n1,-0.5,5000,4,10,20\n2,-0.5,5000,4,,\n")
    (batch,) = read_batches(path, schema, inspect(path, schema))
    assert batch.table.to_pylist()[0]["ra"] == 10.0
    assert batch.rejects["reason"].to_pylist() == ["position missing"]


NUMBERS = Cells(np.array([0, 1, 6, 5]), np.array([True, True, True, False]))
WORDS = pa.array(["AUA", "AAA", None, "U"])


@pytest.mark.parametrize(
    "test, value, expected",
    [
        ({"equals": 1}, NUMBERS, [False, True, False, False]),
        ({"not_equals": 0}, NUMBERS, [False, True, True, False]),
        ({"above": 0}, NUMBERS, [False, True, True, False]),
        ({"below": 6}, NUMBERS, [True, True, False, False]),
        ({"bits": 4}, NUMBERS, [False, False, True, False]),
        ({"is_null": True}, NUMBERS, [False, False, False, True]),
        ({"is_null": False}, NUMBERS, [True, True, True, False]),
        ({"is_true": True}, NUMBERS, [False, True, True, False]),
        ({"is_true": False}, NUMBERS, [True, False, False, False]),
        ({"character": 1, "one_of": "UX"}, WORDS, [True, False, False, False]),
        ({"equals": "AAA"}, WORDS, [False, True, False, False]),
        ({"not_equals": "AAA"}, WORDS, [True, False, False, True]),
        ({"is_null": True}, WORDS, [False, False, True, False]),
    ],
)
def test_conditions(test, value, expected):
    assert holds(Condition(column="x", **test), value).tolist() == expected


def test_conditions_that_do_not_suit_the_column():
    with pytest.raises(ConfigError, match="does not suit"):
        holds(Condition(column="x", above=1), WORDS)
    with pytest.raises(ConfigError, match="does not suit"):
        holds(Condition(column="x", character=0, one_of="A"), NUMBERS)


def test_rules_flag_and_blank_where_all_conditions_hold():
    values = {"a": Cells(np.array([1.0, 1.0, 2.0]), None), "w": pa.array(["x", "y", "x"])}
    flags = np.zeros(3, np.int32)
    rule = QualityRule(
        flag="BLEND", when=[{"column": "a", "equals": 1}, {"column": "w", "equals": "x"}], blank=["a", "w"]
    )
    apply_rules([rule], values, flags)
    assert flags.tolist() == [Flag.BLEND, 0, 0]
    assert to_arrow(values["a"], pa.float64()).to_pylist() == [None, 1.0, 2.0]
    assert values["w"].to_pylist() == [None, "y", "x"]


@pytest.mark.parametrize(
    "rule",
    [
        "{flag: NONSENSE, when: {column: ra, is_null: true}}",
        "{flag: BLEND, when: {column: ra}}",
        "{flag: BLEND, when: {column: ra, above: 1, below: 2}}",
        "{flag: BLEND, when: {column: ra, one_of: A}}",
        "{flag: BLEND, when: {column: nowhere, above: 1}}",
    ],
)
def test_rules_that_say_nothing_sensible(rule):
    text = "name: n\nalias: n\ntitle: t\nid: ra\n"
    text += "columns: {ra: {native: [ra]}, dec: {native: [dec], null: [-9]}}\n"
    assert parse_yaml(SurveySchema, text, where="here").columns["dec"].null == (-9,)
    with pytest.raises(ConfigError, match="not valid"):
        parse_yaml(SurveySchema, text + f"quality: [{rule}]", where="here")
