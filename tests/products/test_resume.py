"""A run that is killed goes on where it stopped, and ends with the same bytes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# What must have a receipt before the kill: in the middle of an import, of a match, of the training, of the prediction.
MOMENTS = ("catalogs/gaia", "catalogs/gaia_x_sages_x_twomass", "models", "catalog")


def start(job_file: Path, out: Path) -> subprocess.Popen:
    """The real program in a process group of its own, so that all of it can be killed."""
    command = [sys.executable, "-m", "stellarscale.cli", "run", str(job_file), "--set", f"out={out}"]
    return subprocess.Popen(
        [*command, "--cluster", "processes:2"], start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def receipts(out: Path) -> dict[str, tuple[int, int]]:
    """Every receipt with inode and time: a receipt that was written again would show."""
    found = out.rglob("receipts/*/*.json")
    return {str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def parquet_digests(out: Path) -> dict[str, str]:
    files = [path for path in out.rglob("*.parquet") if ".stellarscale" not in path.parts]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def job_file(small_job, tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    path = folder / "job.yaml"
    path.write_text(small_job(folder / "unused").model_dump_json())
    return path


@pytest.fixture(scope="module")
def undisturbed(job_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    process = start(job_file, out)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    return parquet_digests(out)


def kill_when(process: subprocess.Popen, out: Path, moment: str) -> None:
    """SIGKILL the whole process group as soon as the step has its first receipt of work."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if list((out / moment / ".stellarscale" / "receipts").glob("*/*.json")):
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return
        time.sleep(0.002)
    pytest.fail(f"the step {moment} was never under way (exit code {process.poll()})")


def test_killed_again_and_again_and_finished(job_file, undisturbed, tmp_path):
    out = tmp_path / "run"
    kept: dict[str, tuple[int, int]] = {}
    for moment in MOMENTS:
        process = start(job_file, out)
        kill_when(process, out, moment)
        assert process.returncode == -signal.SIGKILL
        now = receipts(out)
        assert kept.items() <= now.items(), "a finished task was done again"
        assert len(now) > len(kept)
        kept = now
    process = start(job_file, out)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    assert kept.items() <= receipts(out).items(), "a finished task was done again"
    assert parquet_digests(out) == undisturbed
    leftovers = [path for path in out.rglob("*") if "stellarscale-part" in path.name or "spill" in path.name]
    assert [path for path in leftovers if path.is_file() and "receipts" not in path.parts] == []
