"""Train the job's other methods on the stars of its forests, a Dask task per method and model, and compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from stellarscale.config import SagesJob, digest_of
from stellarscale.engine.client import share_of_cores
from stellarscale.engine.comparing import CompareTask, Fit, boost_on, compare_one, forest_record
from stellarscale.engine.ledger import Ledger, fingerprint, open_ledger, write_json
from stellarscale.engine.stage import StageError, execute, run_stage
from stellarscale.engine.stars import sample_path
from stellarscale.errors import RunError, StellarscaleError
from stellarscale.models.compare import methods
from stellarscale.products.steps import Session

Record = dict[str, Any]

STAGE = "compare"


def compare(on: Session, job: SagesJob, out: Path) -> list[Record]:
    """Compare every method of ``training.comparators`` with the forest, on the same split.

    A method that fails does not stop the others; its record has the reason as ``failed``. Give the records to
    :func:`raise_failed` when the rest of the run is done.

    Parameters
    ----------
    on : Session
    job : SagesJob
    out : Path
        Directory of the run: reads ``models/``, writes ``comparators/`` and ``comparison.json``. A comparison that
        was killed goes on where it stopped, and a method that failed is tried again.

    Returns
    -------
    list of dict
        One per model and method, the forest first; empty when the job names no other method.

    Raises
    ------
    InputError
        If a model of the job has no stars.
    """
    if not job.training.comparators:
        return []
    fits = _fits(job)
    ledger = _ledger(on, job, out)
    task = CompareTask(
        models=out / "models",
        out=ledger.out,
        inputs=job.training.inputs,
        forest=job.training.forest,
        seed=job.seed,
        n_jobs=share_of_cores(on.client, len(fits)),
    )
    failures = _run(on, task, fits, ledger)
    receipts = ledger.receipts(STAGE)
    trained = Ledger(out / "models").receipts("train")
    records = []
    for spec in job.training.models:
        records.append(forest_record(task, spec.name, trained.get(spec.name, {})))
        mine = {key: fit for key, fit in fits.items() if fit.model == spec.name}
        records += [receipts[key] if key not in failures else _failed(fit, failures[key]) for key, fit in mine.items()]
    write_json(out / "comparison.json", records)
    if not failures:
        ledger.finish({"step": STAGE, "methods": sorted(fits)})
    return records


def raise_failed(records: Sequence[Record]) -> None:
    """Say which methods failed, so that the run ends as one with work missing.

    Raises
    ------
    RunError
        If one did.
    """
    failed = [record for record in records if "failed" in record]
    if failed:
        names = ", ".join(f"{record['method']} on {record['model']}" for record in failed)
        raise RunError(
            f"{len(failed)} of {len(records)} comparisons failed ({names}), the rest is finished and kept: "
            f"{failed[0]['failed']}",
            cause="start the same command again once the reason is gone",
        )


def _fits(job: SagesJob) -> dict[str, Fit]:
    """What is to be done, by the key of its receipt: other settings of a method are another piece of work."""
    chosen = [(method, digest_of(asdict(method))[:8]) for item in job.training.comparators for method in methods(item)]
    return {
        f"{spec.name} {method.name} {digest}": Fit(spec.name, method)
        for spec in job.training.models
        for method, digest in chosen
    }


def _ledger(on: Session, job: SagesJob, out: Path) -> Ledger:
    inputs = [fingerprint(sample_path(out / "models", spec.name)) for spec in job.training.models]
    settings = {
        "inputs": list(job.training.inputs),
        "forest": job.training.forest.model_dump(mode="json"),
        "seed": job.seed,
    }
    digest = digest_of(STAGE, settings, inputs)
    about = {"settings": settings, "inputs": inputs}
    return open_ledger(out / "comparators", step=STAGE, digest=digest, about=about, update=on.update)


def _run(on: Session, task: CompareTask, fits: dict[str, Fit], ledger: Ledger) -> dict[str, Exception]:
    """Run all; boosted trees after the others where they are to spread over several processes.

    Returns what failed.
    """
    spread = len(on.client.nthreads()) > 1
    shared = {key: fit for key, fit in fits.items() if spread and fit.method.kind == "xgboost"}
    single = {key: fit for key, fit in fits.items() if key not in shared}
    failures: dict[str, Exception] = {}
    try:
        run_stage(on.client, partial(compare_one, task), single, ledger=ledger, stage=STAGE, progress=on.progress)
    except StageError as error:
        failures.update(error.failures)
    for key, fit in shared.items():
        try:
            execute(partial(boost_on, on.client, task), fit, key, ledger.receipt_path(STAGE, key))
        except StellarscaleError as error:
            failures[key] = error
    return failures


def _failed(fit: Fit, error: Exception) -> Record:
    reason = str(error) if isinstance(error, StellarscaleError) else f"{type(error).__name__}: {error}"
    return {"model": fit.model, "method": fit.method.name, "kind": fit.method.kind, "failed": reason}
