"""Which module runs the job of which product."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from stellarscale.config import Job, read_job
from stellarscale.errors import InputError
from stellarscale.products.inputs import run_directory
from stellarscale.products.steps import Summary


def run_job(
    job: Job, *, cluster: str = "threads", subset: str | None = None, fresh: bool = False, update: bool = False
) -> Summary:
    """Run a job of any product: see the ``run`` of its module."""
    return _product(job).run(job, cluster=cluster, subset=subset, fresh=fresh, update=update)


def plan_job(job: Job, subset: str | None = None) -> Summary:
    """Check a job of any product before any work: see the ``plan`` of its module."""
    return _product(job).plan(job, subset)


def rebuild_report(run_dir: Path) -> Summary:
    """Write the report of a finished run again, from its receipts, models and catalogue.

    Raises
    ------
    InputError
        If the directory holds no run, or one that has not come to its end.
    """
    for needed in ("job.json", "steps.json"):
        if not (run_dir / needed).is_file():
            raise InputError("there is no finished run here", where=run_dir, needed=needed)
    job, here = read_job(run_dir / "job.json"), run_dir.absolute()
    if run_directory(job) != here:  # it was moved, or told by a path relative to another directory
        job = job.model_copy(update={"out": str(here)})
    return _product(job).rebuild_report(job, run_dir)


def _product(job: Job) -> ModuleType:
    return import_module(f"stellarscale.products.{job.product}")
