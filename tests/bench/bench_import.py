"""Import of a survey into HATS: seconds side by side with hats-import, and peak memory against the rows.

Both read the same files, cut at the same row cap and write zstd at the same level, on the same number of
workers; both have imported a small file before the clock starts. Only the peer needs a margin cache to match
catalogues; ``--margin`` times it on its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

DOUBLES = ("parallax", "pmra", "pmdec", "period")
SINGLES = (*(f"mag_{band}" for band in "guvrizjhk"), "ebv", "snr")
COLUMNS = 3 + len(DOUBLES) + len(SINGLES)


def survey() -> Any:
    """Schema of the mock survey: an id, a position and fifteen measured columns."""
    from stellarscale.schema import SurveySchema

    required = {"dtype": "float64", "unit": "deg", "required": True}
    columns: dict[str, Any] = {
        "source_id": {"native": ["source_id"], "dtype": "int64", "required": True},
        "ra": {"native": ["ra"], **required},
        "dec": {"native": ["dec"], **required},
    }
    columns |= {name: {"native": [name], "dtype": "float64"} for name in DOUBLES}
    columns |= {name: {"native": [name], "dtype": "float32"} for name in SINGLES}
    return SurveySchema.model_validate(
        {"name": "mock", "alias": "mock", "title": "mock", "id": "source_id", "columns": columns}
    )


def write_mock(directory: Path, rows: int, files: int, kind: str) -> list[Path]:
    """Uniform sky with magnitudes in thousandths, the usual resolution of published photometry."""
    directory.mkdir(parents=True)
    paths = []
    for number, first in enumerate(range(0, rows, -(-rows // files))):
        count = min(-(-rows // files), rows - first)
        rng = np.random.default_rng(number)
        columns: dict[str, Any] = {
            "source_id": rng.permutation(count) + first,
            "ra": rng.uniform(0, 360, count),
            "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, count))),
        }
        columns |= {name: rng.normal(0, 5, count) for name in DOUBLES}
        columns |= {name: np.round(rng.normal(15, 2, count), 3).astype(np.float32) for name in SINGLES}
        path = directory / f"mock_{number:03d}.{kind}"
        table = pa.table(columns)
        _ = pa.csv.write_csv(table, path) if kind == "csv" else pq.write_table(table, path)
        paths.append(path)
    return paths


def run_ours(paths: list[Path], out: Path, options: argparse.Namespace) -> float:
    """Seconds of one import as the command line does it, receipts and all; the catalogue is removed afterwards."""
    from stellarscale.products import importing, steps

    schema = out.with_suffix(".yaml")
    schema.write_text(survey().model_dump_json(exclude_defaults=True))
    with steps.session(f"threads:{options.threads}") as on:
        start = time.perf_counter()
        summary = importing.import_survey(on, paths, str(schema), out, max_rows=options.max_rows)
        seconds = time.perf_counter() - start
    if summary["written"] != options.rows:
        raise SystemExit(f"{summary['written']} rows arrived, {options.rows} were written")
    shutil.rmtree(out)
    return seconds


@contextlib.contextmanager
def peer_client(options: argparse.Namespace, scratch: Path) -> Iterator[Any]:
    """The peer's Dask workers, or None when hats-import is not installed."""
    try:
        import hats_import  # noqa: F401
    except ImportError:
        yield None
        return
    from dask.distributed import Client

    workers = {"n_workers": options.threads, "threads_per_worker": 1, "dashboard_address": None}
    with Client(local_directory=str(scratch), silence_logs=logging.ERROR, **workers) as client:
        yield client


def run_peer(paths: list[Path], out: Path, options: argparse.Namespace, client: Any) -> dict[str, float]:
    """Seconds of hats-import, and of its margin cache when asked for."""
    from hats_import.catalog.arguments import ImportArguments
    from hats_import.margin_cache.margin_cache_arguments import MarginCacheArguments
    from hats_import.pipeline import pipeline_with_client

    common: dict[str, Any] = {"output_path": out, "tmp_dir": out / "tmp", "progress_bar": False}
    if options.peer_level:
        common["write_table_kwargs"] = {"compression": "zstd", "compression_level": options.peer_level}
    (out / "tmp").mkdir(parents=True)
    seconds = {}
    start = time.perf_counter()
    arguments = ImportArguments(
        input_file_list=paths,
        file_reader=options.format,
        output_artifact_name="mock",
        pixel_threshold=options.max_rows,
        sort_columns="source_id",
        **common,
    )
    pipeline_with_client(arguments, client)
    seconds["import"] = time.perf_counter() - start
    if options.margin:
        start = time.perf_counter()
        margin = {"margin_threshold": 5.0, "output_artifact_name": "margin"}
        pipeline_with_client(MarginCacheArguments(input_catalog_path=out / "mock", **margin, **common), client)
        seconds["margin"] = time.perf_counter() - start
    rows = pq.ParquetDataset(out / "mock" / "dataset").read(columns=["source_id"]).num_rows
    if rows != options.rows:
        raise SystemExit(f"hats-import gave {rows} rows of {options.rows}")
    shutil.rmtree(out)
    return seconds


