"""The packed forest kernel against a plain loop and against scikit-learn."""

from __future__ import annotations

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.forest_loop import predict_loop, tree_values
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from stellarscale.errors import ModelError
from stellarscale.kernels import forest, forest_walk
from stellarscale.kernels.forest import PackedForest, check_packed, order_keys, predict
from stellarscale.kernels.forest_walk import SPAN
from stellarscale.models.pack import floor_float32, pack

TOLERANCE = 1e-6  # of the label's unit
FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def next_up(x):
    with np.errstate(over="ignore"):
        return np.nextafter(x, np.float32(np.inf))


def make_data(n_rows, n_features, seed, missing=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, n_features)).astype(np.float32)
    y = 5000.0 + 300.0 * x[:, 0] * x[:, -1] + rng.normal(size=n_rows)
    x[rng.random(x.shape) < missing] = np.nan
    return x, y


def fit(x, y, kind=RandomForestRegressor, **options):
    return kind(**{"n_estimators": 5, "random_state": 0, "n_jobs": 1, **options}).fit(x, y)


def awkward_rows(estimator, x, seed):
    """Rows that sit on thresholds, one float32 beside them, and on signed zeros and missing values."""
    rng = np.random.default_rng(seed)
    thresholds = np.concatenate([t.tree_.threshold[t.tree_.children_left >= 0] for t in estimator.estimators_])
    near = thresholds[np.isfinite(thresholds)].astype(np.float32)
    if not len(near):
        near = np.zeros(1, np.float32)
    up, down = next_up(near), -next_up(-near)
    special = np.array([0.0, -0.0, np.nan, 1e-45, -1e-45, 1e30, -1e30], np.float32)
    pool = np.concatenate([near, up, down, np.repeat(special, 1 + len(near) // 8)])
    return np.concatenate([rng.choice(pool, size=(200, x.shape[1])), x[:50]])


@pytest.fixture(scope="module")
def trained():
    x, y = make_data(3000, 6, seed=1)
    return fit(x, y, n_estimators=12, max_depth=11), x, y


@pytest.fixture(scope="module")
def trained_missing():
    x, y = make_data(2000, 5, seed=2, missing=0.15)
    return fit(x, y, n_estimators=8, max_depth=12), x, y


@given(
    seed=st.integers(0, 10_000),
    n_rows=st.integers(2, 120),
    n_features=st.integers(1, 7),
    missing=st.sampled_from([0.0, 0.3]),
    depth=st.sampled_from([1, 3, None]),
    kind=st.sampled_from([RandomForestRegressor, ExtraTreesRegressor]),
    grid=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_kernel_equals_loop_equals_sklearn(seed, n_rows, n_features, missing, depth, kind, grid):
    x, y = make_data(n_rows, n_features, seed, missing)
    if grid:  # many equal values, zeros of both signs
        x = np.round(x).astype(np.float32)
    estimator = fit(x, y, kind, n_estimators=3, max_depth=depth, random_state=seed)
    rows = awkward_rows(estimator, x, seed)
    loop_mean, loop_std = predict_loop(estimator, rows)
    complete = np.flatnonzero(~np.isnan(rows).any(axis=1))  # rows without missing values take a path of their own
    alike = np.repeat(complete[:3], 70)  # so do rows that go together
    for here in (np.arange(len(rows)), complete, alike):
        mean, std = predict(pack(estimator), rows[here])
        np.testing.assert_allclose(mean, loop_mean[here], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(std, loop_std[here], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(loop_mean, estimator.predict(rows), rtol=0, atol=TOLERANCE)


@given(values=st.lists(FLOAT32, min_size=2, max_size=20))
def test_order_keys_orders_as_floats(values):
    x = np.array(values, np.float32)
    keys = order_keys(x)
    assert keys.dtype == np.uint32
    np.testing.assert_array_equal(keys[:, None] <= keys[None, :], x[:, None] <= x[None, :])


def test_order_keys_joins_the_zeros_and_keeps_infinities_outermost():
    x = np.array([-np.inf, np.finfo(np.float32).min, -1e-45, -0.0, 0.0, 1e-45, np.inf], np.float32)
    keys = order_keys(x)
    assert keys[3] == keys[4] == 2**31
    assert np.all(np.diff(np.delete(keys, 3).astype(np.int64)) > 0)
    assert 0 < keys[0] < keys[-1] < 2**32 - 1, "there is room outside for missing values"


@given(threshold=st.floats(allow_nan=False), x=FLOAT32)
def test_floored_threshold_decides_as_the_float64_one(threshold, x):
    floored = floor_float32(np.array([threshold]))[0]
    for value in (np.float32(x), floored, next_up(floored)):
        assert (float(value) <= threshold) == bool(value <= floored)


@pytest.mark.parametrize("threshold", [1e-50, -1e-50, 1e39, -1e39, np.inf, -np.inf, 0.1, -0.1, 0.0, -0.0, 16777217.0])
def test_floored_threshold_at_the_edges_of_float32(threshold):
    floored = floor_float32(np.array([threshold]))[0]
    assert float(floored) <= threshold
    assert floored == np.inf or float(next_up(floored)) > threshold


def test_random_rows_match_sklearn(trained):
    estimator, _, _ = trained
    x, _ = make_data(5000, 6, seed=3)
    mean, std = predict(pack(estimator), x)
    assert mean.dtype == std.dtype == np.float64
    np.testing.assert_allclose(mean, estimator.predict(x), rtol=0, atol=TOLERANCE)
    trees = np.array([member.predict(x) for member in estimator.estimators_])
    np.testing.assert_allclose(std, np.std(trees, axis=0), rtol=0, atol=TOLERANCE)


def test_missing_values_take_the_learnt_direction(trained_missing):
    estimator, x, _ = trained_missing
    directions = np.concatenate([t.tree_.missing_go_to_left[t.tree_.children_left >= 0] for t in estimator.estimators_])
    assert 0 < directions.mean() < 1, "both directions must occur for this test to mean anything"
    all_missing = np.full((3, 5), np.nan, np.float32)
    rows = np.concatenate([x, all_missing])
    np.testing.assert_allclose(predict(pack(estimator), rows)[0], estimator.predict(rows), rtol=0, atol=TOLERANCE)


def test_missing_values_at_a_forest_that_never_saw_any(trained):
    estimator, x, _ = trained
    rows = x[:300].copy()
    rows[::3, 2] = np.nan
    np.testing.assert_allclose(predict(pack(estimator), rows)[0], estimator.predict(rows), rtol=0, atol=TOLERANCE)


def test_every_bit_pattern_of_nan_is_missing(trained_missing):
    estimator, x, _ = trained_missing
    rows = x[:4].copy()
    rows[:, 1] = np.array([0x7F800001, 0x7FC00000, 0xFF800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    np.testing.assert_allclose(predict(pack(estimator), rows)[0], predict_loop(estimator, rows)[0], atol=TOLERANCE)


def test_nan_in_one_row_leaves_the_others_bitwise_alone(trained):
    packed, x = pack(trained[0]), trained[1][:500]
    spoilt = x.copy()
    spoilt[7, 0] = np.nan
    for before, after in zip(predict(packed, x), predict(packed, spoilt), strict=True):
        np.testing.assert_array_equal(np.delete(before, 7), np.delete(after, 7))


def test_negative_zero_is_zero():
    x = np.array([[-1.0], [0.0], [1.0]] * 10, np.float32)
    estimator = fit(x, x[:, 0].astype(float), bootstrap=False)
    mean, _ = predict(pack(estimator), np.array([[0.0], [-0.0]], np.float32))
    assert mean[0] == mean[1] == 0.0


@pytest.mark.parametrize("n_rows", [0, 1, 2, *(SPAN + k for k in (-1, 0, 1)), 2 * SPAN + 1])
def test_any_number_of_rows(trained, n_rows):
    estimator, x, _ = trained
    mean, std = predict(pack(estimator), x[:n_rows])
    assert mean.shape == std.shape == (n_rows,)
    if n_rows:
        np.testing.assert_allclose(mean, estimator.predict(x[:n_rows]), rtol=0, atol=TOLERANCE)


def test_rows_beyond_one_block():
    x, y = make_data(300, 2, seed=4)
    estimator = fit(x, y, n_estimators=2, max_depth=3)
    rows, _ = make_data(forest._BLOCK_ROWS + 777, 2, seed=5, missing=0.01)
    assert len(rows) // 2 > forest._CHUNK_ROWS
    np.testing.assert_allclose(predict(pack(estimator), rows)[0], estimator.predict(rows), rtol=0, atol=TOLERANCE)


def test_result_of_a_row_is_bitwise_the_same_in_any_company(trained):
    packed, x = pack(trained[0]), trained[1]
    whole = predict(packed, x)
    order = np.random.default_rng(6).permutation(len(x))
    shuffled = predict(packed, x[order])
    parts = [predict(packed, part) for part in np.array_split(x, 7)]
    for k in range(2):
        np.testing.assert_array_equal(whole[k][order], shuffled[k])
        np.testing.assert_array_equal(whole[k], np.concatenate([part[k] for part in parts]))


def test_threads_give_the_same_bits(trained):
    packed, x = pack(trained[0]), trained[1]
    whole = predict(packed, x)
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda part: predict(packed, part), np.array_split(x, 5)))
    for k in range(2):
        np.testing.assert_array_equal(whole[k], np.concatenate([part[k] for part in parts]))


def test_kernel_releases_the_gil(trained):
    packed, ticks, stop = pack(trained[0]), [], threading.Event()
    rows = np.tile(trained[1], (100, 1))
    predict(packed, rows[:10])

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    watcher = threading.Thread(target=tick)
    watcher.start()
    begin = time.perf_counter()
    predict(packed, rows)
    end = time.perf_counter()
    stop.set()
    watcher.join()
    inside = [t for t in ticks if begin < t < end]
    assert len(inside) > 3, f"another thread ran {len(inside)} times in {end - begin:.3f} s"


def test_constant_labels_have_no_spread(trained):
    _, x, _ = trained
    estimator = fit(x, np.full(len(x), 4.5))
    mean, std = predict(pack(estimator), x)
    assert np.all(mean == 4.5)
    assert np.all(std == 0.0)


def test_single_leaf_trees():
    x, _ = make_data(20, 3, seed=7)
    estimator = fit(x, np.full(20, -2.5), max_depth=1)
    assert estimator.estimators_[0].tree_.node_count == 1
    packed = pack(estimator)
    check_packed(packed)
    np.testing.assert_array_equal(predict(packed, x)[0], -2.5)


def test_spread_is_stable_far_from_zero():
    x, y = make_data(400, 3, seed=8)
    estimator = fit(x, 1e9 + 1e-3 * y, n_estimators=20)
    _, std = predict(pack(estimator), x)
    exact = np.std(tree_values(estimator, x[:100]) - 1e9, axis=0)
    np.testing.assert_allclose(std[:100], exact, rtol=1e-5, atol=1e-7)


def test_deep_unlimited_tree():
    # Labels that double from row to row make each split cut off one row: a chain of 60 levels.
    x = np.arange(60, dtype=np.float32)[:, None]
    estimator = fit(x, 4.0 ** np.arange(60), bootstrap=False, n_estimators=1)
    assert estimator.estimators_[0].get_depth() > 30
    np.testing.assert_allclose(predict(pack(estimator), x)[0], estimator.predict(x), rtol=1e-15)


@pytest.mark.parametrize("n_features", [15, 16, 31, 32])
def test_every_width_of_the_walk(n_features):
    x, y = make_data(400, n_features, seed=11)
    estimator = fit(x, y)
    np.testing.assert_allclose(predict(pack(estimator), x)[0], estimator.predict(x), rtol=0, atol=TOLERANCE)


def test_widest_row_that_fits():
    x, y = make_data(60, 255, seed=9, missing=0.1)
    estimator = fit(x, y, n_estimators=4)
    np.testing.assert_allclose(predict(pack(estimator), x)[0], estimator.predict(x), rtol=0, atol=TOLERANCE)
    assert max(int(t.tree_.feature.max()) for t in estimator.estimators_) > 128


def test_best_first_trees():
    x, y = make_data(500, 4, seed=10)
    estimator = fit(x, y, max_leaf_nodes=37)
    np.testing.assert_allclose(predict(pack(estimator), x)[0], estimator.predict(x), rtol=0, atol=TOLERANCE)


def test_other_memory_layouts_give_the_same(trained):
    packed, x = pack(trained[0]), trained[1][:400]
    expected = predict(packed, x)[0]
    np.testing.assert_array_equal(predict(packed, np.asfortranarray(x))[0], expected)
    np.testing.assert_array_equal(predict(packed, np.repeat(x, 2, axis=0)[::2])[0], expected)
    frozen = x.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(predict(packed, frozen)[0], expected)


def test_infinite_features_take_the_outer_branches(trained):
    estimator, x, _ = trained
    rows = x[:20].copy()
    rows[:10, 0], rows[10:, 0] = np.inf, -np.inf
    np.testing.assert_allclose(predict(pack(estimator), rows)[0], predict_loop(estimator, rows)[0], atol=TOLERANCE)


@pytest.mark.parametrize("shape, dtype", [((4, 5), np.float32), ((6,), np.float32), ((4, 6), np.float64)])
def test_wrong_rows_are_refused(trained, shape, dtype):
    with pytest.raises(ModelError, match=r"does not fit the forest.*Seen: shape .*Needed: shape \(n, 6\), float32"):
        predict(pack(trained[0]), np.zeros(shape, dtype))


def damage(packed: PackedForest, name: str, position: int, value: int) -> PackedForest:
    array = getattr(packed, name).copy()
    array[position] = value
    return dataclasses.replace(packed, **{name: array})


def test_sound_arrays_pass_the_check(trained, trained_missing):
    for estimator in (trained[0], trained_missing[0]):
        packed = pack(estimator)
        check_packed(packed)
        assert len(packed.tree_start) >= len(estimator.estimators_)


@pytest.mark.parametrize(
    "name, position, value, message",
    [
        ("nodes", 0, 2**64 - 1, "outside its tree"),  # feature and child beyond the end
        ("nodes", 0, 0, "outside its tree"),  # the root as its own child
        ("nodes", 2, (6 << 56) | (2 << 32) | 0xFFFFFFFF, "outside its tree"),  # a leaf number beyond the end
        ("depth", 3, 2, "outside its tree"),  # the walk would end before the leaves
        ("tree_start", 1, 10**9, "do not cover"),
        ("tree_start", -1, 12, "do not cover"),
        ("leaf_start", 0, 1, "do not cover"),
    ],
)
def test_check_finds_damage(trained, name, position, value, message):
    with pytest.raises(ModelError, match=f"{message}.*Where: here"):
        check_packed(damage(pack(trained[0]), name, position, value), where="here")


def test_check_refuses_other_types_and_widths(trained):
    packed = pack(trained[0])
    with pytest.raises(ModelError, match="'depth' has the wrong type"):
        check_packed(dataclasses.replace(packed, depth=packed.depth.astype(np.int64)))
    with pytest.raises(ModelError, match="too many features"):
        check_packed(dataclasses.replace(packed, n_features=256))
    with pytest.raises(ModelError, match="outside its tree"):
        check_packed(dataclasses.replace(packed, n_features=3))


def test_nodes_take_eight_bytes(trained):
    estimator, _, _ = trained
    packed = pack(estimator)
    count = sum(member.tree_.node_count for member in estimator.estimators_)
    assert packed.nodes.nbytes == 8 * (count + packed.n_trees)
    assert len(packed.leaf_values) == sum(member.get_n_leaves() for member in estimator.estimators_)


def test_compiles_where_no_cache_can_be_written(monkeypatch):
    compile_plainly = forest_walk.njit

    def refuse_cache(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return compile_plainly(**options)

    monkeypatch.setattr(forest_walk, "njit", refuse_cache)
    assert forest_walk.jit(lambda a: a + 1)(2) == 3
