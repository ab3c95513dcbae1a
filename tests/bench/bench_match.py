"""HATS to matched HATS: seconds and memory side by side with LSDB, in turn, every run in a fresh process.

Two mock catalogues over the whole sky: the right one holds four fifths of the left positions, moved by about
0.2 arcsec, and a fifth of new ones. Both are written by this package, sorted, with the margin cache that only the
peer needs (writing it is not timed). Both programs read all columns from the same files, keep the nearest partner
within 1 arcsec and write zstd at the same level with two threads (this package) or two workers of one thread (LSDB).
The clock runs from two paths to a complete catalogue, after the program is imported and its workers are started;
what either loads or compiles later counts, unless ``--warm`` lets both match a small pair of catalogues first. The
time of the whole process is told as well.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

RADIUS_ARCSEC = 1.0
MARGIN_ARCSEC = 5.0
SMALL_ROWS = 20_000
OPTICAL = ("g_mag", "bp_mag", "rp_mag", "g_err", "bp_err", "rp_err", "ruwe")
INFRARED = ("j_mag", "h_mag", "k_mag", "j_err", "h_err", "k_err", "w1_mag")
DOUBLES = ("parallax", "pmra", "pmdec")


def positions(rows: int, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Degrees, uniform on the sphere; the right side repeats four fifths of the left one, jittered."""
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, rows), np.degrees(np.arcsin(rng.uniform(-1, 1, rows)))
    if side == "right":
        rng = np.random.default_rng(2)
        same = rng.random(rows) < 0.8
        step = rng.normal(0, 0.15 / 3600, (2, rows))
        dec = np.where(same, np.clip(dec + step[0], -90, 90), np.degrees(np.arcsin(rng.uniform(-1, 1, rows))))
        east = step[1] / np.maximum(np.cos(np.radians(dec)), 1e-6)
        ra = np.where(same, (ra + east) % 360.0, rng.uniform(0, 360, rows))
    return ra, dec


def columns_of(rows: int, side: str) -> dict[str, Any]:
    """An id, a position and ten measured columns, two of them with nulls; magnitudes in thousandths."""
    ra, dec = positions(rows, side)
    rng = np.random.default_rng(3 if side == "left" else 4)
    columns: dict[str, Any] = {f"{side}_id": rng.permutation(rows), "ra": ra, "dec": dec}
    columns |= {name: rng.normal(0, 5, rows) for name in DOUBLES}
    for name in OPTICAL if side == "left" else INFRARED:
        columns[name] = np.round(rng.normal(15, 2, rows), 3).astype(np.float32)
    for name in ("parallax", "bp_err" if side == "left" else "k_err"):
        columns[name] = pa.array(columns[name], mask=rng.random(rows) < 0.1)
    return columns


def write_mock(root: Path, rows: int, side: str, options: argparse.Namespace) -> None:
    """One catalogue, by this package's own writer."""
    from stellarscale.catalog.pixels import adaptive_pixels
    from stellarscale.catalog.properties import CatalogProperties
    from stellarscale.catalog.writer import SKY_FIELD, WriteOptions, finish_catalog, write_pixel
    from stellarscale.kernels.healpix import ORDER, pixel_of

    table = pa.table(columns_of(rows, side))
    sky = pixel_of(table["ra"].to_numpy(), table["dec"].to_numpy())
    order = np.argsort(sky, kind="stable")
    sky = sky[order]
    table = table.take(pa.array(order)).add_column(0, SKY_FIELD, pa.array(sky))
    counts = np.bincount(sky >> (2 * (ORDER - 6)), minlength=12 << 12)
    pixels = [pixel for pixel, _ in adaptive_pixels(counts, max_rows=options.max_rows)]
    for pixel in pixels:
        first, last = np.searchsorted(sky, [pixel.first, pixel.last])
        write_pixel(root, pixel, table.slice(first, last - first), WriteOptions(level=options.level))
    finish_catalog(root, CatalogProperties(name=side, ra="ra", dec="dec"), table.schema, pixels)


