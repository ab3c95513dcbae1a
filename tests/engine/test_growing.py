"""Groups of trees and the models made of them, called by hand: no Dask anywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stellarscale.config import Errors, ForestSettings, Label, ModelSpec, Training
from stellarscale.engine import growing
from stellarscale.engine.growing import TREES, GrowTask, grow_group, plan_groups, read_group
from stellarscale.engine.training import FinishTask, finish_model
from stellarscale.errors import InputError, ModelError
from stellarscale.models.store import load

SPEC = ModelSpec(label="teff")
TRAINING = Training(
    labels={"teff": Label(column="teff", unit="K")},
    inputs=("a", "b"),
    models=(SPEC,),
    forest=ForestSettings(n_estimators=20),
    errors=Errors(magnitude="g_0", magnitude_bins=2, label_bins=1, min_stars=20),
)


def sample(n=600) -> pa.Table:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, n)).astype(np.float32)
    return pa.table(
        {
            "a": a,
            "b": b,
            "g_0": rng.uniform(10, 16, n).astype(np.float32),
            "label": 5500.0 + 300.0 * a + 100.0 * b**2 + rng.normal(scale=30, size=n),
            "role": np.where(np.arange(n) % 6 == 0, np.where(np.arange(n) % 12 == 0, "held_out", "test:x"), "train"),
            "source": ["lamost"] * n,
            "star": np.arange(n),
            "ra": rng.uniform(0, 360, n),
            "dec": rng.uniform(-90, 90, n),
        }
    )


@pytest.fixture
def task(tmp_path) -> GrowTask:
    pq.write_table(sample(), tmp_path / "teff_sample.parquet")
    return GrowTask(tmp_path, TRAINING, seed=4)


def finished(task: GrowTask, **settings) -> dict:
    groups = plan_groups(task, SPEC, 500)
    for item in reversed(groups):
        grow_group(task, item)
    return finish_model(FinishTask(task, {"teff": tuple(groups)}, **settings), SPEC)


def test_stars_beyond_the_limit_of_the_output_train_and_are_not_known(tmp_path):
    stars = sample(6000)
    pq.write_table(stars, tmp_path / "teff_sample.parquet")
    task = GrowTask(tmp_path, TRAINING, seed=4)
    colour = stars["a"].to_numpy()
    x = np.column_stack([colour, stars["b"].to_numpy()])
    found = {}
    for limit in (None, ("a", 0.8)):
        record = finished(task, limit=limit)
        said = load(tmp_path / "teff.npz").estimate(x, stars["g_0"].to_numpy())
        found[limit] = said.novel
        assert record["n_train"] == 5000
    beyond = colour > 0.8
    assert found[None][beyond].mean() < 0.01
    assert found["a", 0.8][beyond].mean() > 0.98
    assert found["a", 0.8][~beyond].mean() < 0.01


def test_small_samples_are_one_group_and_large_ones_many(task):
    assert [item.trees for item in plan_groups(task, SPEC, 500)] == [(0, 20)]
    large = replace(task, training=TRAINING.model_copy(update={"forest": ForestSettings()}))
    bounds = [item.trees for item in plan_groups(large, SPEC, 579_185)]
    assert len(bounds) == 15
    assert (bounds[0][0], bounds[-1][1]) == (0, 300)
    assert len(plan_groups(large, SPEC, 100_000_000)) == 300
    assert len({item.key for item in plan_groups(large, SPEC, 579_185)}) == 15


def test_the_model_has_the_same_bytes_whatever_the_groups(task, tmp_path, monkeypatch):
    whole = finished(task)
    once = (tmp_path / "teff.npz").read_bytes()
    monkeypatch.setitem(growing._GROUP_ROWS, "histogram", 1500)
    assert len(plan_groups(task, SPEC, 500)) == 7
    assert finished(task)["digest"] == whole["digest"]
    assert (tmp_path / "teff.npz").read_bytes() == once


def test_a_finished_model_says_how_good_it_is(task, tmp_path):
    record = finished(task)
    assert (record["rows_in"], record["rows_out"], record["n_train"], record["n_test"]) == (600, 600, 500, 50)
    assert record["backend"] == "histogram"
    assert sum(record["importances"]) == pytest.approx(1.0)
    assert record["held_out_sigma"] == pytest.approx(record["oob_sigma"], rel=0.4)
    stored = load(tmp_path / "teff.npz", record["digest"])
    assert stored.provenance.hyperparameters["backend"] == "histogram"
    assert (stored.provenance.unit, stored.magnitude) == ("K", "g_0")


def test_every_star_that_did_not_train_is_evaluated(task, tmp_path):
    record = finished(task)
    table, stars = pq.read_table(tmp_path / "teff_evaluated.parquet"), sample()
    others = stars.filter(pc.not_equal(stars["role"], "train"))
    for name in ("star", "ra", "dec", "role", "source", "label"):
        assert table[name].to_pylist() == others[name].to_pylist()
    assert table["magnitude"].to_pylist() == others["g_0"].to_pylist()
    said = load(tmp_path / "teff.npz").estimate(
        np.column_stack([others["a"].to_numpy(), others["b"].to_numpy()]), others["g_0"].to_numpy()
    )
    for name, values in (("prediction", said.value), ("err", said.err), ("err95", said.err95), ("novel", said.novel)):
        np.testing.assert_array_equal(table[name].to_numpy(), values)
    residual = (table["prediction"].to_numpy() - table["label"].to_numpy())[table["role"].to_numpy() == "held_out"]
    sigma = 1.4826 * np.median(np.abs(residual - np.median(residual)))
    assert record["held_out_sigma"] == pytest.approx(sigma)
    assert 0.5 < np.mean(np.abs(residual) < table["err"].to_numpy()[table["role"].to_numpy() == "held_out"]) < 0.9


def test_without_a_magnitude_the_column_is_null(task, tmp_path):
    plain = TRAINING.model_copy(update={"errors": Errors()})
    finished(replace(task, training=plain))
    assert pq.read_table(tmp_path / "teff_evaluated.parquet")["magnitude"].null_count == 100


def test_too_few_stars_to_calibrate_on_give_no_errors(task, tmp_path, caplog):
    pq.write_table(sample(20), tmp_path / "teff_sample.parquet")
    finished(task)
    assert "model teff" in caplog.text
    table = pq.read_table(tmp_path / "teff_evaluated.parquet")
    assert table["err"].null_count == table.num_rows == 4
    assert np.isfinite(table["prediction"].to_numpy()).all()


def test_a_training_star_without_an_input_is_told(task, tmp_path):
    stars = sample()
    values = stars["b"].to_numpy().copy()
    values[[1, 7]] = np.nan
    pq.write_table(stars.set_column(1, "b", pa.array(values)), tmp_path / "teff_sample.parquet")
    with pytest.raises(InputError, match=r"lack inputs.*model teff.*Seen: b of 2 stars"):
        grow_group(task, plan_groups(task, SPEC, 500)[0])
    assert not (tmp_path / TREES).exists()


def test_a_sample_of_next_to_nothing_is_told(task, tmp_path):
    pq.write_table(sample(9), tmp_path / "teff_sample.parquet")
    with pytest.raises(InputError, match=r"Too few training rows.*model teff.*Seen: 7"):
        grow_group(task, plan_groups(task, SPEC, 7)[0])


def test_a_damaged_group_is_told(task, tmp_path):
    item = plan_groups(task, SPEC, 500)[0]
    grow_group(task, item)
    assert read_group(task, item).packed.n_trees == 20
    path = next((tmp_path / TREES).iterdir())
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ModelError, match=r"cannot be read.*teff_0\.npz.*removed or damaged"):
        read_group(task, item)
    path.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        read_group(task, item)
