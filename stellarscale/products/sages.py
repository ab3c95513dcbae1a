"""Stellar parameters from photometry by random forests (paper I), from survey files to the value-added catalogue."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import open_stored
from stellarscale.catalog.subset import Subset, parse_subset
from stellarscale.config import SagesJob, digest_of
from stellarscale.engine.tasks import PredictTask, predict_pixel
from stellarscale.errors import InputError
from stellarscale.partition.predict import PredictConfig, output_schema
from stellarscale.products.comparators import compare, raise_failed
from stellarscale.products.evaluation import check_evaluation
from stellarscale.products.external import match_externals
from stellarscale.products.featured import feature_inputs, located, no_features, output_properties
from stellarscale.products.forests import TrainedModel, stored_models, train_models
from stellarscale.products.headers import check_headers
from stellarscale.products.inputs import checked_inputs, close_run, import_catalogs, open_run, run_directory, store_of
from stellarscale.products.labels import sample_task, training_sources
from stellarscale.products.matching import match_chain
from stellarscale.products.pretrained import given_models
from stellarscale.products.steps import Mapped, Session, Summary, map_catalog, session
from stellarscale.products.truth import check_truth
from stellarscale.products.tuning import scan
from stellarscale.schema import load_product


def run(
    job: SagesJob, *, cluster: str = "threads", subset: str | None = None, fresh: bool = False, update: bool = False
) -> Summary:
    """Run the whole job; a killed run goes on where it stopped.

    Parameters
    ----------
    job : SagesJob
    cluster : str
        As ``--cluster``.
    subset : str, optional
        Part of the primary catalogue, as ``--subset``.
    fresh : bool
        Throw away what an earlier run left; in a store that jobs share, only what was made otherwise.
    update : bool
        Redo the steps whose settings or inputs changed, and what follows from them; keep the others.

    Returns
    -------
    dict
        Rows of the value-added catalogue, where it and the report are, seconds.

    Raises
    ------
    StellarscaleError
        One of its kinds, each naming what, where, seen and needed.
    """
    started = time.perf_counter()
    out = run_directory(job)
    plan(job, subset)
    open_run(job, fresh=fresh)
    # What a store shares with other jobs is not thrown away: only what changed is made anew.
    with session(cluster, update=update or fresh) as on:
        catalogs, steps = import_catalogs(on, job)
        matched = _match(on, job, catalogs, subset, steps)
        _product(job, matched)
        rest = None if job.match.chain else subset  # without a match, the later steps have to apply it
        models = _models(on, job, catalogs, matched, rest, steps)
        catalog = _predict(on, job, matched, models, steps, rest)
        steps += scan(on, job, out)
        compared = compare(on, job, out)
        match_externals(on, job, catalog=catalog, others=catalogs, steps=steps)
    exports = close_run(job, steps, catalog)
    reported = write_report(job, out, steps, models)
    raise_failed(compared)
    return {
        "catalog": str(catalog),
        "rows_in": steps[0]["rows_in"],
        "written": open_stored(catalog).properties.rows,
        "models": [model.summary for model in models],
        "exports": exports,
        **reported,
        "seconds": round(time.perf_counter() - started, 2),
    }


def rebuild_report(job: SagesJob, run_dir: Path) -> Summary:
    """Write the report of a finished run again; see :func:`stellarscale.products.dispatch.rebuild_report`."""
    steps = json.loads((run_dir / "steps.json").read_text())
    given = job.training.pretrained
    models = given_models(job, given) if given else stored_models(job, run_dir / "models")
    return write_report(job, run_dir, steps, models)


def write_report(job: SagesJob, out: Path, steps: list[Summary], models: list[TrainedModel]) -> Summary:
    """Evaluate the models and the catalogue and write the page; says where it is and the main figures."""
    from stellarscale.products.reporting import evaluate, evaluation_rows, extra_sections, write_run_report

    evaluations = evaluate(job, out / job.output.name, models)
    extras = extra_sections(job, out)
    page = write_run_report(job, out, steps=steps, models=models, evaluations=evaluations, extras=extras)
    return {"report": str(page), "evaluations": evaluation_rows(evaluations)}


def plan(job: SagesJob, subset: str | None = None) -> Summary:
    """Check what can be checked before any work: files exist, subset parses; and say what would be done.

    Raises
    ------
    InputError
        If an input file or catalogue does not exist.
    """
    if subset is not None:
        parse_subset(subset)
    check_evaluation(job)
    if job.training.pretrained is not None:
        given_models(job, job.training.pretrained)
    files = checked_inputs(job)
    check_headers(job, files, job.match)
    inputs = {name: [str(path) for path in paths] for name, paths in files.items()}
    for path in feature_inputs(job.features):
        if not path.is_file():
            raise InputError(
                "a dust map of the job does not exist", where=path, cause="features.ebv.sfd98 names its directory"
            )
    if job.truth and not Path(job.truth.file).exists():
        raise InputError("the truth table of the job does not exist", where=Path(job.truth.file).absolute())
    check_truth(job)
    chain = [job.match.primary, *(step.catalog for step in job.match.chain)]
    return {
        "job": job.name,
        "out": job.out,
        "inputs": inputs,
        "match": " x ".join(chain),
        "labels": job.training.match.catalog if job.training.match else "in the matched table",
        "models": ", ".join(spec.name for spec in job.training.models),
        "digest": digest_of(job)[:16],
    }


def _models(
    on: Session, job: SagesJob, catalogs: dict[str, Path], matched: Path, subset: str | None, steps: list[Summary]
) -> list[TrainedModel]:
    """Train the job's models, or take those that it names."""
    if job.training.pretrained is not None:
        return given_models(job, job.training.pretrained)
    sources = training_sources(on, job, catalogs, matched, subset, steps)
    return train_models(on, job, sample_task(job, sources, matched, run_directory(job) / "models"), steps)