def make_inputs(options: argparse.Namespace) -> int:
    """Both catalogues and the margin cache of the right one, in the working directory, and a small pair to warm up."""
    from stellarscale.catalog.margins import write_margin
    from stellarscale.catalog.reader import open_stored

    for folder, rows in ((options.work, options.rows), (options.work / "small", SMALL_ROWS)):
        for side in ("left", "right"):
            write_mock(folder / side, rows, side, options)
        write_margin(open_stored(folder / "right"), folder / "right_margin", threshold_arcsec=MARGIN_ARCSEC)
    return 0


def peak_memory_mb() -> float:
    """Peak resident memory of this process alone; that of ``getrusage`` would begin with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def memory_of(client: Any) -> list[float]:
    """Peak memory of this process and of every other one of the client."""
    return [peak_memory_mb(), *(client.run(peak_memory_mb) if client.cluster.processes else {}).values()]


def run_ours(options: argparse.Namespace) -> dict[str, Any]:
    """Match with this package on a cluster of its own."""
    from stellarscale.products.steps import session

    with session(options.cluster) as on:
        for folder in folders(options):
            result = match_ours(on, folder, options)
        return {**result, "memory_mb": memory_of(on.client)}


def match_ours(on: Any, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One match by this package."""
    from stellarscale.catalog.writer import WriteOptions
    from stellarscale.config import MatchStep
    from stellarscale.products.matching import match_catalogs

    step = MatchStep(catalog="right", radius_arcsec=RADIUS_ARCSEC, prefix="right_")
    start = time.perf_counter()
    summary = match_catalogs(
        on, folder / "left", folder / "right", folder / options.out, step=step, write=WriteOptions(level=options.level)
    )
    return {"rows": summary["written"], "seconds": time.perf_counter() - start}


def run_lsdb(options: argparse.Namespace) -> dict[str, Any]:
    """Match with LSDB on two workers of one thread."""
    import lsdb  # noqa: F401  loading it is not timed
    from dask.distributed import Client

    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        for folder in folders(options):
            result = match_lsdb(folder, options)
        return {**result, "memory_mb": memory_of(client)}


