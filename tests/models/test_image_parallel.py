"""Trainings in several processes: the same as one, and what happens when one of them fails."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reference.image_stars import LAYOUT, NETWORK, training_stars

from stellarscale.errors import ModelError, RunError
from stellarscale.models import image_parallel
from stellarscale.models.image_parallel import Devices, Rank, cpu_threads, plan_devices, run_ranks
from stellarscale.models.image_stars import BatchMaker, StandardStars
from stellarscale.models.image_store import load_image_model
from stellarscale.models.image_training import TrainingPlan, train_network
from stellarscale.models.stopping import StoppedError, allow_work, ask_to_stop
from stellarscale.settings.image_network import ImageTraining

ONE, TWO = Devices("cpu", 1, 1), Devices("cpu", 2, 2)


def _adds(rank, tell, number):
    tell({"rank": rank.index})
    total = rank.summed(torch.tensor([float(number + rank.index)]))
    return {"total": total.item(), "count": rank.count, "threads": torch.get_num_threads()}


def _refuses(rank, tell):
    if rank.index == 1:
        raise ModelError("nothing to be done", where="the second process")
    rank.summed(torch.zeros(1))


def _dies(rank, tell):
    if rank.index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    rank.summed(torch.zeros(1))


def _interrupted(rank, tell):
    raise KeyboardInterrupt


def _waits(rank, tell):
    tell({})
    time.sleep(60)


def _hangs_when_it_leaves(rank, tell):
    if rank.index == 1:
        atexit.register(threading.Event().wait)  # as NCCL does, where the others wait for this one
        raise ValueError("a GPU failed")
    threading.Event().wait()


def test_processes_add_up_and_tell():
    told = []
    before = torch.get_num_threads()
    assert run_ranks(_adds, (5,), Devices("cpu", 1, 1), told.append) == {"total": 5.0, "count": 1, "threads": 1}
    assert torch.get_num_threads() == before
    assert run_ranks(_adds, (5,), TWO, told.append) == {"total": 11.0, "count": 2, "threads": 1}
    assert sorted(message["rank"] for message in told) == [0, 0, 1]


def test_an_error_of_a_process_reaches_the_caller():
    with pytest.raises(ModelError, match=r"nothing to be done.*the second process"):
        run_ranks(_refuses, (), TWO, print)


def test_a_process_that_dies_is_told():
    with pytest.raises(RunError, match=r"a process of the training failed.*last checkpoint"):
        run_ranks(_dies, (), TWO, print)


def test_processes_that_ctrl_c_has_ended_are_not_done():
    with pytest.raises(RunError, match="ended without a result"):
        run_ranks(_interrupted, (), TWO, print)


def test_processes_are_ended_when_work_is_to_stop():
    try:
        with pytest.raises(StoppedError):
            run_ranks(_waits, (), TWO, lambda told: ask_to_stop())
    finally:
        allow_work()


def test_a_process_that_fails_and_cannot_leave_is_ended():
    with pytest.raises(RunError, match=r"a process of the training failed.*a GPU failed"):
        run_ranks(_hangs_when_it_leaves, (), TWO, print)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_each_process_takes_its_own_gpu_before_it_meets_the_others(monkeypatch, tmp_path, kind):
    """The order of calls, without a GPU: device first, bound to the group, kernels chosen, results told, group left."""
    calls = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(("device", str(device))))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: calls.append(("threads", threads)))
    monkeypatch.setattr(
        image_parallel.distributed, "init_process_group", lambda backend, **how: calls.append((backend, how))
    )
    monkeypatch.setattr(image_parallel.distributed, "destroy_process_group", lambda: calls.append(("left", None)))

    def work(rank, tell):
        tell({"tf32": torch.backends.cudnn.allow_tf32})
        return str(rank.device)

    queue = SimpleNamespace(put=calls.append)
    image_parallel._enter(0, work, (), Devices(kind, 2, 6), tmp_path / "meeting", queue)
    how = {"init_method": f"file://{tmp_path}/meeting", "rank": 0, "world_size": 2}
    expected = {
        "cpu": [("threads", 3), ("gloo", how | {"device_id": None}), ("told", {"tf32": True}), ("result", "cpu")],
        "cuda": [
            ("threads", 3),
            ("device", "cuda:0"),
            ("nccl", how | {"device_id": torch.device("cuda", 0)}),
            ("told", {"tf32": False}),
            ("result", "cuda:0"),
        ],
    }
    assert calls == [*expected[kind], ("left", None)]


def test_two_processes_train_as_one_does(tmp_path):
    """One process alone, against one that is killed and two that go on from there."""

    def killed(message):
        if message["epoch"] == 2:
            raise KeyboardInterrupt

    stars = training_stars(tmp_path / "stars", 153)  # batches that two processes cannot share evenly
    labels = stars.labels.copy()
    labels[::4, 0] = np.nan
    stars = replace(stars, labels=labels)
    training = ImageTraining(epochs=3, batch_size=25, learning_rate=1e-3, early_look=0, checkpoint_epochs=1)
    alone, shared = (
        TrainingPlan("joint", ("K", "dex"), NETWORK, training, LAYOUT, 1, tmp_path / name) for name in ("one", "two")
    )
    told: list[int] = []
    records = [train_network(stars, alone, ONE)]
    with pytest.raises(KeyboardInterrupt):
        train_network(stars, shared, ONE, listen=killed)
    records.append(train_network(stars, shared, TWO, listen=lambda message: told.append(message["epoch"])))
    assert told == [2, 3]
    assert [record["processes"] for record in records] == [1, 2]
    for name in ("loss", "validation_loss"):
        curves = [[epoch[name] for epoch in record["curve"]] for record in records]
        np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)
    weights = [load_image_model(plan.model_path)[1] for plan in (alone, shared)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-4) for name in weights[0])


def test_shares_of_a_batch_make_the_batch(tmp_path):
    stars = training_stars(tmp_path, 80)
    standard = StandardStars.of(stars, NETWORK)
    make = [
        BatchMaker(standard, stars.open_stamps(), 1, True, ((4, 3), 0.5), share)
        for share in ((0, 1), (0, 3), (1, 3), (2, 3))
    ]
    whole, *parts = (maker.batch(standard.train[:7], epoch=2, step=9) for maker in make)
    order = np.argsort(np.concatenate([part.rows for part in parts]))
    back = np.argsort(whole.rows)
    for name in ("rows", "stamps", "parallax", "targets", "weights"):
        joined = np.concatenate([getattr(part, name) for part in parts])[order]
        np.testing.assert_array_equal(joined, getattr(whole, name)[back])
    masks = np.concatenate([part.masks[1] for part in parts])[order]
    np.testing.assert_array_equal(masks, whole.masks[1][back])
    assert whole.weights.sum() == pytest.approx(1.0)
    idle = make[3].batch(standard.train[:2], epoch=0, step=0)
    assert len(idle.rows) == 1
    assert idle.weights.sum() == 0


def test_devices_are_those_of_the_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert plan_devices("auto", threads=4) == Devices("cpu", 1, 4)
    assert plan_devices(2, threads=4) == Devices("cpu", 2, 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert plan_devices("auto", threads=8) == Devices("cuda", 4, 8)
    assert plan_devices(1, threads=8) == Devices("cuda", 1, 8)
    with pytest.raises(ModelError, match=r"so many devices.*Seen: 5.*1 to 4"):
        plan_devices(5, threads=8)


def test_worker_processes_start_no_others(monkeypatch):
    class Worker:
        daemon = True

    monkeypatch.setattr(image_parallel.multiprocessing, "current_process", Worker)
    assert plan_devices("auto", threads=1).processes == 1
    with pytest.raises(ModelError, match=r"cannot start.*--cluster threads"):
        plan_devices(2, threads=2)


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    assert Rank(0, 2, torch.device("cpu")).leads
    assert not Rank(1, 2, torch.device("cpu")).leads
