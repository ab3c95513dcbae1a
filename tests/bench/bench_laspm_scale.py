"""Parameters of as many M-star spectra as the survey has, from a catalogue of spectra to the value-added catalogue.

A catalogue of ``--rows`` mock spectra and a file of 1,365 references are made (not timed), then the job runs in a
fresh process for each ``--cluster``, as a user would start it. Seconds and memory come from the receipts of the run.
The catalogue is compared with the truth row by row. With ``--kill-at`` the job is started once more, killed with
SIGKILL when that share of the matching's partitions has its receipt, and started again: no receipt may be written
twice, and every Parquet file must have the same bytes as in the run that nobody disturbed.

The paper's size is ``--rows 877570`` (10 GB of disk); ``--quick`` is content with 6,000.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from bench_resume import digest, receipts
from bench_scale import pin
from measuring import work_folder
from spectra_survey import LABELS, Survey, make_survey

from stellarscale.catalog.reader import open_stored, read_columns

SNR_EDGES = (5.0, 10.0, 20.0, 50.0, 100.0, 300.1)
MATCHING = "matched/.stellarscale/receipts/match_spectra"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000, help="spectra")
    parser.add_argument("--cores", type=int, default=2, help="cores that the runs may use")
    parser.add_argument("--cluster", nargs="+", choices=["threads", "processes"], default=["threads"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where spectra and runs go; a temporary directory when absent")
    parser.add_argument("--keep", action="store_true", help="leave spectra and runs there")
    parser.add_argument("--kill-at", type=float, help="share of the matching's receipts")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as in run")
    parser.add_argument("--quick", action="store_true", help="6,000 spectra")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.quick:
        options.rows = 6_000
    return options


def job_file(survey: Survey, folder: Path) -> Path:
    """The job: references from a file, errors from repeated observations, the truth to compare with."""
    columns = ("spectrum_id", "source_id", "obsid", "ra", "dec", "mjd", "snr_i")
    job = {
        "product": "laspm",
        "name": "laspm_scale",
        "out": str(folder / "run"),
        "catalogs": {"spectra": {"path": str(survey.catalog)}},
        "spectra": "spectra",
        "references": {"file": str(survey.references)},
        "matching": {"columns": {name: name for name in columns}},
        "errors": {"star": "source_id"},
        "evaluation": {"branches": {}},
        "truth": {
            "file": str(survey.truth),
            "id": "spectrum_id",
            "truth_id": "spectrum_id",
            "labels": {label: label for label in LABELS},
        },
    }
    path = folder / "laspm_scale.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    return path


def start(job: Path, out: Path, cluster: str, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    """Start the job in a process group of its own on so many cores; its summary goes beside the run."""
    arguments = [part for setting in (f"out={out}", *options.overrides) for part in ("--set", setting)]
    command = [sys.executable, "-m", "stellarscale.cli", "run", str(job), *arguments]
    command += ["--cluster", f"{cluster}:{options.cores}", "--json"]
    with out.with_suffix(".json").open("w") as summary:
        return subprocess.Popen(command, stdout=summary, preexec_fn=lambda: pin(options.cores), start_new_session=True)


def finish(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Wait for a run; its peak memory in MiB, or that of its largest child, and the processor seconds of all."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the run ended with exit code {process.returncode}")
    return usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def measure(survey: Survey, job: Path, cluster: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run the job on one kind of cluster: seconds and rate of each step, memory, rows, errors against the truth."""
    out = job.parent / f"run_{cluster}"
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    peak, processor = finish(start(job, out, cluster, options))
    seconds = time.perf_counter() - started
    steps = json.loads((out / "steps.json").read_text())
    named = {step["name"]: round(step["seconds"], 1) for step in steps}
    peaks = {step["name"]: round(step["peak_memory_mb"]) for step in steps if "peak_memory_mb" in step}
    summary = json.loads(out.with_suffix(".json").read_text())
    matching = named["match spectra"]
    return {
        "cluster": f"{cluster}:{options.cores}",
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "steps": {**named, "start, report": round(seconds - sum(named.values()), 1)},
        "spectra_per_second": round(options.rows / seconds),
        "spectra_per_second_matching": round(options.rows / matching),
        # A step starts a new peak, which the system's own figure then forgets.
        "peak_memory_mb": round(max(peak, *peaks.values())),
        "peak_memory_mb_by_step": peaks,
        "rows": {"spectra": open_stored(survey.catalog).properties.rows, "written": summary["written"]},
        "loadavg": os.getloadavg()[0],
        "accuracy": accuracy(survey, out / "catalog"),
    }


