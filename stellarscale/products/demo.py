"""The demo: a mock sky in the surveys' own formats, the whole job on it, and what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stellarscale.config import load_job
from stellarscale.products.dispatch import run_job
from stellarscale.simulate import simulate_sky


def run_demo(*, rows: int, seed: int, out: Path, cluster: str = "threads") -> str:
    """Simulate a sky, run the shipped job ``demo`` on it, and return a table of the results.

    Parameters
    ----------
    rows : int
        Stars in the mock sky.
    seed : int
        Seed of the sky and of the run.
    out : Path
        Directory for the mock files (``mock/``) and the run (``run/``); an interrupted demo goes on.
    cluster : str
        As ``--cluster``.

    Raises
    ------
    StellarscaleError
        As :func:`stellarscale.products.dispatch.run_job`.
    """
    mock = out / f"mock-{rows}-{seed}"
    if not (mock / "manifest.json").is_file():
        simulate_sky(rows=rows, seed=seed, out=mock)
    job = load_job("demo", [f"data={mock}", f"out={out / f'run-{rows}-{seed}'}", f"seed={seed}"])
    return _table(run_job(job, cluster=cluster))


def _table(summary: dict[str, Any]) -> str:
    rows = summary["evaluations"]
    width = max(len(row["against"]) for row in rows) + 2
    lines = [f"{'parameter':<22}{'against':<{width}}{'stars':>9}{'bias':>10}{'robust sigma':>14}  unit"]
    for row in rows:
        lines.append(
            f"{row['model']:<22}{row['against']:<{width}}{row['n']:>9,}{row['bias']:>10.3f}"
            f"{row['robust_sigma']:>14.3f}  {row['unit'] or 'dex'}"
        )
    lines += ["", f"catalogue  {summary['catalog']}  ({summary['written']:,} stars)", f"report     {summary['report']}"]
    return "\n".join(lines)
