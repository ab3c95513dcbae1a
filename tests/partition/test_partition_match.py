from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarscale.errors import ConfigError, InputError, SchemaError
from stellarscale.kernels.healpix import pixel_of
from stellarscale.kernels.match import match
from stellarscale.kernels.sphere import propagate, separation_arcsec
from stellarscale.partition.match import (
    MatchConfig,
    SkyColumns,
    margin_arcsec,
    match_partition,
    output_schema,
)

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "crossmatch"
KEEPS = ["nearest", "all", "mutual"]
MOVING = SkyColumns(id="id", pmra="pmra", pmdec="pmdec", epoch_yr=2016.0)
DATED = SkyColumns(id="id", epoch="epoch")
PLAIN = MatchConfig(1.0, right_prefix="r_", left=SkyColumns(), right=SkyColumns())
TO_YEAR = MatchConfig(1.0, epoch=2000.0, right_prefix="r_", left=MOVING, right=SkyColumns())
BY_ROW = MatchConfig(1.0, epoch="rows", right_prefix="r_", left=MOVING, right=DATED)
CONFIGS = {
    "plain": PLAIN,
    "year": TO_YEAR,
    "rows": BY_ROW,
    "rows, right moves": MatchConfig(1.0, epoch="rows", right_prefix="r_", left=DATED, right=MOVING),
    "year, both move": MatchConfig(1.0, epoch=2010.0, right_prefix="r_", left=MOVING, right=MOVING),
}


def sky_table(ra, dec, **columns):
    """A table in sky order as the catalogue layer hands it out, with a row number of its own."""
    columns = {name: np.asarray(values) for name, values in {"ra": ra, "dec": dec, **columns}.items()}
    key = pixel_of(columns["ra"].astype(float), columns["dec"].astype(float))
    order = np.argsort(key, kind="stable")
    arrays = {name: pa.array(values[order], from_pandas=True) for name, values in columns.items()}
    return pa.table({"_healpix_29": key[order], "id": np.arange(order.size), **arrays})


def stars(seed, n, centre=(0.0, 89.99), size_deg=0.02, speed_masyr=500.0):
    """A clump with motions, a tenth of them missing, and epochs about 2000."""
    rng = np.random.default_rng(seed)
    angle, distance = rng.uniform(0.0, 2.0 * np.pi, n), size_deg * 3.6e6 * np.sqrt(rng.uniform(0.0, 1.0, n))
    ra, dec = propagate(*centre, distance * np.cos(angle), distance * np.sin(angle), 1.0)
    pmra, pmdec = rng.normal(0.0, speed_masyr / 3.0, (2, n)).clip(-speed_masyr, speed_masyr)
    pmra[rng.uniform(size=n) < 0.1] = np.nan
    return sky_table(ra, dec, pmra=pmra, pmdec=pmdec, epoch=rng.uniform(1997.0, 2001.0, n))


