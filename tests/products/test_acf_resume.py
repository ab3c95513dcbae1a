"""A run on images that is killed goes on where it stood; changed settings redo what follows from them, no more."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from reference.mock_acf import LABELS, acf_job, column, digests, finished_run, one_core, receipts, steps_of

from stellarscale.engine.ledger import Ledger
from stellarscale.errors import RunError
from stellarscale.products import acf

# As `stellarscale run`, on two cores: networks of each of two processes have one thread.
PROGRAM = "import os, sys; os.sched_setaffinity(0, {}); from stellarscale.cli import main; main(sys.argv[1:])"
pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process cannot be kept on one core")


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """One core, and no pages of reports."""
    with one_core(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("stellarscale.products.acf_reporting.report_run", lambda *content: {})
        yield


@pytest.fixture(scope="module")
def run():
    return finished_run()


def short(run, *overrides: str) -> tuple[str, ...]:
    """The job of the finished run from the matched catalogue on, without comparisons."""
    return (run.store, "comparisons=null", "evaluation.external=[]", "truth=null", *overrides)


def started(job, cluster: str) -> subprocess.Popen:
    file = Path(f"{job.out}.json")
    file.write_text(job.model_dump_json())
    command = [
        sys.executable,
        "-c",
        PROGRAM.format(set(sorted(os.sched_getaffinity(0))[:2])),
        "run",
        str(file),
        "--cluster",
        cluster,
    ]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def killed_when(job, there: Callable[[], bool], *, cluster: str = "threads:1") -> None:
    """Start the program, and kill it and its workers as soon as something is there."""
    process, deadline = started(job, cluster), time.monotonic() + 200
    while not there():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def killed(run, tmp_path_factory):
    """A run killed while stamps were made and again in the training, and the receipts after each."""
    job = acf_job(tmp_path_factory.mktemp("killed") / "run", *short(run))
    out, seen = Path(job.out), []
    stamps = out / "catalogs" / "stamps_labelled"
    killed_when(job, lambda: len(list(stamps.glob(".stellarscale/receipts/*/*.json"))) > 1)
    assert not (stamps / "hats.properties").exists()
    seen.append(receipts(out))
    killed_when(job, lambda: bool(list((out / "models").glob("*.checkpoint.safetensors"))))
    assert not (out / "models" / "joint.safetensors").exists()
    seen.append(receipts(out))
    acf.run(job, cluster="threads:2")
    return out, seen, receipts(out)


def test_what_is_finished_is_not_done_again(killed):
    out, (first, second), last = killed
    assert first.items() < second.items() < last.items()
    steps = steps_of(out)
    assert steps["stamps of labelled stars"]["resumed"]
    done = Ledger(out / "catalogs" / "stamps_labelled").run()["finished"]
    assert 0 < done["resumed_partitions"] < done["partitions"]
    assert steps["training"]["resumed"]


def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not(run, killed):
    out = killed[0]
    for catalog in ("catalogs/selected", "catalogs/labelled", "catalogs/stamps_labelled", "catalogs/stamps", "catalog"):
        assert digests(out / catalog) == digests(run.out / catalog), catalog
    for name in ("joint.safetensors", "joint_no_parallax.safetensors"):
        assert weights(out / "models" / name) == weights(run.out / "models" / name), name
    assert (out / "training" / "stamps.npy").read_bytes() == (run.out / "training" / "stamps.npy").read_bytes()


def weights(path: Path) -> dict[str, bytes]:
    from safetensors.numpy import load_file

    return {name: value.tobytes() for name, value in load_file(path).items()}


def test_nothing_of_the_work_is_left(killed):
    left = [path for path in killed[0].rglob("*") if "stellarscale-part" in path.name or "checkpoint" in path.name]
    assert left == []


def test_processes_give_the_catalogue_of_threads(run, tmp_path):
    job = acf_job(tmp_path / "run", *run.given)
    process = started(job, "processes:2")
    output = process.communicate(timeout=200)
    assert process.returncode == 0, output[1].decode()
    names = ["object_id", "quality_flags", *(f"{label}{end}" for label in LABELS for end in ("", "_std", "_err"))]
    ours, theirs = (column(folder / "catalog", *names) for folder in (tmp_path / "run", run.out))
    for name in names[:2]:
        assert ours[name].equals(theirs[name])
    for name in names[2:]:
        left, right = (table[name].to_numpy(zero_copy_only=False) for table in (ours, theirs))
        np.testing.assert_allclose(left, right, rtol=1e-4)
    assert digests(tmp_path / "run" / "catalogs" / "stamps") == digests(run.out / "catalogs" / "stamps")


# ---- changed settings


@pytest.fixture(scope="module")
def changed(run, tmp_path_factory):
    """A copy of the finished run with one setting changed after the other: what was refused, and what was made anew."""
    out = tmp_path_factory.mktemp("changed") / "run"
    shutil.copytree(run.out, out, ignore=shutil.ignore_patterns("image_comparisons", "external_*"))
    told: dict[str, Change] = {}
    settings: list[str] = []
    for name, setting in CHANGES.items():
        settings += [setting]
        job = acf_job(out, "comparisons=null", "evaluation.external=[]", "truth=null", *settings)
        refused = ""
        try:
            acf.run(job, cluster="threads:2")
        except RunError as error:
            refused = str(error)
            acf.run(job, cluster="threads:2", update=True)
        steps = {step for step, each in steps_of(out).items() if not each.get("resumed")}
        parts = {part: digests(out / part) for part in ("catalog", "catalogs/stamps")}
        told[name] = Change(refused, steps, parts, weights(out / "models" / "joint.safetensors"))
    return told


CHANGES = {
    "moved": "gallery=3",  # to another directory: catalogues are known by their place
    "batch": "prediction.batch_size=32",
    "samples": "prediction.samples=12",
    "limits": "limits={teff: [5000, 6000]}",
    "carried": "magnitude=i_mag",  # one more column of the training set, of which the networks know nothing
    "labels": "labels.cuts=[{name: snr, columns: [galah_snr], above: 35}]",
}


@dataclass(frozen=True)
class Change:
    """A change of settings: the refusal, the steps made anew, digests of two catalogues, and the weights."""

    refused: str
    redone: set[str]
    parts: dict[str, dict[str, str]]
    weights: dict[str, bytes]


def test_more_samples_only_predict_anew(changed):
    before, after = changed["batch"], changed["samples"]
    assert "samples was 8, now 12" in after.refused
    assert "--update" in after.refused
    assert after.redone == {"calibrate errors", "predict"}
    assert after.weights == before.weights
    assert after.parts["catalog"] != before.parts["catalog"]
    assert after.parts["catalogs/stamps"] == before.parts["catalogs/stamps"]


def test_a_cut_of_the_labels_trains_anew_and_makes_no_stamps_of_the_stars(changed):
    before, after = changed["carried"], changed["labels"]
    assert "--update" in after.refused
    assert after.redone == {
        "select stars with labels", "stamps of labelled stars", "training", "train", "calibrate errors", "predict",
    }  # fmt: skip
    assert after.weights != before.weights
    assert after.parts["catalogs/stamps"] == before.parts["catalogs/stamps"]


def test_a_column_that_no_network_sees_trains_none_anew(changed):
    before, after = changed["limits"], changed["carried"]
    assert "keep" in after.refused
    assert after.redone == {"training", "calibrate errors"}
    assert after.weights == before.weights
    assert after.parts == before.parts


def test_what_changes_no_result_does_nothing_anew(changed):
    assert (changed["batch"].refused, changed["batch"].redone) == ("", set())


def test_other_limits_only_flag_anew(changed):
    assert changed["limits"].redone == {"predict"}
