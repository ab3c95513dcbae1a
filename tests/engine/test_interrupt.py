"""Ctrl-C while tasks run in threads: a process of its own is interrupted, and says so, ends soon, and goes on later."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from stellarscale.cli import main
from stellarscale.engine.interrupt import task_at_work, tasks_at_work
from stellarscale.models.stopping import StoppedError, allow_work, ask_to_stop, stop_is_asked

SCRIPT = """
import signal, sys, time
from functools import partial
from pathlib import Path
sys.path.insert(0, {tests!r})
signal.signal(signal.SIGINT, signal.default_int_handler)
from stellarscale.cli.group import main
from stellarscale.engine.client import connect
from stellarscale.engine.ledger import open_ledger
from stellarscale.engine.stage import run_stage

def train(out, item):
    from reference.image_stars import LAYOUT, NETWORK, training_stars
    from stellarscale.models.image_parallel import Devices
    from stellarscale.models.image_training import TrainingPlan, train_network
    from stellarscale.settings.image_network import ImageTraining
    training = ImageTraining(epochs=100_000, batch_size=64, early_look=0)
    plan = TrainingPlan("joint", ("K", "dex"), NETWORK, training, LAYOUT, 1, out / "models")
    told = lambda message: print(message["epoch"], flush=True)
    return train_network(training_stars(out / "stars", 100), plan, Devices("cpu", 1, 1), listen=told)

def deaf(out, item):
    print(1, flush=True)
    time.sleep(60)

@main.command()
def work():
    out = Path({out!r})
    with connect("threads:1") as client:
        ledger = open_ledger(out / "run", step="test", digest="d", about={{}})
        run_stage(client, partial({task}, out), {{"a": 1, "b": 2}}, ledger=ledger, stage="work")

main(["work"])
"""


def interrupted(out: Path, task: str, lines: int) -> tuple[list[str], str, float]:
    """Start the script, interrupt it after so many lines; all its lines, its words, and the seconds it took to end."""
    code = SCRIPT.format(tests=str(Path(__file__).parents[1]), out=str(out), task=task)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        first = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        rest, words = process.communicate(timeout=60)
    finally:
        process.kill()
    seconds = time.monotonic() - started
    assert process.returncode == 130, words
    assert "Interrupted: what is finished is kept" in words
    assert "terminate called" not in words
    assert "Traceback" not in words
    return [*first, *rest.splitlines()], words, seconds


def test_an_interrupted_training_ends_soon_and_the_next_start_goes_on(tmp_path):
    told, _, seconds = interrupted(tmp_path, "train", 3)
    assert seconds < 20
    assert (tmp_path / "models" / "joint.checkpoint.safetensors").exists()
    again, words, _ = interrupted(tmp_path, "train", 1)
    assert "network joint: goes on after epoch" in words
    assert 2 <= int(again[0]) <= int(told[-1]) + 1


def test_a_task_that_does_not_listen_is_left(tmp_path):
    told, _, seconds = interrupted(tmp_path, "deaf", 1)
    assert len(told) == 1, "no other task begins"
    assert seconds < 20  # Dask alone would wait for half a minute, and the interpreter for all of it


def test_no_task_begins_after_a_stop():
    with task_at_work():
        assert tasks_at_work() == 1
    assert tasks_at_work() == 0
    ask_to_stop()
    try:
        with pytest.raises(StoppedError), task_at_work():
            raise AssertionError("began")
    finally:
        allow_work()
    assert tasks_at_work() == 0


def test_tasks_of_all_threads_count():
    inside, leave = threading.Barrier(3), threading.Event()

    def work():
        with task_at_work():
            inside.wait(10)
            leave.wait(10)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    assert tasks_at_work() == 2
    leave.set()
    for thread in threads:
        thread.join()
    assert tasks_at_work() == 0


def test_a_new_command_forgets_the_interrupt_of_an_earlier_one():
    ask_to_stop()
    try:
        assert CliRunner().invoke(main, ["keys", "seed"]).exit_code == 0
        assert not stop_is_asked()
    finally:
        allow_work()
