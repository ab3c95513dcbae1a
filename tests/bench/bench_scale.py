"""The whole SAGES chain, files to catalogues, at growing numbers of stars: is the time linear, the memory flat?

For each ``--rows`` a mock sky is simulated (not timed), then the jobs ``sages_set1`` and ``sages_set2`` run in a
fresh process each, as a user would start them. The table, the JSON and the plot come from the receipts of the runs.
The paper's size is ``--rows 1000000 3000000 10000000 21071305``; a laptop is content with ``--rows 200000 1000000``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measuring import work_folder

JOBS = ("sages_set1", "sages_set2")
GROUPS = ("import", "match", "labels", "training rows", "train", "predict", "other")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000, 1_000_000], help="sizes of the sky")
    parser.add_argument("--cores", type=int, default=2, help="cores that the runs may use")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where skies and runs go; a temporary directory when absent")
    parser.add_argument("--keep", action="store_true", help="leave skies and runs there")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as in run")
    parser.add_argument("--plot", type=Path, help="write the plot here (svg or png)")
    parser.add_argument("--quick", action="store_true", help="two small skies and small forests")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.quick:
        options.rows = [20_000, 40_000]
        options.overrides += ["training.forest.n_estimators=10", "training.min_stars=10"]
    return options


def simulate(sky: Path, *, rows: int, seed: int) -> None:
    """Make a mock sky of that many stars; one that is there already is taken as it is."""
    if not (sky / "manifest.json").is_file():
        command = [sys.executable, "-m", "stellarscale.cli", "simulate", "--rows", str(rows), "--seed", str(seed)]
        subprocess.run([*command, "--out", str(sky)], check=True, stdout=subprocess.DEVNULL)


def run_job(job: str, sky: Path, run: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one job in a process of its own on so many cores: its steps and the seconds of the whole command."""
    settings = [f"data={sky}", f"out={run / job}", f"store={run / 'store'}", *options.overrides]
    arguments = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "stellarscale.cli", "run", job, *arguments]
    command += ["--cluster", f"threads:{options.cores}", "--json"]
    run.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with (run / f"{job}.json").open("w") as summary:
        process = subprocess.Popen(command, stdout=summary, preexec_fn=lambda: pin(options.cores))
        _, status, usage = os.wait4(process.pid, 0)  # of this process alone: the simulation needs memory too
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{job} at {sky.name} ended with exit code {os.waitstatus_to_exitcode(status)}")
    steps = read_steps(run / job)
    # A step starts a new peak, which the system's own figure then forgets.
    peaks = [usage.ru_maxrss / 1024, *(step.get("peak_memory_mb", 0.0) for step in steps)]
    return {
        "seconds": seconds,
        "peak_memory_mb": round(max(peaks)),
        "summary": json.loads((run / f"{job}.json").read_text()),
        "steps": steps,
    }


def pin(cores: int) -> None:
    """Keep a process to the first cores that it may use, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def read_steps(out: Path) -> list[dict[str, Any]]:
    """The steps of a run that did something in it: what another job had made already took no time here."""
    steps = json.loads((out / "steps.json").read_text())
    return [step for step in steps if not step.get("resumed")]


def group_of(step: dict[str, Any]) -> str:
    """What a step counts as in the table."""
    return next((group for group in GROUPS if step["name"].startswith(group)), "other")


def measure(rows: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both jobs at one size: seconds by group, peak memory, rows of the catalogues."""
    sky, run = folder / f"sky_{rows}_{options.seed}", folder / f"run_{rows}"
    simulate(sky, rows=rows, seed=options.seed)
    shutil.rmtree(run, ignore_errors=True)
    results = {job: run_job(job, sky, run, options) for job in JOBS}
    groups: dict[str, float] = {}
    for result in results.values():
        for step in result["steps"]:
            groups[group_of(step)] = groups.get(group_of(step), 0.0) + step["seconds"]
    total = sum(result["seconds"] for result in results.values())
    groups["other"] = total - sum(seconds for group, seconds in groups.items() if group != "other")
    if not options.keep:
        shutil.rmtree(run)
        shutil.rmtree(sky)
    return {
        "rows": rows,
        "seconds": round(total, 1),
        "groups": {group: round(groups.get(group, 0.0), 1) for group in GROUPS},
        "written": {job: result["summary"]["written"] for job, result in results.items()},
        "peak_memory_mb": max(result["peak_memory_mb"] for result in results.values()),
        "steps": {job: result["steps"] for job, result in results.items()},
    }


def table(results: list[dict[str, Any]]) -> str:
    """The figures as a Markdown table, one line a size."""
    head = ["stars", *GROUPS, "total s", "without training", "peak MiB", *(f"rows {job}" for job in JOBS)]
    lines = [head, ["---:"] * len(head)]
    for result in results:
        groups = [f"{result['groups'][group]:.1f}" for group in GROUPS]
        rest = f"{result['seconds'] - result['groups']['train']:.1f}"
        written = [f"{result['written'][job]:,}" for job in JOBS]
        memory = f"{result['peak_memory_mb']:,}"
        lines.append([f"{result['rows']:,}", *groups, f"{result['seconds']:.1f}", rest, memory, *written])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Seconds against stars, each group and the total, beside a line of slope one."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    rows = [result["rows"] for result in results]
    for group in GROUPS:
        seconds = [result["groups"][group] for result in results]
        if max(seconds) > 0.02 * max(result["seconds"] for result in results):
            axes.plot(rows, seconds, "o-", lw=1, ms=3, label=group)
    total = [result["seconds"] for result in results]
    axes.plot(rows, total, "ko-", lw=2, label="total")
    axes.plot(rows, [total[-1] * size / rows[-1] for size in rows], "k:", lw=1, label="linear")
    axes.set(xscale="log", yscale="log", xlabel="stars", ylabel="seconds on two cores")
    axes.legend(fontsize=8, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main(argv: list[str] | None = None) -> None:
    """Measure every size, print the table, write the plot."""
    options = parse(argv)
    with work_folder(options.work) as folder:
        results = [measure(rows, options, folder) for rows in sorted(options.rows)]
    if options.plot:
        plot(results, options.plot)
    print(json.dumps({"cores": options.cores, "results": results}) if options.json else table(results))


if __name__ == "__main__":
    main()