def _match(on: Session, job: SagesJob, catalogs: dict[str, Path], subset: str | None, steps: list[Summary]) -> Path:
    """The chain of matches; what is made of a part of the sky is of no use to other jobs."""
    folder = store_of(job) if subset is None else run_directory(job) / "catalogs"
    return match_chain(on, job.match, catalogs, folder, steps=steps, subset=subset)


def _predict(
    on: Session, job: SagesJob, matched: Path, models: list[TrainedModel], steps: list[Summary], subset: str | None
) -> Path:
    """Features and parameters of every matched star: the value-added catalogue."""
    out = run_directory(job) / job.output.name
    config, schema = _product(job, matched)
    digests = {model.spec.name: model.digest for model in models}
    mapped = Mapped(
        step="predict",
        source=matched,
        out=out,
        schema=schema,
        properties=_product_properties(job, open_stored(matched).properties, digests),
        settings={"job": digest_of(job.features, job.training.decisive, job.output), "models": digests},
        inputs=feature_inputs(job.features),
    )
    config = replace(config, features=located(job.features))
    task = PredictTask(matched, out, config, tuple((m.spec.name, m.path, m.digest) for m in models), _parsed(subset))
    done = map_catalog(on, partial(predict_pixel, task), mapped, subset=subset)
    steps.append({**done, "name": "predict"})
    return out


def _product(job: SagesJob, matched: Path) -> tuple[PredictConfig, pa.Schema]:
    """What the prediction will do and write; asked for before the training, so that a wrong column is told early."""
    config = PredictConfig(
        features=job.features,
        inputs=job.training.inputs,
        models=job.training.models,
        output=job.output,
        product=load_product(job.product),
    )
    return config, output_schema(no_features(job, open_stored(matched)).schema, config)


def _product_properties(job: SagesJob, properties: CatalogProperties, digests: dict[str, str]) -> CatalogProperties:
    """Names of the sky columns as the output calls them, and where every number came from."""
    models = {f"model_digest_{name}": digest for name, digest in digests.items()}
    about = {"job_digest": digest_of(job), "product": job.product, **models}
    return output_properties(properties, job.output.name, job.output.columns, **about)


def _parsed(subset: str | None) -> Subset | None:
    return parse_subset(subset) if subset else None
