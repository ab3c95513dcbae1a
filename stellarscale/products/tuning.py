"""Scan the hyper-parameters of the job's forests (paper I, Fig. 4), a Dask task per cell."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stellarscale.config import ModelSpec, SagesJob, Tuning, digest_of
from stellarscale.engine.client import share_of_cores
from stellarscale.engine.ledger import fingerprint, open_ledger, write_json
from stellarscale.engine.stage import StageResult, run_stage
from stellarscale.engine.stars import sample_path
from stellarscale.engine.tuning import TuneTask, plan_cells, tune_one
from stellarscale.errors import RunError
from stellarscale.models.tune import choose
from stellarscale.products.steps import Session, Summary
from stellarscale.report.tuning import DepthScore, TreeScore, TuningScan


def scan(on: Session, job: SagesJob, out: Path) -> list[Summary]:
    """Score every setting that ``training.tuning`` names, for each of its models.

    Parameters
    ----------
    on : Session
    job : SagesJob
    out : Path
        Directory of the run; ``models/<name>_sample.parquet`` has the stars, ``tuning/<name>.json`` gets the scores.
        A scan that was killed goes on where it stopped.

    Returns
    -------
    list of dict
        One per model, as for the other steps, with the setting that would be ``chosen`` and the one the job uses.
        Empty when the job asks for no scan.

    Raises
    ------
    InputError
        If a model has no stars.
    RunError
        If a forest of a model failed; the scans of the other models are finished and kept.
    """
    tuning = job.training.tuning
    if tuning is None:
        return []
    summaries, failed = [], []
    for spec in job.training.models:
        if tuning.models and spec.name not in tuning.models:
            continue
        try:
            summaries.append(_scan_model(on, job, tuning, spec, out))
        except RunError as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return summaries


def read_scans(job: SagesJob, out: Path) -> list[TuningScan]:
    """The scans that the job asks for and a run has finished, for its report."""
    tuning = job.training.tuning
    if tuning is None:
        return []
    names = [spec.name for spec in job.training.models if not tuning.models or spec.name in tuning.models]
    paths = [out / "tuning" / f"{name}.json" for name in names]
    return [TuningScan.from_json(json.loads(path.read_text())) for path in paths if path.is_file()]


def _scan_model(on: Session, job: SagesJob, tuning: Tuning, spec: ModelSpec, out: Path) -> Summary:
    started = time.perf_counter()
    forest = job.training.forest
    left, right = plan_cells(tuning, forest)
    sample = sample_path(out / "models", spec.name)
    inputs = [fingerprint(sample)]
    settings = {"inputs": list(job.training.inputs), "max_stars": tuning.max_stars, "seed": job.seed}
    settings |= {"forest": forest.model_dump(mode="json", include={"min_samples_leaf", "backend"})}
    ledger = open_ledger(
        out / "tuning" / spec.name,
        step="tune",
        digest=digest_of("tune", settings, inputs),
        about={"settings": settings, "inputs": inputs},
        update=on.update,
    )
    cells = {cell.key: cell for cell in (*left, *right)}
    task = TuneTask(
        model=spec.name,
        sample=sample,
        inputs=job.training.inputs,
        forest=forest,
        max_stars=tuning.max_stars,
        seed=job.seed,
        n_jobs=share_of_cores(on.client, len(cells)),
    )
    stage = run_stage(
        on.client, partial(tune_one, task), cells, ledger=ledger, stage=f"tune {spec.name}", progress=on.progress
    )
    found = _collect(job, tuning, spec, stage)
    path = out / "tuning" / f"{spec.name}.json"
    write_json(path, found.to_json())
    summary = {
        "step": "tune",
        "name": f"tune {spec.name}",
        "file": str(path),
        "rows_in": found.stars,
        "written": found.stars,
        "partitions": len(cells),
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory_mb": stage.peak_memory_mb,
        "resumed_partitions": stage.resumed,
        "chosen": found.chosen,
        "used": found.used,
    }
    ledger.finish(summary)
    return summary


def _collect(job: SagesJob, tuning: Tuning, spec: ModelSpec, stage: StageResult) -> TuningScan:
    """Scores of all cells, and what they say is best."""
    forest = job.training.forest
    left, right = plan_cells(tuning, forest)
    trees = [
        TreeScore(score["n_estimators"], cell.max_features, score["error"], score["seconds"])
        for cell in left
        for score in stage.receipts[cell.key]["scores"]
    ]
    depths = [
        DepthScore(int(cell.max_depth or 0), cell.repeat, score["error"], score["seconds"])
        for cell in right
        for score in stage.receipts[cell.key]["scores"]
    ]
    return TuningScan(
        model=spec.name,
        stars=next(iter(stage.receipts.values()))["rows_in"],
        trees=tuple(trees),
        depths=tuple(depths),
        chosen=_chosen(trees, depths, tuning),
        used={
            "n_estimators": forest.n_estimators,
            "max_features": forest.max_features,
            "max_depth": forest.max_depth,
        },
    )


def _chosen(trees: list[TreeScore], depths: list[DepthScore], tuning: Tuning) -> dict[str, Any]:
    curves: dict[float | None, dict[int, float]] = defaultdict(dict)
    for score in trees:
        curves[score.max_features][score.n_estimators] = score.error
    count, share = choose(curves, tolerance=tuning.tolerance)
    errors: dict[int, list[float]] = defaultdict(list)
    for depth in depths:
        errors[depth.max_depth].append(depth.error)
    best = min(errors, key=lambda key: float(np.mean(errors[key])))
    return {"n_estimators": count, "max_features": share, "max_depth": best}
