from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from stellarscale.engine.client import capacity, connect
from stellarscale.engine.ledger import open_ledger
from stellarscale.engine.stage import run_stage
from stellarscale.errors import ConfigError, InputError, RunError


def double(item):
    return {"rows_in": item, "rows_out": 2 * item}


def count_and_double(folder: Path, item):
    (folder / f"{item}-{os.getpid()}-{len(list(folder.iterdir()))}").touch()
    return double(item)


def fail_on(folder: Path, bad: int, error: str, item):
    (folder / f"{item}-{len(list(folder.iterdir()))}").touch()
    if item == bad:
        raise {"ours": InputError("bad item", where=item), "other": OSError("lost")}[error]
    return double(item)


def fail_once(folder: Path, item):
    marker = folder / f"tried-{item}"
    if not marker.exists():
        marker.touch()
        raise OSError("the network blinked")
    return double(item)


def die_on(folder: Path, bad: int, item):
    if item == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return double(item)


@pytest.fixture(scope="module")
def client():
    with connect("threads:2") as client:
        yield client


@pytest.fixture
def ledger(tmp_path):
    return open_ledger(tmp_path / "out", step="test", digest="d", about={})


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "seen"
    path.mkdir()
    return path


TASKS = {f"0/{i}": i for i in range(9)}


def test_every_task_runs_once_and_leaves_a_receipt(client, ledger, folder):
    result = run_stage(client, partial(count_and_double, folder), TASKS, ledger=ledger, stage="s")
    assert list(result.receipts) == list(TASKS)
    assert result.total("rows_out") == 2 * sum(TASKS.values())
    assert len(list(folder.iterdir())) == 9
    assert ledger.receipts("s").keys() == TASKS.keys()
    assert result.resumed == 0
    assert result.peak_memory_mb > 10


def test_finished_tasks_are_not_redone(client, ledger, folder):
    run_stage(client, partial(count_and_double, folder), dict(list(TASKS.items())[:5]), ledger=ledger, stage="s")
    result = run_stage(client, partial(count_and_double, folder), TASKS, ledger=ledger, stage="s")
    assert result.resumed == 5
    assert len(list(folder.iterdir())) == 9
    assert result.total("rows_out") == 2 * sum(TASKS.values())


def test_one_bad_task_is_reported_while_the_rest_finishes(client, ledger, folder):
    with pytest.raises(RunError, match=r"1 of 9 tasks.*0/4.*bad item"):
        run_stage(client, partial(fail_on, folder, 4, "ours"), TASKS, ledger=ledger, stage="s")
    assert len(ledger.receipts("s")) == 8
    assert len(list(folder.glob("4-*"))) == 1, "a bad input stays bad: no retry"


def test_other_errors_are_tried_three_times(client, ledger, folder):
    with pytest.raises(RunError, match="OSError: lost"):
        run_stage(client, partial(fail_on, folder, 4, "other"), TASKS, ledger=ledger, stage="s")
    assert len(list(folder.glob("4-*"))) == 3


def test_a_passing_fault_is_survived(client, ledger, folder):
    result = run_stage(client, partial(fail_once, folder), TASKS, ledger=ledger, stage="s")
    assert len(result.receipts) == 9


def test_a_worker_that_dies_is_quarantined(ledger, folder):
    with connect("processes:2") as processes, pytest.raises(RunError, match="1 of 9 tasks"):
        run_stage(processes, partial(die_on, folder, 4), TASKS, ledger=ledger, stage="s")
    assert len(ledger.receipts("s")) == 8


def test_no_tasks_is_fine(client, ledger):
    assert run_stage(client, double, {}, ledger=ledger, stage="s").receipts == {}


def test_a_scheduler_elsewhere_is_used(ledger, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster:
        with connect(cluster.scheduler_address) as client:
            result = run_stage(client, double, TASKS, ledger=ledger, stage="s")
            assert capacity(client) == 1
        path = tmp_path / "scheduler.json"
        path.write_text(json.dumps(cluster.scheduler.identity()))
        with connect(f"scheduler-file:{path}") as client:
            assert capacity(client) == 1
    assert len(result.receipts) == 9


@pytest.mark.parametrize("text", ["threads:0", "processes:x", "ftp://a", "slurmm"])
def test_a_wrong_cluster_is_told(text):
    with pytest.raises(ConfigError, match="threads"), connect(text):
        pass


def test_a_scheduler_that_is_not_there_is_told(monkeypatch):
    import distributed

    def refuse(*args, **kwargs):
        raise TimeoutError("nobody there")

    monkeypatch.setattr(distributed, "Client", refuse)
    with pytest.raises(ConfigError, match="does not answer"), connect("tcp://127.0.0.1:1"):
        pass
