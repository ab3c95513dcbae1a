"""Kill the SAGES chain in its middle and start it again: is the result the same to the byte, and nothing done twice?

A whole run is made first, then one that is killed with SIGKILL after ``--kill-at`` of the first one's seconds (a
share, several for several kills) and started again. Every Parquet file of both is compared, and every receipt that
was there at a kill must be there untouched at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench_scale import simulate
from measuring import work_folder

Marks = dict[str, int]


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="stars of the mock sky")
    parser.add_argument("--job", default="sages_set1")
    parser.add_argument("--kill-at", type=float, nargs="+", default=[0.5], help="shares of the whole run's seconds")
    parser.add_argument("--cluster", default="threads:2")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sky", type=Path, help="a simulated sky that is there already")
    parser.add_argument(
        "--whole", type=Path, help="what bench_scale --keep left of the same job and sky, with --seconds"
    )
    parser.add_argument("--seconds", type=float, help="how long that run took")
    parser.add_argument("--work", type=Path, help="where runs go; a temporary directory when absent")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as in run")
    parser.add_argument("--quick", action="store_true", help="a small sky and small forests")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.quick:
        options.rows = 20_000
        options.overrides += ["training.forest.n_estimators=10", "training.min_stars=10"]
    return options


def command(sky: Path, out: Path, options: argparse.Namespace) -> list[str]:
    """The command line of a run."""
    settings = [f"data={sky}", f"out={out / options.job}", f"store={out / 'store'}", *options.overrides]
    arguments = [part for setting in settings for part in ("--set", setting)]
    base = [sys.executable, "-m", "stellarscale.cli", "run", options.job]
    return [*base, *arguments, "--cluster", options.cluster, "--json"]


def whole_run(sky: Path, out: Path, options: argparse.Namespace) -> float:
    """Seconds of a run that nobody disturbs."""
    started = time.perf_counter()
    subprocess.run(command(sky, out, options), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def kill_after(seconds: float, sky: Path, out: Path, options: argparse.Namespace) -> Marks:
    """Start a run, kill it and all its children after some seconds; the receipts that were there then."""
    process = subprocess.Popen(command(sky, out, options), stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    else:
        raise SystemExit(f"the run ended after less than {seconds:.0f} s: nothing was killed")
    return receipts(out)


def receipts(out: Path) -> Marks:
    """Receipts of a run with the times they were written."""
    found = out.rglob(".stellarscale/receipts/*/*.json")
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in found}


def catalog_of(name: str) -> str:
    """The first two parts of a path: a catalogue of the store, or a part of the run."""
    return "/".join(name.split("/")[:2])


def digests(out: Path, options: argparse.Namespace) -> dict[str, str]:
    """SHA-256 of every Parquet and model file that a run leaves."""
    folders = (out / options.job, out / "store")
    paths = [path for folder in folders for kind in ("*.parquet", "*.npz") for path in folder.rglob(kind)]
    return {str(path.relative_to(out)): digest(path) for path in sorted(paths)}


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run, kill, resume, compare."""
    sky = options.sky or folder / "sky"
    simulate(sky, rows=options.rows, seed=options.seed)
    whole, killed = options.whole or folder / "whole", folder / "killed"
    seconds = options.seconds or whole_run(sky, whole, options)
    shutil.rmtree(killed, ignore_errors=True)
    marks = [kill_after(share * seconds, sky, killed, options) for share in options.kill_at]
    resumed = whole_run(sky, killed, options)
    after, one, two = receipts(killed), digests(whole, options), digests(killed, options)
    made = {catalog_of(name) for name in two}  # the store of a whole run may hold what other jobs made besides
    one = {name: value for name, value in one.items() if name.startswith(options.job) or catalog_of(name) in made}
    redone = sorted({name for before in marks for name, written in before.items() if after.get(name) != written})
    return {
        "rows": options.rows,
        "seconds_whole": round(seconds, 1),
        "seconds_last_resume": round(resumed, 1),
        "receipts_at_kill": [len(before) for before in marks],
        "receipts_at_end": len(after),
        "receipts_redone_or_lost": redone,
        "files": len(one),
        "files_that_differ": sorted(name for name in {*one, *two} if one.get(name) != two.get(name)),
    }


def main(argv: list[str] | None = None) -> None:
    """Print what was found; the exit code is 1 when anything differs or was done twice."""
    options = parse(argv)
    with work_folder(options.work) as folder:
        found = measure(options, folder)
    print(json.dumps(found, indent=None if options.json else 1))
    if found["receipts_redone_or_lost"] or found["files_that_differ"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
