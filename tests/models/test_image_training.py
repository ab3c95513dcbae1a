"""Training of a small network: it learns, goes on where it was killed, and says what is wrong."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference.image_stars import BLIND, LAYOUT, NETWORK, training_stars

from stellarscale.errors import InputError, ModelError
from stellarscale.models.image_inputs import standard_stamps
from stellarscale.models.image_parallel import Devices
from stellarscale.models.image_stars import StandardStars
from stellarscale.models.image_store import load_image_model, restore_network
from stellarscale.models.image_trainer import schedule
from stellarscale.models.image_training import TrainingPlan, train_network
from stellarscale.settings.image_network import Head, ImageTraining

ONE_THREAD = Devices("cpu", 1, 1)
QUICK = ImageTraining(epochs=4, batch_size=64, learning_rate=3e-3, checkpoint_epochs=2, early_look=0)


@pytest.fixture(scope="module")
def stars(tmp_path_factory):
    return training_stars(tmp_path_factory.mktemp("stars"), 200)


def plan_of(out, *, training=QUICK, network=NETWORK, units=("K", "dex"), name="joint") -> TrainingPlan:
    return TrainingPlan(name, units, network, training, LAYOUT, 1, out)


def weights_of(plan):
    return load_image_model(plan.model_path)[1]


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_training_learns_the_brightness_of_a_blob(tmp_path):
    stars = training_stars(tmp_path / "stars", 800).only(("teff",))
    training = ImageTraining(epochs=12, batch_size=32, learning_rate=2e-3, schedule="cosine", early_look=2)
    network = BLIND.model_copy(update={"head": Head(parallax_units=8, hidden=(64, 32), dropout=0.02)})
    told = []
    plan = plan_of(tmp_path, training=training, network=network, units=("K",), name="teff")
    record = train_network(stars, plan, ONE_THREAD, listen=told.append)
    spread = stars.labels.std()
    assert record["curve"][-1]["validation_sigma"]["teff"] < 0.1 * spread
    assert record["curve"][-1]["validation_loss"] < 0.5 * 0.1**2  # the square of a tenth: no star is far off
    assert record["n_train"] == 640
    assert record["n_validation"] == 160
    assert record["stars_per_s"] > 0
    looks = [message for message in told if message["kind"] == "early_look"]
    assert [look["epoch"] for look in looks] == [2]
    assert looks[0]["labels"]["teff"]["mean_predictor_sigma"] == pytest.approx(spread, rel=0.4)
    assert [message["epoch"] for message in told if message["kind"] == "epoch"] == list(range(1, 13))

    model, weights = load_image_model(plan.model_path, expect_digest=record["digest"])
    assert model.labels == ("teff",)
    assert model.scaling.label_mean[0] == pytest.approx(stars.labels[stars.split == 0].mean())
    assert restore_network(model, weights) is not None
    assert not plan.checkpoint_path.exists()


def test_a_killed_training_gives_the_same_weights(stars, tmp_path):
    def killed(message):
        if message["kind"] == "epoch" and message["epoch"] == 3:
            raise KeyboardInterrupt

    whole, broken = plan_of(tmp_path / "whole"), plan_of(tmp_path / "broken")
    record = train_network(stars, whole, ONE_THREAD)
    with pytest.raises(KeyboardInterrupt):
        train_network(stars, broken, ONE_THREAD, listen=killed)
    assert broken.checkpoint_path.exists()
    assert not broken.model_path.exists()
    resumed = train_network(stars, broken, ONE_THREAD)
    assert same(weights_of(whole), weights_of(broken))
    assert len(resumed["curve"]) == 4
    losses = [[epoch["loss"] for epoch in each["curve"]] for each in (record, resumed)]
    assert losses[0] == losses[1]


def test_a_checkpoint_of_other_settings_is_refused(stars, tmp_path):
    plan = plan_of(tmp_path)

    def stop(message):
        if message["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_network(stars, plan, ONE_THREAD, listen=stop)
    other = replace(plan, training=QUICK.model_copy(update={"learning_rate": 1e-3}))
    with pytest.raises(ModelError, match="checkpoint is of another training"):
        train_network(stars, other, ONE_THREAD)
    moved = replace(stars, labels=stars.labels + 1.0)
    with pytest.raises(ModelError, match="checkpoint is of another training"):
        train_network(moved, plan, ONE_THREAD)


def test_the_seed_decides(stars, tmp_path):
    one = QUICK.model_copy(update={"epochs": 1})
    plans = [plan_of(tmp_path / name, training=one) for name in ("a", "b", "c")]
    plans[2] = replace(plans[2], seed=2)
    for plan in plans:
        train_network(stars, plan, ONE_THREAD)
    first, again, other = map(weights_of, plans)
    assert same(first, again)
    assert not same(first, other)


def test_a_missing_label_of_the_joint_network_teaches_nothing(stars, tmp_path):
    labels = stars.labels.copy()
    labels[::3, 1] = np.nan
    labels[:3] = np.nan
    standard = StandardStars.of(replace(stars, labels=labels), NETWORK)
    assert not np.isin([0, 1, 2], standard.train).any()
    known = labels[standard.train, 1]
    assert standard.scaling.label_mean[1] == pytest.approx(np.nanmean(known))
    plan = plan_of(tmp_path, training=QUICK.model_copy(update={"epochs": 2}))
    record = train_network(replace(stars, labels=labels), plan, ONE_THREAD)
    assert np.isfinite(record["curve"][-1]["loss"])
    assert set(record["curve"][-1]["validation_sigma"]) == {"teff", "logg"}


def test_stars_without_a_usable_parallax_are_counted(stars, tmp_path):
    parallax = stars.parallax.copy()
    parallax[:5, 0] = np.nan
    parallax[5:8, 0] *= -1
    few = replace(stars, parallax=parallax)
    assert StandardStars.of(few, NETWORK).left_out == 5
    log_head = NETWORK.model_copy(update={"head": Head(hidden=(8,), parallax_input="log")})
    assert StandardStars.of(few, log_head).left_out == 8
    assert StandardStars.of(few, BLIND).left_out == 0
    with pytest.raises(InputError, match=r"too few stars.*Needed: 50"):
        StandardStars.of(replace(stars, parallax=np.where(np.arange(200)[:, None] > 40, np.nan, parallax)), NETWORK)


def test_the_best_epoch_can_be_kept(stars, tmp_path):
    # A learning rate that rises to far too much makes the last epochs worse than an earlier one.
    training = QUICK.model_copy(update={"keep": "best", "decay": 1.0, "learning_rate": 3e-2, "epochs": 6})
    plan = plan_of(tmp_path, training=training)
    record = train_network(stars, plan, ONE_THREAD)
    losses = [epoch["validation_loss"] for epoch in record["curve"]]
    assert record["kept_epoch"] == 1 + int(np.argmin(losses))
    model, weights = load_image_model(plan.model_path)
    standard = StandardStars.of(stars, NETWORK)
    rows = standard.validation
    with torch.inference_mode():
        stamps = torch.from_numpy(standard_stamps(np.asarray(stars.open_stamps()[rows]), model.scaling))
        said = restore_network(model, weights)(stamps, torch.from_numpy(standard.parallax[rows]))
    loss = torch.nn.functional.smooth_l1_loss(said, torch.from_numpy(standard.targets[rows]))
    assert float(loss) == pytest.approx(min(losses), rel=1e-3)
    with pytest.raises(InputError, match="no stars tell which epoch is best"):
        train_network(replace(stars, split=np.zeros(200, np.int8)), plan, ONE_THREAD)


def test_without_a_validation_the_curve_has_none(stars, tmp_path):
    training = QUICK.model_copy(update={"epochs": 1, "early_look": 1})
    record = train_network(
        replace(stars, split=np.zeros(200, np.int8)), plan_of(tmp_path, training=training), ONE_THREAD
    )
    assert record["curve"][0]["validation_loss"] is None
    assert record["curve"][0]["validation_sigma"] == {"teff": None, "logg": None}


@pytest.mark.parametrize(("early_look", "looks"), [(0, []), (1, [1]), (10, [2])])
def test_a_short_training_is_looked_at_after_its_last_epoch(stars, tmp_path, early_look, looks):
    training = QUICK.model_copy(update={"epochs": 2, "early_look": early_look})
    told: list = []
    train_network(stars, plan_of(tmp_path, training=training), ONE_THREAD, listen=told.append)
    assert [message["epoch"] for message in told if message["kind"] == "early_look"] == looks


def test_an_early_look_warns_of_a_network_that_learned_nothing(stars, tmp_path, caplog):
    shuffled = np.random.default_rng(0).permutation(stars.labels)
    training = QUICK.model_copy(update={"epochs": 1, "early_look": 1, "learning_rate": 0.05})
    told = []
    with caplog.at_level(logging.WARNING, "stellarscale"):
        train_network(
            replace(stars, labels=shuffled), plan_of(tmp_path, training=training), ONE_THREAD, listen=told.append
        )
    worse = [name for name, each in told[-1]["labels"].items() if not each["better_than_mean"]]
    assert worse
    assert all(f"tells {name} no better than the mean" in caplog.text for name in worse)


def test_a_loss_that_is_not_finite_names_the_batch_and_why(stars, tmp_path):
    stamps = np.load(stars.stamps).copy()
    bad = int(np.flatnonzero(stars.split == 0)[7])
    stamps[bad, 1, 3, 3] = np.inf
    np.save(tmp_path / "stamps.npy", stamps)
    broken = replace(stars, stamps=tmp_path / "stamps.npy")
    with pytest.raises(
        ModelError, match=rf"not finite.*network joint, epoch 1, batch \d of 3.*infinite pixels: rows {bad}"
    ):
        train_network(broken, plan_of(tmp_path), ONE_THREAD)
    wild = QUICK.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(ModelError, match=r"not finite.*epoch \d.*learning rate is too high"):
        train_network(stars, plan_of(tmp_path, training=wild), ONE_THREAD)


def test_a_full_device_says_what_to_do(stars, tmp_path, monkeypatch):
    def full(self, stamps):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr("stellarscale.models.image_network.ImageRegressor.features", full)
    with pytest.raises(ModelError, match=r"memory of the device is full.*54 stars.*Tried.*batch_size"):
        train_network(stars, plan_of(tmp_path), ONE_THREAD)


def test_bf16_learns_much_the_same(stars, tmp_path):
    records = [
        train_network(
            stars, plan_of(tmp_path / precision, training=QUICK.model_copy(update={"precision": precision})), ONE_THREAD
        )
        for precision in ("fp32", "bf16")
    ]
    assert [record["precision"] for record in records] == ["fp32", "bf16"]
    first, second = (record["curve"][-1]["loss"] for record in records)
    assert first != second
    assert first == pytest.approx(second, rel=0.2)


def test_learning_rates():
    steps = ImageTraining()
    assert [schedule(steps, epoch, 0, 1) for epoch in (0, 49, 50, 299)] == pytest.approx([1, 1, 0.8, 0.8**5])
    cosine = ImageTraining(schedule="cosine")
    rates = np.array([schedule(cosine, 0, step, 1000) for step in range(1000)])
    assert rates[0] == pytest.approx(1 / 50)
    assert rates.argmax() in (49, 50)
    assert rates.max() == 1.0
    assert (np.diff(rates[50:]) <= 0).all()
    assert rates[-1] < 1e-4
