"""A scheduler and workers that run elsewhere, as on a cluster: other processes, another working directory."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from stellarscale.catalog.reader import open_stored
from stellarscale.products import sages


@pytest.fixture(scope="module")
def scheduler_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    path = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    module = "from distributed.cli.{0} import main; main()"
    scheduler = [
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--dashboard-address",
        "127.0.0.1:0",
        "--scheduler-file",
        str(path),
    ]
    worker = ["--scheduler-file", str(path), "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]
    started = [subprocess.Popen([sys.executable, "-c", module.format("dask_scheduler"), *scheduler], **quiet)]
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    started += [
        subprocess.Popen([sys.executable, "-c", module.format("dask_worker"), *worker], **quiet) for _ in range(2)
    ]
    yield path
    for process in started:
        process.terminate()
    for process in started:
        process.wait(timeout=60)


def test_a_run_with_relative_paths_on_workers_elsewhere(scheduler_file, small_job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = sages.run(small_job("here/run"), cluster=f"scheduler-file:{scheduler_file}")
    assert summary["written"] == open_stored(tmp_path / "here" / "run" / "catalog").num_rows > 1000