def accuracy(survey: Survey, catalog: Path) -> list[dict[str, Any]]:
    """Scatter (half of the central 68.3 %) and coverage of the errors by S/N; the rows must be those of the truth."""
    stored, truth = open_stored(catalog), pq.read_table(survey.truth)
    errors = [f"{label}_err" for label in LABELS if f"{label}_err" in stored.schema.names]
    found = read_columns(stored, ["spectrum_id", *LABELS, *errors])
    if found["spectrum_id"].combine_chunks() != truth["spectrum_id"].combine_chunks():
        raise SystemExit("the spectra of the catalogue are not those of the survey")
    snr, table = truth["snr"].to_numpy(), []
    for low, high in pairwise(SNR_EDGES):
        chosen = (snr >= low) & (snr < high)
        row: dict[str, Any] = {"snr": f"{low:.0f}-{high:.0f}", "spectra": int(chosen.sum())}
        for label in LABELS:
            off = (found[label].to_numpy() - truth[label].to_numpy())[chosen]
            known = np.isfinite(off)
            row[f"{label}_null"] = int((~known).sum())
            if known.any():
                row[f"{label}_sigma"] = float(f"{np.ptp(np.percentile(off[known], [15.85, 84.15])) / 2:.3g}")
            if f"{label}_err" in errors:
                error = found[f"{label}_err"].to_numpy()[chosen]
                row[f"{label}_coverage"] = round(float((np.abs(off) <= error)[known].mean()), 3)
        table.append(row)
    return table


def kill_and_resume(job: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Kill a run in the middle of the matching, start it again, compare with the undisturbed one."""
    whole, out, cluster = job.parent / f"run_{options.cluster[0]}", job.parent / "run_killed", options.cluster[0]
    shutil.rmtree(out, ignore_errors=True)
    needed = options.kill_at * len(list((whole / MATCHING).glob("*.json")))
    process = start(job, out, cluster, options)
    while len(list((out / MATCHING).glob("*.json"))) < needed:
        if process.poll() is not None:
            raise SystemExit("the run ended before it could be killed")
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = receipts(out)
    started = time.perf_counter()
    finish(start(job, out, cluster, options))
    seconds, after = time.perf_counter() - started, receipts(out)
    one, two = (_digests(run) for run in (whole, out))
    return {
        "kill_at": options.kill_at,
        "seconds_resume": round(seconds, 1),
        "receipts_at_kill": len(before),
        "receipts_at_end": len(after),
        "receipts_redone_or_lost": sorted(name for name, written in before.items() if after.get(name) != written),
        "files": len(one),
        "files_that_differ": sorted(name for name in {*one, *two} if one.get(name) != two.get(name)),
    }


def _digests(run: Path) -> dict[str, str]:
    """SHA-256 of every Parquet file of a run."""
    return {str(path.relative_to(run)): digest(path) for path in sorted(run.rglob("*.parquet"))}


def text(found: dict[str, Any]) -> str:
    """Seconds by step, then the errors by S/N, as Markdown tables."""
    lines = []
    for run in found["runs"]:
        steps = {**run["steps"], "total": run["seconds"]}
        peaks = {**run["peak_memory_mb_by_step"], "total": run["peak_memory_mb"]}
        lines.append(f"{run['cluster']}, {run['rows']['written']:,} spectra, {run['processor_seconds']} CPU s")
        lines.append("")
        lines += ["| step | seconds | spectra/s | peak MiB |", "| --- | ---: | ---: | ---: |"]
        for name, seconds in steps.items():
            rate = f"{found['rows'] / seconds:,.0f}" if seconds else ""
            lines.append(f"| {name} | {seconds:.1f} | {rate} | {peaks.get(name, '')} |")
        rows = run["accuracy"]
        lines += ["", "| " + " | ".join(rows[0]) + " |", "|" + " ---: |" * len(rows[0])]
        lines += ["| " + " | ".join(str(row.get(name, "")) for name in rows[0]) + " |" for row in rows] + [""]
    if "resume" in found:
        lines.append(json.dumps(found["resume"], indent=1))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Print what was found; the exit code is 1 when rows are lost, anything was done twice, or bytes differ."""
    options = parse(argv)
    found: dict[str, Any] = {"rows": options.rows, "cores": options.cores}
    with work_folder(options.work) as folder:
        survey = Survey(options.rows, options.seed, folder / f"survey_{options.rows}_{options.seed}")
        started = time.perf_counter()
        make_survey(survey, options.cores)
        found["seconds_survey"] = round(time.perf_counter() - started, 1)
        job = job_file(survey, folder)
        found["runs"] = [measure(survey, job, cluster, options) for cluster in options.cluster]
        if options.kill_at is not None:
            found["resume"] = kill_and_resume(job, options)
        if options.work is not None and not options.keep:
            for made in (survey.folder, *folder.glob("run_*")):
                shutil.rmtree(made) if made.is_dir() else made.unlink()
    print(json.dumps(found) if options.json else text(found))
    resume = found.get("resume", {"receipts_redone_or_lost": [], "files_that_differ": []})
    lost = any(len(set(run["rows"].values()) | {options.rows}) > 1 for run in found["runs"])
    if lost or resume["receipts_redone_or_lost"] or resume["files_that_differ"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