def match_lsdb(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One match by LSDB: the plan, until there is a lazy catalogue, then the run that writes it."""
    import lsdb

    packing = {"compression": "ZSTD", "compression_level": options.level}
    start = time.perf_counter()
    left = lsdb.open_catalog(folder / "left")
    right = lsdb.open_catalog(folder / "right", margin_cache=folder / "right_margin")
    matched = left.crossmatch(right, radius_arcsec=RADIUS_ARCSEC, n_neighbors=1, suffixes=("", "_right"))
    planned = time.perf_counter()
    out = folder / options.out
    matched.write_catalog(out, as_collection=False, progress_bar=False, write_table_kwargs=packing)
    end = time.perf_counter()
    lines = (out / "hats.properties").read_text().splitlines()
    rows = next(line.partition("=")[2] for line in lines if line.startswith("hats_nrows"))
    times = {"seconds": end - start, "plan_seconds": planned - start, "run_seconds": end - planned}
    return {"rows": int(rows), **times}


def folders(options: argparse.Namespace) -> list[Path]:
    """Where the catalogues are that a child matches, the last ones under the clock."""
    return [options.work / "small", options.work] if options.warm else [options.work]


def child(options: argparse.Namespace) -> int:
    """One run in this process; the result is the last line that it prints."""
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")  # those of the peer are not about this package
    print(json.dumps({"inputs": make_inputs, "ours": run_ours, "lsdb": run_lsdb}[options.child](options)))
    return 0


def in_process(what: str, options: argparse.Namespace, **extra: Any) -> Any:
    """Run a child and return what it printed, with the seconds of its whole process."""
    out = f"matched_{what}"
    settings = {"rows": options.rows, "level": options.level, "max-rows": options.max_rows, "out": out, **extra}
    command = [sys.executable, str(Path(__file__).resolve()), "--child", what, "--work", str(options.work)]
    command += ["--warm"] if options.warm else []
    command += [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONWARNINGS": "ignore"}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"the run of {what} failed:\n{done.stderr}")
    result = json.loads(done.stdout.splitlines()[-1])
    if isinstance(result, dict):
        result["process_seconds"] = seconds
        result["megabytes"] = sum(p.stat().st_size for p in (options.work / out).rglob("Npix=*.parquet")) / 1e6
        for folder in folders(options):
            shutil.rmtree(folder / out)
    return result


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs in turn; LSDB must give as many rows as ours every time."""
    in_process("inputs", options)
    # Kernels of both are compiled once per machine and kept on disk: an untimed run makes sure that they are.
    in_process("ours", options, cluster="threads:2")
    if options.peer:
        in_process("lsdb", options)
    ours, peers = [], []
    for _ in range(options.repeats):
        ours.append(in_process("ours", options, cluster="threads:2"))
        if options.peer:
            peers.append(in_process("lsdb", options))
            if peers[-1]["rows"] != ours[-1]["rows"]:
                raise SystemExit(f"LSDB gave {peers[-1]['rows']} rows, this package {ours[-1]['rows']}")
    other = in_process("ours", options, cluster="processes:2")
    result: dict[str, Any] = {
        **{name: getattr(options, name) for name in ("rows", "level", "warm", "max_rows")},
        "matched": ours[0]["rows"],
        "versions": versions(),
        "ours": ours,
        "ours_processes": other,
        "lsdb": peers,
        "median_seconds": statistics.median(run["seconds"] for run in ours),
    }
    for name, key in (("ratios_total", "seconds"), ("ratios_run", "run_seconds")):
        result[name] = [peer[key] / own["seconds"] for peer, own in zip(peers, ours, strict=False)]
    return result


def versions() -> dict[str, str]:
    """Of what takes part."""
    from stellarscale import __version__

    names = ("lsdb", "hats", "dask", "pyarrow", "numpy", "numba", "pandas")
    there = {name: metadata.version(name) for name in names if importlib.util.find_spec(name)}
    return {"python": sys.version.split()[0], "stellarscale": __version__, **there}


def report(result: dict[str, Any]) -> None:
    """Print the figures for people."""
    print(
        f"match of {result['rows']:,} x {result['rows']:,} rows of 13 columns, HATS to HATS, zstd {result['level']}, "
        f"{'warm' if result['warm'] else 'cold'}"
    )
    print(f"{result['matched']:,} pairs; {', '.join(f'{k} {v}' for k, v in result['versions'].items())}")
    for name in ("ours", "lsdb"):
        runs = result[name]
        if not runs:
            print("LSDB was not run: it is not installed, or was not wanted")
            break
        text = " ".join(f"{run['seconds']:.2f}" for run in runs)
        peak = max(max(run["memory_mb"]) for run in runs)
        process = statistics.median(run["process_seconds"] for run in runs)
        median = statistics.median(run["seconds"] for run in runs)
        print(
            f"{name:4s} {median:.2f} s ({text}); whole process {process:.2f} s; peak {peak:.0f} MiB a process; "
            f"{runs[0]['megabytes']:.0f} MB"
        )
    if result["lsdb"]:
        for key in ("plan_seconds", "run_seconds"):
            print(f"LSDB {key}: {statistics.median(run[key] for run in result['lsdb']):.2f}")
        for key, what in (("ratios_total", "total"), ("ratios_run", "run-and-write part")):
            text = " ".join(f"{ratio:.2f}" for ratio in result[key])
            print(f"LSDB's {what} over ours: {statistics.median(result[key]):.2f} x (pairs: {text})")
    seconds, peak = result["ours_processes"]["seconds"], max(result["ours_processes"]["memory_mb"])
    print(f"ours on two processes: {seconds:.2f} s, peak {peak:.0f} MiB a process")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="bench_match", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of each catalogue")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs")
    parser.add_argument("--level", type=int, default=1, help="zstd level of both")
    parser.add_argument("--max-rows", type=int, default=500_000, help="row cap of a partition")
    parser.add_argument("--quick", action="store_true", help="200,000 rows and one pair")
    parser.add_argument("--warm", action="store_true", help="both match a small pair first, not timed")
    parser.add_argument("--no-peer", dest="peer", action="store_false")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cluster", default="threads:2", help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=("inputs", "ours", "lsdb"), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(argv)
    if options.child:
        return child(options)
    if options.quick:
        options.rows, options.repeats, options.max_rows = 200_000, 1, 20_000
    options.peer &= "lsdb" in versions()
    with tempfile.TemporaryDirectory(prefix="bench_match_") as name:
        options.work = Path(name)
        result = measure(options)
    _ = print(json.dumps(result)) if options.json else report(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
