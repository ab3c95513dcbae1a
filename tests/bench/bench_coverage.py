"""Coverage of the claimed errors on real tables, over many splits: one held-out set of 500 stars is too few.

A job is run once per seed, each seed with another split and another forest; the held-out stars of all of them are
pooled, by table, parameter and bin of magnitude. The error of a share is the binomial one of as many different stars.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

JOBS = {"segue": None, "apokasc": "g_0", "lamost_pilot": "g_0"}
LEVELS = {"err": 0.6827, "err95": 0.95}
BINS = 3


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(prog="bench_coverage", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="directory of the tables of the jobs")
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `stellarscale run`")
    parser.add_argument("--quick", action="store_true", help="two splits of one table")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args(argv)
    if options.quick:
        options.splits, options.jobs = 2, ["apokasc"]
    return options


def main(argv: list[str] | None = None) -> int:
    """Run the bench; the exit code is 0."""
    options = parse(argv)
    if not options.data.is_dir():
        print(f"bench_coverage: no directory {options.data} with the real tables; name it with --data: left out")
        return 0
    rows = [row for name in options.jobs for row in cover(name, options)]
    if options.json:
        print(json.dumps(rows))
        return 0
    print(f"{'table':<14}{'label':<7}{'stars':<22}{'n':>7}{'sigma':>9}{'68 %':>8}{'95 %':>8}{'+-68':>7}{'+-95':>7}")
    for row in rows:
        print(
            f"{row['table']:<14}{row['label']:<7}{row['stars']:<22}{row['n']:>7,}{row['sigma']:>9.4g}"
            f"{row['err']:>8.1%}{row['err95']:>8.1%}{row['chance_err']:>7.1%}{row['chance_err95']:>7.1%}"
        )
    return 0


def cover(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run a job over all splits, and count."""
    pooled: dict[str, list[dict[str, np.ndarray]]] = {}
    folder = Path(tempfile.mkdtemp(prefix="bench_coverage_"))
    try:
        for seed in range(options.splits):
            for path in held_out(name, seed, folder, options):
                table = pq.read_table(path)
                table = table.filter(np.array(table["role"].to_pylist()) == "held_out")
                columns = ("star", "label", "prediction", "err", "err95", "magnitude")
                pooled.setdefault(path.name, []).append({column: table[column].to_numpy() for column in columns})
    finally:
        shutil.rmtree(folder)
    rows = []
    for file, parts in sorted(pooled.items()):
        stars = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        rows += [{"table": name, "label": file.removesuffix("_evaluated.parquet"), **row} for row in counted(stars)]
    return rows


def held_out(name: str, seed: int, folder: Path, options: argparse.Namespace) -> list[Path]:
    """Run the job on one split; the files of its stars that did not train."""
    from stellarscale.config import load_job
    from stellarscale.products.dispatch import run_job

    out = folder / f"{name}-{seed}"
    settings = {"data": options.data, "out": out, "store": folder / f"{name}-store", "seed": seed}
    settings |= {"training.compare_with_sklearn": "false"}
    if JOBS[name]:
        settings["training.errors.magnitude"] = JOBS[name]
    job = load_job(name, [f"{key}={value}" for key, value in settings.items()] + options.set)
    run_job(job, cluster=f"threads:{options.threads}")
    return sorted((out / "models").glob("*_evaluated.parquet"))


def counted(stars: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Shares inside the intervals, of all stars and by bins of equal numbers along the magnitude."""
    magnitude = stars["magnitude"].astype(np.float64)
    groups = [("all", np.ones(len(magnitude), dtype=bool))]
    known = np.isfinite(magnitude)
    if known.any() and np.ptp(magnitude[known]) > 0:
        edges = np.quantile(magnitude[known], np.linspace(0, 1, BINS + 1))
        for low, high in itertools.pairwise(edges):
            inside = (magnitude >= low) & ((magnitude < high) | (high == edges[-1]))
            groups.append((f"{low:.2f} to {high:.2f} mag", inside))
    return [{"stars": text, **_shares(stars, mask)} for text, mask in groups]


def _shares(stars: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, Any]:
    residual = np.abs(stars["prediction"] - stars["label"])[mask]
    different = len(np.unique(stars["star"][mask]))
    shares = {name: float(np.mean(residual <= stars[name][mask])) for name in LEVELS}
    chance = {f"chance_{name}": float(np.sqrt(p * (1 - p) / different)) for name, p in LEVELS.items()}
    return {"n": different, "sigma": float(1.4826 * np.median(residual)), **shares, **chance}


if __name__ == "__main__":
    sys.exit(main())