def peak_memory_mb(rows: int, options: argparse.Namespace) -> float:
    """Peak resident memory of a fresh process that imports `rows` rows, in MB."""
    arguments = ["--child", "--rows", str(rows), "--max-rows", str(options.memory_max_rows)]
    arguments += ["--threads", str(options.threads)]
    arguments += ["--format", options.format, "--files", str(max(1, rows // 500_000))]
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def child(options: argparse.Namespace) -> int:
    """Import in this process and print its peak memory; the files are written by another one."""
    with tempfile.TemporaryDirectory(prefix="bench_import_") as scratch:
        arguments = (str(Path(scratch) / "in"), options.rows, options.files, options.format)
        code = f"import runpy; m = runpy.run_path({__file__!r}); from pathlib import Path; "
        code += f"m['write_mock'](Path({arguments[0]!r}), *{arguments[1:]!r})"
        subprocess.run([sys.executable, "-c", code], check=True)
        run_ours(sorted((Path(scratch) / "in").iterdir()), Path(scratch) / "out", options)
    peak = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    print(int(peak[0]) / 1024)
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Pairs of imports, ours and the peer's in turn."""
    ours: list[float] = []
    peers: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="bench_import_") as name:
        scratch = Path(name)
        paths = write_mock(scratch / "in", options.rows, options.files, options.format)
        with peer_client(options, scratch / "dask") if options.peer else contextlib.nullcontext() as client:
            _warm_up(scratch, options, client)
            for number in range(options.repeats):
                ours.append(run_ours(paths, scratch / f"ours{number}", options))
                if client is not None:
                    peers.append(run_peer(paths, scratch / f"peer{number}", options, client))
    result: dict[str, Any] = {
        "rows": options.rows,
        "columns": COLUMNS,
        "threads": options.threads,
        "format": options.format,
        "max_rows": options.max_rows,
        "seconds": ours,
        "median_seconds": statistics.median(ours),
        "peer": "hats-import",
        "peer_zstd_level": options.peer_level or "its default",
        "peer_seconds": peers,
    }
    if peers:
        ratios = [one["import"] / own for one, own in zip(peers, ours, strict=True)]
        result |= {"ratios": ratios, "median_ratio": statistics.median(ratios)}
    return result


def _warm_up(scratch: Path, options: argparse.Namespace, client: Any) -> None:
    """A small import by both, so that neither loads or compiles anything while it is timed."""
    small = argparse.Namespace(**{**vars(options), "rows": 20_000})
    paths = write_mock(scratch / "small", small.rows, options.threads, options.format)
    run_ours(paths, scratch / "warm", small)
    if client is not None:
        run_peer(paths, scratch / "warm", small, client)


def report(result: dict[str, Any]) -> None:
    """Print the figures for people."""
    print(
        f"import of {result['rows']:,} rows x {result['columns']} columns ({result['format']}) on "
        f"{result['threads']} threads: {result['median_seconds']:.2f} s (median of {len(result['seconds'])})"
    )
    if result["peer_seconds"]:
        for name in result["peer_seconds"][0]:
            print(f"hats-import {name}: {statistics.median(one[name] for one in result['peer_seconds']):.2f} s")
        print(f"hats-import (import only) over ours: {result['median_ratio']:.1f} x (median of the pairs)")
    else:
        print("hats-import was not run: it is not installed, or was not wanted")
    for rows, peak in result.get("peak_memory_mb", {}).items():
        print(f"peak memory at {int(rows):,} rows, row cap {result['memory_max_rows']:,}: {peak:.0f} MB")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="bench_import", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--format", choices=("parquet", "csv"), default="parquet")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-rows", type=int, default=1_000_000)
    parser.add_argument("--memory-max-rows", type=int, default=50_000, help="row cap of the memory runs")
    parser.add_argument("--peer-level", type=int, default=3, help="zstd level of the peer; 0: its default")
    parser.add_argument("--margin", action="store_true", help="also time the peer's 5\" margin cache")
    parser.add_argument("--no-peer", dest="peer", action="store_false")
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--quick", action="store_true", help="200,000 rows and one pair")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(argv)
    if options.child:
        return child(options)
    if options.quick:
        options.rows, options.repeats, options.max_rows, options.memory = 200_000, 1, 50_000, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's warnings are not about this package
        result = measure(options)
    if options.memory:
        sizes = (options.rows // 5, options.rows)
        result["memory_max_rows"] = options.memory_max_rows
        result["peak_memory_mb"] = {str(rows): peak_memory_mb(rows, options) for rows in sizes}
    if options.json:
        print(json.dumps(result))
    else:
        report(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
