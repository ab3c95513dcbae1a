"""The match of two partitions: the table that comes out, and what is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from reference.match_tables import CONFIGS, KEEPS, MOVING, PLAIN, right_of, stars, with_

from stellarscale.errors import ConfigError, InputError, SchemaError
from stellarscale.kernels.match import match
from stellarscale.partition.match import SkyColumns, match_partition, output_schema


def test_columns_are_the_left_ones_then_the_prefixed_right_ones_then_the_pair():
    out = match_partition(stars(1, 30), stars(1, 30), None, with_(PLAIN, pair_prefix="g_"))
    right = ["id", "ra", "dec", "pmra", "pmdec", "epoch"]
    assert out.schema.names == [
        "_healpix_29", *right, *(f"r_{name}" for name in right), "g_separation_arcsec", "g_n_candidates"
    ]  # fmt: skip
    assert out["r_id"].to_pylist() == out["id"].to_pylist()
    assert set(out["g_separation_arcsec"].to_pylist()) == {0.0}


def test_values_are_those_of_the_kernel():
    left = stars(2, 300)
    right = right_of(left, 3)
    out = match_partition(left, right, None, with_(PLAIN, keep="all", radius_arcsec=20.0))
    arrays = [table[name].to_numpy() for table in (left, right) for name in ("ra", "dec")]
    pairs = match(*arrays, radius_arcsec=20.0, keep="all")
    assert out.num_rows == pairs.left.size > 300
    np.testing.assert_array_equal(out["id"], left["id"].to_numpy()[pairs.left])
    np.testing.assert_array_equal(out["r_id"], right["id"].to_numpy()[pairs.right])
    np.testing.assert_array_equal(out["separation_arcsec"], pairs.separation_arcsec)
    np.testing.assert_array_equal(out["n_candidates"], pairs.n_candidates[pairs.left])


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("how", ["inner", "left"])
def test_rows_stay_in_left_order(keep, how):
    left = stars(4, 400)
    out = match_partition(left, right_of(left, 5), None, with_(PLAIN, keep=keep, how=how, radius_arcsec=5.0))
    assert (np.diff(out["_healpix_29"].to_numpy()) >= 0).all()
    assert (np.diff(out["id"].to_numpy()) >= (0 if keep == "all" else 1)).all()


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_how_left_adds_the_unmatched_rows_once_with_nulls(keep, config):
    left = stars(6, 300)
    right = right_of(left, 7).slice(0, 250)
    inner = match_partition(left, right, None, with_(config, keep=keep, radius_arcsec=3.0))
    outer = match_partition(left, right, None, with_(config, keep=keep, radius_arcsec=3.0, how="left"))
    is_matched = outer["separation_arcsec"].is_valid()
    assert outer.filter(is_matched).equals(inner)
    lonely = outer.filter(pa.compute.invert(is_matched))
    assert set(lonely["id"].to_pylist()) == set(range(300)) - set(inner["id"].to_pylist())
    assert 0 < lonely.num_rows == len(set(lonely["id"].to_pylist()))
    for name in outer.schema.names:
        if name.startswith("r_"):
            assert lonely[name].null_count == lonely.num_rows
    assert outer["n_candidates"].null_count == 0
    if keep != "mutual":
        assert set(lonely["n_candidates"].to_pylist()) == {0}


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("n_left, n_right", [(0, 0), (0, 20), (20, 0), (20, 20)])
def test_the_declared_schema_is_the_one_that_comes_out(how, keep, config, n_left, n_right):
    left, right = stars(8, 20).slice(0, n_left), stars(8, 20).slice(0, n_right)
    config = with_(config, keep=keep, how=how)
    schema = output_schema(left.schema, right.schema, config)
    out = match_partition(left, right, left.slice(0, 0), config)
    out.validate(full=True)
    assert out.schema.equals(schema, check_metadata=True)
    assert out.num_rows == (n_left if how == "left" else out["separation_arcsec"].drop_null().length())


def test_left_columns_are_not_copied_when_all_rows_stay():
    left = stars(9, 100)
    out = match_partition(left, left, None, PLAIN)
    for name in left.schema.names:
        assert out[name].chunk(0).buffers()[1].address == left[name].chunk(0).buffers()[1].address


def test_metadata_of_the_columns_is_carried_over():
    left, right = stars(10, 5), stars(10, 5)
    about = {b"unit": b"mas/yr", b"ucd": b"pos.pm;pos.eq.ra", b"description": b"motion"}
    fields = [f.with_metadata(about) if f.name == "pmra" else f for f in right.schema]
    right = right.cast(pa.schema(fields, metadata={b"pandas": b"of the right table alone"}))
    schema = output_schema(left.schema, right.schema, PLAIN)
    assert schema.field("r_pmra").metadata == about
    assert schema.field("separation_arcsec").metadata[b"unit"] == b"arcsec"
    assert schema.field("separation_arcsec").type == pa.float64()
    assert schema.field("n_candidates").type == pa.int32()
    assert schema.metadata is None


def test_right_columns_that_may_not_be_null_become_nullable():
    right = stars(11, 5)
    right = right.cast(pa.schema([f.with_nullable(False) if f.name == "id" else f for f in right.schema]))
    out = match_partition(stars(12, 5, centre=(50.0, 0.0)), right, None, with_(PLAIN, how="left"))
    assert out["r_id"].null_count == 5
    assert out.schema.field("r_id").nullable


def awkward_columns(n):
    """A column of every kind that surveys bring."""
    flux = pa.FixedSizeListArray.from_arrays(np.arange(4.0 * n, dtype=np.float32), 4)
    stamp = pa.array([bytes([i % 256] * 6) for i in range(n)], pa.binary(6))
    return {
        "flux": flux,
        "stamp": stamp,
        "name": pa.array([f"star {i}" for i in range(n)]),
        "large": pa.array([None if i % 3 else f"x{i}" for i in range(n)], pa.large_string()),
        "kind": pa.array(["dwarf" if i % 2 else "giant" for i in range(n)]).dictionary_encode(),
        "many": pa.array([[i] * (i % 3) for i in range(n)], pa.list_(pa.int32())),
        "flag": pa.array([i % 2 == 0 for i in range(n)]),
        "small": pa.array(np.arange(n) % 100, pa.int8()),
    }


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize("chunks", [1, 3])
def test_every_kind_of_column_passes_through(how, chunks):
    ra, dec = np.linspace(10.0, 11.0, 30), np.zeros(30)
    whole = pa.table({"ra": ra, "dec": dec, **awkward_columns(30)})
    size = 30 // chunks
    # Pieces built on their own carry dictionaries of their own.
    pieces = [whole.slice(i * size, size) for i in range(chunks)]
    pieces = [
        piece.set_column(6, "kind", pa.compute.dictionary_encode(piece["kind"].cast(pa.string()))) for piece in pieces
    ]
    right = pa.concat_tables(pieces)
    left = right.slice(0, 30).take(pa.array([3, 4, 12, 20, 29])) if chunks == 1 else right
    left = pa.concat_tables([left, left.slice(0, 1).set_column(0, "ra", pa.array([200.0]))])
    out = match_partition(left, right, None, with_(PLAIN, how=how))
    out.validate(full=True)
    n = left.num_rows - 1
    assert out.num_rows == n + (how == "left")
    for name in awkward_columns(1):
        values = left[name].to_pylist()
        assert out[name].to_pylist() == (values if how == "left" else values[:n])
        assert out[f"r_{name}"].to_pylist() == values[:n] + [None] * (how == "left")


def test_float32_positions_and_integer_epochs_are_read_as_numbers():
    left = pa.table({"ra": pa.array([10.0], pa.float32()), "dec": pa.array([0.0], pa.float32())})
    right = pa.table({"ra": [10.0], "dec": [0.0]})
    assert match_partition(left, right, None, PLAIN).num_rows == 1


def test_all_colliding_names_are_listed_before_any_work():
    left = pa.table({"ra": [np.nan], "dec": [0.0], "a": [1], "n_candidates": [1]})
    right = pa.table({"ra": [1.0], "dec": [0.0], "A": [1], "fine": [1]})
    with pytest.raises(SchemaError) as caught:
        match_partition(left, right, None, with_(PLAIN, right_prefix=""))
    for name in ("A", "a", "dec", "n_candidates", "ra"):
        assert name in caught.value.seen.split(", ")
    assert "fine" not in caught.value.seen


def test_a_prefix_already_taken_collides():
    first = match_partition(stars(1, 5), stars(1, 5), None, PLAIN)
    with pytest.raises(SchemaError, match=r"r_dec.*r_ra.*separation_arcsec"):
        match_partition(first, stars(1, 5), None, PLAIN)
    chained = with_(PLAIN, right_prefix="s_", pair_prefix="s_")
    assert match_partition(first, stars(1, 5), None, chained).num_rows == 5


def test_the_sky_key_is_the_left_one():
    out = match_partition(stars(1, 5), stars(1, 5), None, PLAIN)
    assert [name for name in out.schema.names if "healpix" in name] == ["_healpix_29"]


def test_a_missing_column_is_named():
    config = with_(PLAIN, left=SkyColumns(ra="RAJ2000", pmra="motion", pmdec="pmdec"))
    schema = stars(1, 1).schema
    with pytest.raises(SchemaError, match=r"left catalogue.*Needed: RAJ2000, motion"):
        output_schema(schema, schema, config)


@pytest.mark.parametrize("value", [None, np.nan])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_without_position_is_named(side, value):
    good = pa.table({"ra": [1.0, 2.0], "dec": [0.0, 0.0]})
    bad = pa.table({"ra": [1.0, 2.0], "dec": pa.array([0.0, value], pa.float64(), from_pandas=False)})
    tables = (bad, good) if side == "left" else (good, bad)
    with pytest.raises(InputError, match=f"{side} row 1 has no usable position"):
        match_partition(*tables, None, PLAIN)


@pytest.mark.parametrize(
    "changes",
    [
        {"radius_arcsec": 0.0},
        {"radius_arcsec": np.nan},
        {"keep": "best"},
        {"how": "outer"},
        {"epoch": "now", "left": MOVING},
        {"epoch": np.nan, "left": MOVING},
        {"epoch": 2000.0},
        {"epoch": "rows"},
        {"epoch": 2000.0, "left": SkyColumns(pmra="pmra", pmdec="pmdec")},
        {"epoch": "rows", "left": MOVING},
        {"left": SkyColumns(pmra="pmra")},
    ],
)
def test_unusable_settings_are_refused(changes):
    with pytest.raises(ConfigError):
        with_(PLAIN, **changes)