def right_of(left, seed, scatter_arcsec=0.3):
    """The same stars measured again, some twice, and as many others."""
    rng = np.random.default_rng(seed)
    again = np.concatenate([np.arange(left.num_rows), rng.integers(0, left.num_rows, left.num_rows // 4)])
    pmra, pmdec = (np.nan_to_num(left[name].to_numpy()) for name in ("pmra", "pmdec"))
    epoch = rng.uniform(1997.0, 2001.0, again.size)
    ra, dec = propagate(
        *(left[name].to_numpy()[again] for name in ("ra", "dec")), pmra[again], pmdec[again], epoch - 2016.0
    )
    ra, dec = propagate(ra, dec, *rng.normal(0.0, 1e3 * scatter_arcsec, (2, again.size)), 1.0)
    others = stars(seed + 1, left.num_rows)
    columns = {"ra": ra, "dec": dec, "epoch": epoch}
    columns |= {"pmra": pmra[again], "pmdec": pmdec[again]}
    both = {name: np.concatenate([values, others[name].to_numpy()]) for name, values in columns.items()}
    return sky_table(**both)


def with_(config, **changes):
    return dataclasses.replace(config, **changes)


def matched_ids(table):
    return sorted(zip(*(table[name].to_pylist() for name in ("id", "r_id", "separation_arcsec")), strict=True))


# ---------------------------------------------------------------- the table that comes out


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


# ---------------------------------------------------------------- what is refused


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


# ---------------------------------------------------------------- motions and epochs


def one_star(seen_yr, **columns):
    """A star that moves by 1 arcsec a year in right ascension, as seen at an epoch."""
    ra, dec = propagate(120.0, 60.0, 1000.0, 0.0, seen_yr - 2016.0)
    return pa.table({"ra": [float(ra)], "dec": [float(dec)], **{k: pa.array([v]) for k, v in columns.items()}})


@pytest.mark.parametrize(
    "left_epoch, right_epoch, config",
    [
        (2016.0, 2000.0, TO_YEAR),
        (2016.0, 1983.5, BY_ROW),
        (1983.5, 2016.0, CONFIGS["rows, right moves"]),
        (2016.0, 2016.0, CONFIGS["year, both move"]),
    ],
)
def test_a_moving_star_is_found_and_lost_without_its_motion(left_epoch, right_epoch, config):
    left = one_star(left_epoch, pmra=1000.0, pmdec=0.0, epoch=left_epoch)
    right = one_star(right_epoch, pmra=1000.0, pmdec=0.0, epoch=right_epoch)
    out = match_partition(left, right, None, with_(config, radius_arcsec=0.001))
    assert out.num_rows == 1
    assert out["no_motion"].to_pylist() == [False]
    if left_epoch != right_epoch:
        none = pa.array([None], pa.float64())
        still = [table.set_column(2, "pmra", none) for table in (left, right)]
        assert match_partition(*still, None, with_(config, radius_arcsec=0.001)).num_rows == 0


@pytest.mark.parametrize("missing", ["pmra", "pmdec"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_missing_motion_counts_as_zero_and_is_flagged(missing, config):
    columns = {"pmra": 5.0, "pmdec": 5.0, "epoch": 2016.0, missing: None}
    if config.epoch == 2000.0:
        columns["epoch"] = 2000.0
    left = pa.table({"ra": [5.0], "dec": [5.0], **{k: pa.array([v], pa.float64()) for k, v in columns.items()}})
    out = match_partition(left, left, None, with_(config, radius_arcsec=1e-6))
    assert out["separation_arcsec"].to_pylist() == [pytest.approx(0.0, abs=1e-9)]
    assert (out["no_motion"].to_pylist() if config.epoch else [True]) == [True]
    assert ("no_motion" in out.schema.names) == (config.epoch is not None)


def test_no_motion_of_an_unmatched_row_speaks_of_the_left_side_only():
    nothing = pa.array([None], pa.float64())
    left = one_star(2016.0, pmdec=0.0, epoch=2016.0).append_column("pmra", nothing)
    right = one_star(2016.0, pmdec=0.0, epoch=2016.0).append_column("pmra", nothing)
    far = right.set_column(0, "ra", pa.array([300.0]))
    for name, expected in (
        ("year", True),
        ("rows", True),
        ("rows, right moves", None),
        ("year, both move", True),
    ):
        out = match_partition(left, far, None, with_(CONFIGS[name], how="left"))
        assert out["no_motion"].to_pylist() == [expected]


def test_the_epoch_in_years_stands_in_for_rows_without_one():
    left = one_star(2016.0, pmra=1000.0, pmdec=0.0)
    right = one_star(1990.0).append_column("epoch", pa.array([None], pa.float64()))
    config = with_(BY_ROW, radius_arcsec=0.001, right=SkyColumns(epoch="epoch", epoch_yr=1990.0))
    assert match_partition(left, right, None, config).num_rows == 1
    with pytest.raises(InputError, match="right table, column epoch, row 0"):
        match_partition(left, right, None, with_(config, right=SkyColumns(epoch="epoch")))


def test_a_star_without_motion_needs_no_epoch_of_its_own():
    nothing = pa.array([None], pa.float64())
    left = one_star(2000.0, pmdec=0.0).append_column("pmra", nothing).append_column("epoch", nothing)
    config = with_(TO_YEAR, left=with_(MOVING, epoch="epoch", epoch_yr=None))
    assert match_partition(left, one_star(2000.0), None, config)["no_motion"].to_pylist() == [True]
    moving = left.set_column(3, "pmra", pa.array([1.0]))
    with pytest.raises(InputError, match="left table, column epoch, row 0"):
        match_partition(moving, one_star(2000.0), None, config)


def test_a_year_and_rows_of_that_year_agree():
    left = stars(13, 400)
    right = right_of(left, 14)
    right = right.set_column(right.schema.get_field_index("epoch"), "epoch", pa.array(np.full(len(right), 2000.0)))
    year = match_partition(left, right, None, with_(TO_YEAR, keep="all", radius_arcsec=5.0))
    rows = match_partition(left, right, None, with_(BY_ROW, keep="all", radius_arcsec=5.0))
    assert year.num_rows > 400
    assert year.drop_columns("separation_arcsec").equals(rows.drop_columns("separation_arcsec"))
    difference = np.subtract(year["separation_arcsec"], rows["separation_arcsec"])
    assert np.abs(difference).max() < 1e-9


# ---------------------------------------------------------------- margins and pieces of the sky


def test_margin_of_positions_at_rest_is_the_radius_with_a_safety():
    assert margin_arcsec(PLAIN, None, None, None, None) == pytest.approx(1.01 + 0.1)
    moving_columns_unused = with_(PLAIN, left=MOVING)
    assert margin_arcsec(moving_columns_unused, 1e4, None, (2016.0, 2016.0), None) == pytest.approx(1.11)


def test_margin_grows_with_the_motion_of_the_side_that_moves():
    at = (2016.0, 2016.0)
    assert margin_arcsec(TO_YEAR, 1e4, 0.0, at, None) == pytest.approx(1.01 * 161.0 + 0.1)
    assert margin_arcsec(BY_ROW, 1e4, 9e9, at, (1997.0, 2020.0)) == pytest.approx(1.01 * 191.0 + 0.1)
    both = CONFIGS["year, both move"]
    assert margin_arcsec(both, 1e3, 2e3, at, (2000.0, 2012.0)) == pytest.approx(1.01 * 27.0 + 0.1)
    right_moves = CONFIGS["rows, right moves"]
    assert margin_arcsec(right_moves, 9e9, 1e3, (1990.0, 2000.0), at) == pytest.approx(1.01 * 27.0 + 0.1)


def test_margin_counts_the_epoch_of_rows_without_one():
    config = with_(BY_ROW, right=SkyColumns(epoch="epoch", epoch_yr=1950.0))
    assert margin_arcsec(config, 1e3, None, None, (1999.0, 2000.0)) == pytest.approx(1.01 * 67.0 + 0.1)


def test_margin_needs_what_it_reads():
    with pytest.raises(ConfigError, match="largest motion"):
        margin_arcsec(TO_YEAR, None, None, (2016.0, 2016.0), None)
    with pytest.raises(ConfigError, match="largest motion"):
        margin_arcsec(BY_ROW, 1.0, None, (2016.0, 2016.0), None)


def distances(one, other):
    """Separations of all rows of one table from all of another, raw positions."""
    columns = [table[name].to_numpy() for table in (one, other) for name in ("ra", "dec")]
    return separation_arcsec(columns[0][:, None], columns[1][:, None], columns[2][None, :], columns[3][None, :])


def piecewise(left, right, config, order):
    """Match pixel by pixel with borders, as the engine does it."""

    def motion(table):
        speed = np.hypot(table["pmra"].to_numpy(), table["pmdec"].to_numpy())
        return float(np.nanmax(speed, initial=0.0))

    epochs = [
        (np.min(table["epoch"].to_numpy()), np.max(table["epoch"].to_numpy())) if sky.epoch else (2016.0, 2016.0)
        for table, sky in ((left, config.left), (right, config.right))
    ]
    margin = margin_arcsec(config, motion(left), motion(right), *epochs)
    pixels = pixel_of(left["ra"].to_numpy(), left["dec"].to_numpy(), order)
    to_right, to_left = distances(left, right), distances(left, left)
    pieces = []
    for pixel in np.unique(pixels):
        inside = pixels == pixel
        near = (to_right[inside] <= margin).any(axis=0)
        border = (to_left[inside] <= 2.0 * margin).any(axis=0) & ~inside
        rows = [table.filter(pa.array(mask)) for table, mask in ((left, inside), (right, near), (left, border))]
        pieces.append(match_partition(*rows, config))
    assert len(pieces) > 3
    return pa.concat_tables(pieces)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(sorted(CONFIGS)),
    st.sampled_from(KEEPS),
    st.sampled_from(["inner", "left"]),
    st.sampled_from([(0.0, 90.0), (0.0, 0.0), (45.0, 41.8), (100.0, -89.995)]),
)
def test_pieces_of_the_sky_give_the_same_rows_as_the_whole(seed, name, keep, how, centre):
    config = with_(CONFIGS[name], keep=keep, how=how, radius_arcsec=4.0)
    left = stars(seed, 250, centre)
    right = right_of(left, seed + 1)
    whole = match_partition(left, right, None, config)
    pieces = piecewise(left, right, config, order=14)
    key = [("id", "ascending"), ("separation_arcsec", "ascending"), ("r_id", "ascending")]
    assert pieces.sort_by(key).equals(whole.sort_by(key))


def test_equal_rows_are_mutual_alike_in_pieces_and_in_the_whole():
    """Left rows in one place, and left rows equally far from their right row, north and south of it."""
    apart = 1.0 / 3600.0
    ra = np.repeat(np.linspace(0.0, 0.05, 40), 3)
    dec = np.tile([apart, -apart, -apart], 40)
    left = sky_table(ra, dec, pmra=np.zeros(120), pmdec=np.zeros(120), epoch=np.full(120, 2016.0))
    right = sky_table(ra[::3], np.zeros(40), pmra=np.zeros(40), pmdec=np.zeros(40), epoch=np.full(40, 2016.0))
    config = with_(PLAIN, keep="mutual", radius_arcsec=1.5)
    whole = match_partition(left, right, None, config)
    assert whole.num_rows == 40
    assert (whole["dec"].to_numpy() < 0).all()
    assert matched_ids(piecewise(left, right, config, order=16)) == matched_ids(whole)


def test_without_its_border_a_mutual_match_would_differ():
    left = sky_table([10.0, 10.0], [0.0, 1.0 / 3600.0])
    right = sky_table([10.0], [0.8 / 3600.0])
    config = with_(PLAIN, keep="mutual", radius_arcsec=2.0)
    south, north = left.slice(0, 1), left.slice(1, 1)
    assert match_partition(south, right, None, config).num_rows == 1
    out = match_partition(south, right, north, config)
    assert out.num_rows == 0
    assert match_partition(north, right, south, config).num_rows == 1
    outer = match_partition(south, right, north, with_(config, how="left"))
    assert outer["n_candidates"].to_pylist() == [1]


def test_only_the_sky_of_the_border_is_read():
    left = stars(15, 50)
    border = left.select(["ra", "dec"])
    out = match_partition(left.slice(0, 25), left, border.slice(25), with_(PLAIN, keep="mutual"))
    assert out["r_id"].to_pylist() == list(range(25))


@pytest.mark.parametrize("keep", ["nearest", "all"])
def test_the_border_is_for_mutual_matches_only(keep):
    left = stars(16, 50)
    config = with_(PLAIN, keep=keep)
    unreadable = pa.table({"nothing": [1]})
    assert match_partition(left, left, unreadable, config).equals(match_partition(left, left, None, config))


# ---------------------------------------------------------------- real stars


@pytest.fixture(scope="module")
def ngc188():
    """Gaia and 2MASS in the field of NGC 188."""
    if not DATA.is_dir():
        pytest.skip("the shared data set with NGC 188 is not beside the repository")
    from astropy.table import Table

    gaia = Table.read(DATA / "ngc188_gaia_results.fits", unit_parse_strict="silent")
    twomass = Table.read(DATA / "ngc188_2MASS_results.ecsv")

    def column(table, name):
        return pa.array(np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan), from_pandas=True)

    return (
        pa.table({name: column(gaia, name) for name in ("ra", "dec", "pmra", "pmdec")}),
        pa.table({"ra": column(twomass, "RAJ2000"), "dec": column(twomass, "DEJ2000")}),
    )


@pytest.mark.parametrize(
    "epoch, there, back, mutual, pairs, median",
    [(None, 4163, 4126, 4125, 4164, 0.1619), (1999.8, 4178, 4141, 4140, 4179, 0.1237)],
)
def test_ngc188_gives_the_numbers_that_astropy_gave(ngc188, epoch, there, back, mutual, pairs, median):
    gaia, twomass = ngc188
    config = MatchConfig(1.0, epoch=epoch, right_prefix="r_", left=with_(MOVING, id=None), right=SkyColumns())
    turned = with_(config, left=config.right, right=config.left)
    counts = {keep: match_partition(gaia, twomass, None, with_(config, keep=keep)) for keep in KEEPS}
    assert {keep: table.num_rows for keep, table in counts.items()} == {
        "nearest": there,
        "all": pairs,
        "mutual": mutual,
    }
    assert np.median(counts["mutual"]["separation_arcsec"]) == pytest.approx(median, abs=5e-5)
    assert match_partition(twomass, gaia, None, turned).num_rows == back
    if epoch is not None:
        assert 0 < sum(counts["nearest"]["no_motion"].to_pylist()) < 200
