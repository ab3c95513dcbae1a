"""Workers with a GPU: they are found, and tasks that ask for one land there only."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest

from stellarscale.engine.client import connect
from stellarscale.engine.gpu import Share, gpu_resources, share_of_machine
from stellarscale.engine.ledger import open_ledger
from stellarscale.engine.stage import run_stage

TASKS = {f"0/{number}": number for number in range(12)}


def where(number):
    """The worker that does a task."""
    from distributed import get_worker

    time.sleep(0.02)
    return {"rows_out": 1, "worker": str(get_worker().name)}


@contextmanager
def cluster(resources):
    """A client of workers in this process, one for each mapping of resources."""
    from distributed import Client, Scheduler, SpecCluster, Worker

    workers = {
        f"w{number}": {"cls": Worker, "options": {"nthreads": 1, "resources": each, "dashboard_address": "127.0.0.1:0"}}
        for number, each in enumerate(resources)
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}}
    with SpecCluster(workers=workers, scheduler=scheduler) as spec, Client(spec) as client:
        client.wait_for_workers(len(workers))
        yield client


def test_tasks_land_on_the_worker_with_the_gpu_only(tmp_path):
    with cluster([{}, {"GPU": 1}]) as client:
        wanted = gpu_resources(client)
        assert wanted == {"GPU": 1}
        ledger = open_ledger(tmp_path / "out", step="test", digest="d", about={})
        result = run_stage(client, where, TASKS, ledger=ledger, stage="gpu", resources=wanted)
        assert {receipt["worker"] for receipt in result.receipts.values()} == {"w1"}
        assert len(result.receipts) == 12
        result = run_stage(client, where, TASKS, ledger=ledger, stage="any")
        assert {receipt["worker"] for receipt in result.receipts.values()} == {"w0", "w1"}
        assert share_of_machine(client) == Share(2)
        assert share_of_machine(client, tasks=1) == Share(1), "one task has the machine for itself"


@pytest.mark.parametrize("resources", [[{}], [{"GPU": 0}], [{"memory": 4}]])
def test_without_a_gpu_worker_nothing_is_asked_for(resources, caplog):
    with cluster(resources) as client, caplog.at_level("INFO", logger="stellarscale"):
        assert gpu_resources(client) is None
    assert "no worker has the resource GPU" in caplog.text


def test_workers_are_counted_however_many_there_are():
    class Many:
        def scheduler_info(self, n_workers=5):
            workers = {f"w{n}": {"resources": {"GPU": 1} if n == 9 else {}} for n in range(10)}
            return {"workers": workers if n_workers == -1 else dict(list(workers.items())[:n_workers])}

    assert gpu_resources(Many()) == {"GPU": 1}


def test_threads_are_one_worker():
    with connect("threads:3") as client:
        assert share_of_machine(client) == Share(1, most=3)
        assert gpu_resources(client) is None


def test_threads_are_those_of_the_machine_shared_and_no_more_than_the_user_gave(monkeypatch):
    monkeypatch.setattr("stellarscale.engine.gpu.cores", lambda: 8)
    assert [Share(n).threads for n in (1, 2, 3, 100)] == [8, 4, 2, 1]
    assert [Share(1, most=n).threads for n in (2, 8, 100)] == [2, 8, 8]
