"""A run of the M stars that is stopped goes on where it stood; an edited review table changes what follows from it."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.mock_m_sky import digests, fits_parts, m_job, receipts, steps_of, with_references

from stellarscale.engine import spectra_tasks
from stellarscale.errors import RunError
from stellarscale.products import empirical_sample, laspm
from stellarscale.products.sample_bins import Fate

# What an edited review table leaves as it is.
BEFORE_REVIEW = ("import ", "match mstellar", "attach gaia", "attach distances", "attach starhorse", "attach aspcap",
                 "attach ding", "attach qiu", "sample: cuts")  # fmt: skip

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def stopped_twice(m_run, no_report, tmp_path_factory):
    """A run in the same store, stopped in the cleaning and in the matching, with the receipts after each stop."""
    short = (f"store={m_run.store}", "truth=null", "report.examples=0")
    job = m_job(m_run.sky, tmp_path_factory.mktemp("stopped") / "run", *short)
    out, seen = Path(job.out), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(empirical_sample, "clean_sample", interrupted)
        with pytest.raises(KeyboardInterrupt):
            laspm.run(job, cluster="threads:2")
    seen.append(receipts(out))
    # As a run on other partitions would have left it.
    stale = next((out / "sample" / "rows_rejects").glob("*.parquet"))
    shutil.copy(stale, stale.with_name("9-123456.parquet"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectra_tasks, "match_partition", fails_after(4))
        with pytest.raises(RunError, match="stopped here"):
            laspm.run(job, cluster="threads:1")
    seen.append(receipts(out))
    return job, seen


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


def fails_after(calls: int):
    match, done = spectra_tasks.match_partition, []

    def counted(*args):
        done.append(1)
        if len(done) > calls:
            raise RunError("stopped here")
        return match(*args)

    return counted


@pytest.fixture(scope="module")
def finished(stopped_twice):
    job, seen = stopped_twice
    laspm.run(job, cluster="threads:2")
    return job, seen, receipts(Path(job.out))


def test_what_is_finished_is_not_done_again(m_run, finished):
    job, (first, second), last = finished
    assert first.items() <= second.items() <= last.items()
    assert len(first) < len(second) < len(last)
    step = steps_of(Path(job.out))["match spectra"]
    assert step["resumed_partitions"] == 4 < step["partitions"]
    resumed = {name for name, each in steps_of(Path(job.out)).items() if each.get("resumed")}
    assert resumed >= {name for name in m_run.steps if name.startswith(BEFORE_REVIEW)}
    assert {"sample: selection and cleaning", "leave one out"} <= resumed


def test_a_stopped_run_ends_with_the_bytes_of_one_that_was_not(m_run, finished):
    out = Path(finished[0].out)
    for catalog in ("matched", "catalog"):
        assert digests(out / catalog) == digests(m_run.out / catalog), catalog
    for name in ("references.fits", "sample.fits"):
        ours, theirs = (run / "sample" / "cleaned" / name for run in (out, m_run.out))
        assert ours.read_bytes() == theirs.read_bytes(), name


def test_rejects_of_other_partitions_do_not_count(m_run, finished):
    mine, theirs = (pq.read_table(run / "sample" / "cleaned" / "rejects.parquet") for run in
                    (Path(finished[0].out), m_run.out))  # fmt: skip
    assert mine.equals(theirs)


def test_nothing_of_the_work_is_left(finished):
    out = Path(finished[0].out)
    leftovers = [path for path in out.rglob("*") if "stellarscale-part" in path.name or path.suffix == ".npy"]
    assert leftovers == []


def test_a_decision_of_the_review_changes_what_follows(finished):
    """The last test of the module: it changes the run."""
    job, out = finished[0], Path(finished[0].out)
    table = out.with_name(f"{out.name}_review") / "review.csv"
    dropped = decide(table)
    _, _, before = fits_parts(out / "sample" / "cleaned" / "sample.fits")
    assert dropped in before["obsid"]
    with pytest.raises(RunError, match="review") as told:
        laspm.run(job, cluster="threads:2")
    assert str(dropped) in str(told.value)
    done = laspm.run(job, cluster="threads:2", update=True)
    steps = steps_of(out)
    redone = {name for name, step in steps.items() if not step.get("resumed")}
    assert redone == {name for name in steps if not name.startswith(BEFORE_REVIEW)}
    assert steps["sample: selection and cleaning"]["fates"][str(Fate.DROPPED)] == 1
    _, _, sample = fits_parts(out / "sample" / "cleaned" / "sample.fits")
    assert dropped not in sample["obsid"]
    rejects = pq.read_table(out / "sample" / "cleaned" / "rejects.parquet")
    reason = rejects.filter(pa.array(np.equal(rejects["obsid"].to_numpy(), dropped)))["reason"].to_pylist()
    assert reason == [str(Fate.DROPPED)]
    assert done["written"] == steps["import spectra"]["written"]
    assert next(row for row in rows_of(table) if row["spectrum_id"] == str(dropped))["keep"] == "drop"


def rows_of(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text().splitlines()))


def decide(table: Path) -> int:
    """Drop the first spectrum under review."""
    rows = rows_of(table)
    rows[0]["keep"] = "drop"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return int(rows[0]["spectrum_id"])


def test_a_killed_program_goes_on(m_run, tmp_path):
    file, out = tmp_path / "job.json", tmp_path / "run"
    job = with_references(m_run, out)
    file.write_text(job.model_dump_json())
    command = [sys.executable, "-m", "stellarscale.cli", "run", str(file), "--cluster", "processes:2"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    folder, deadline = out / "matched" / ".stellarscale" / "receipts", time.monotonic() + 200
    while not list(folder.glob("*/*.json")):
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = receipts(out)
    assert not (out / "report.json").exists()
    assert laspm.run(job, cluster="threads:2")["written"] == m_run.done["written"]
    assert kept.items() <= receipts(out).items()
    assert digests(out / "matched") == digests(m_run.out / "matched")
