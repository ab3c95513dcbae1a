"""Other methods beside the networks on images, a Dask task each, on the same stars (paper III, Tables 1 and 2)."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stellarscale.catalog.atomic import sweep, write_text
from stellarscale.config import digest_of
from stellarscale.engine.client import share_of_cores
from stellarscale.engine.gpu import gpu_resources, share_of_machine
from stellarscale.engine.image_comparing import (
    CompareImagesTask,
    FeatureTask,
    ImageFit,
    about_fit,
    about_network,
    compare_images_one,
    image_features,
    network_record,
)
from stellarscale.engine.image_scoring import held_out_file
from stellarscale.engine.image_training_set import TABLE_FILE
from stellarscale.engine.image_training_tasks import JOINT, NetworkSpec, network_specs
from stellarscale.engine.ledger import Ledger, fingerprint, open_ledger, write_json
from stellarscale.engine.stage import StageError, run_stage
from stellarscale.errors import ConfigError, StellarscaleError
from stellarscale.models.bayes_search import require_packages
from stellarscale.models.image_features import colour_columns
from stellarscale.models.store import digest
from stellarscale.products.image_held_out import settled_prediction
from stellarscale.products.steps import Session, Summary
from stellarscale.report.tables_images import groups_in, table_rows
from stellarscale.settings.acf import AcfJob
from stellarscale.settings.features import Reddening
from stellarscale.surveys.dust import dust_files

Record = dict[str, Any]

STAGE, FEATURES = "compare_images", "image_features"


def compare_methods(
    on: Session, job: AcfJob, training_folder: Path, models: Path, out: Path, steps: list[Summary]
) -> list[Record]:
    """Compare every algorithm on every set of features, with and without parallax, with the networks.

    All train on the training part of the networks' split and are scored on its test part (validation where there is
    none), on the stars that the networks have predictions for. A method that fails does not stop the others; its
    record has the reason as ``failed``: give the records to :func:`stellarscale.products.comparators.raise_failed`
    when the rest of the run is done.

    Parameters
    ----------
    on : Session
    job : AcfJob
    training_folder, models : Path
        Training set; directory of the networks and their predictions of held-out stars.
    out : Path
        Directory of the run: writes ``image_comparisons/``, ``image_comparison.json`` and ``.csv``. A comparison that
        was killed goes on where it stopped.
    steps : list of dict
        Gets the summary.

    Returns
    -------
    list of dict
        For each label the networks first (ACF, ACPF), then the methods; empty when the job has no comparisons.

    Raises
    ------
    ConfigError, ModelError
        As :func:`check_comparisons`.
    """
    if job.comparisons is None:
        return []
    started = time.perf_counter()
    check_comparisons(job)
    networks = _networks(job, models)
    fits = {fit.key: fit for fit in _fits(job)}
    ledger = _ledger(on, job, training_folder, models, out, networks)
    before = ledger.finished
    sweep(ledger.out)
    task = CompareImagesTask(
        training=training_folder,
        models=models,
        out=ledger.out,
        settings=job.comparisons,
        reddening=_reddening(job),
        extinction=job.stamps.extinction,
        seed=job.seed,
        n_jobs=share_of_cores(on.client, len(fits)),
    )
    failures = _run_features(on, job, task, ledger, networks) if "image" in job.comparisons.features else {}
    failures |= _run_fits(on, task, fits, ledger, failures)
    receipts = ledger.receipts(STAGE)
    records: list[Record] = []
    for label in job.labels.labels:
        records += _network_records(job, task, label, networks)
        mine = [fit for fit in fits.values() if fit.label == label]
        records += [receipts[fit.key] if fit.key not in failures else _failed(fit, failures[fit.key]) for fit in mine]
    _write(job, out, records)
    summary: Summary = {
        "step": "compare",
        "name": "compare methods",
        "rows_in": max((record.get("n_train", 0) for record in records), default=0),
        "written": len(records),
        "partitions": len(fits),
        "seconds": round(time.perf_counter() - started, 3),
        "failed": sorted(failures),
    }
    if not failures:
        ledger.finish(summary)
    steps.append({**before, "resumed": True} if before else summary)
    return records


def check_comparisons(job: AcfJob) -> None:
    """Refuse comparisons that would only fail when the networks are trained.

    Raises
    ------
    ConfigError
        If a magnitude is of a band without extinction, or a colour is of bands without magnitudes.
    ModelError
        If a package is not installed.
    """
    if job.comparisons is None or job.pretrained is not None:
        return
    bands = job.comparisons.magnitudes
    missing = sorted(set(bands) - set(job.stamps.extinction)) if job.stamps.reddening else []
    if missing:
        raise ConfigError(
            "magnitudes of bands without extinction",
            where="comparisons.magnitudes",
            seen=", ".join(missing),
            needed=f"some of {', '.join(job.stamps.extinction)}, or more in stamps.extinction",
        )
    if {"colours", "both"} & set(job.comparisons.features):
        colour_columns({band: np.empty(0) for band in bands}, job.comparisons.colours)
    require_packages(job.comparisons.algorithms)


def _networks(job: AcfJob, models: Path) -> dict[str, NetworkSpec]:
    """Networks of the job that there are, by name."""
    specs = network_specs(tuple(job.labels.labels), job.network, job.training)
    return {spec.name: spec for spec in specs if _file(models, spec.name).is_file()}


def _file(models: Path, network: str) -> Path:
    return models / f"{network}.safetensors"


def _main(job: AcfJob, label: str) -> str:
    """Network that gives the catalogue's values of a label."""
    return JOINT if job.network.joint else label


def _fits(job: AcfJob) -> list[ImageFit]:
    """What is to be done: magnitudes of a star without its distance are apparent ones."""
    settings = job.comparisons
    if settings is None:
        return []
    return [
        ImageFit(label, _main(job, label), algorithm, features, parallax)
        for label in job.labels.labels
        for features in settings.features
        for algorithm in settings.algorithms
        for parallax in (True, False)
    ]


def _reddening(job: AcfJob) -> Reddening | None:
    """Where E(B-V) comes from, dust maps by their absolute path for workers that run elsewhere."""
    given = job.stamps.reddening
    if given is None or given.sfd98 is None:
        return given
    return given.model_copy(update={"sfd98": str(Path(given.sfd98).absolute())})


def _ledger(
    on: Session, job: AcfJob, training: Path, models: Path, out: Path, networks: Mapping[str, NetworkSpec]
) -> Ledger:
    reddening = _reddening(job)
    maps = dust_files(reddening.sfd98) if reddening and reddening.sfd98 else ()
    predicted = [path for name in networks if (path := held_out_file(models, name)).is_file()]
    inputs = [
        fingerprint(path) for path in (training / TABLE_FILE, *(_file(models, n) for n in networks), *predicted, *maps)
    ]
    settings = {
        "comparisons": job.comparisons.model_dump(mode="json") if job.comparisons else None,
        "reddening": reddening.model_dump(mode="json") if reddening else None,
        "extinction": dict(job.stamps.extinction) if reddening else None,
        "seed": job.seed,
    }
    about = {"settings": settings, "inputs": inputs}
    found = digest_of(STAGE, settings, inputs)
    return open_ledger(out / "image_comparisons", step=STAGE, digest=found, about=about, update=on.update)


def _run_features(
    on: Session, job: AcfJob, task: CompareImagesTask, ledger: Ledger, networks: Mapping[str, NetworkSpec]
) -> dict[str, Exception]:
    """Image features by each network with its parallax branch; returns what failed, by the name of the network."""
    main = {_main(job, label) for label in job.labels.labels}
    files = {name: _file(task.models, name) for name in networks if name in main}
    items = {name: (path, digest(path)) for name, path in files.items()}
    prediction = settled_prediction(job, task.models)
    work = FeatureTask(task.training, task.out, prediction, share_of_machine(on.client))
    try:
        run_stage(
            on.client,
            partial(image_features, work),
            items,
            ledger=ledger,
            stage=FEATURES,
            progress=on.progress,
            resources=gpu_resources(on.client),
        )
    except StageError as error:
        return dict(error.failures)
    return {}


def _run_fits(
    on: Session, task: CompareImagesTask, fits: Mapping[str, ImageFit], ledger: Ledger, failed: Mapping[str, Exception]
) -> dict[str, Exception]:
    """Run all whose image features are there; returns what failed, by key."""
    without = {
        key: failed[fit.network] for key, fit in fits.items() if fit.features == "image" and fit.network in failed
    }
    ready = {key: fit for key, fit in fits.items() if key not in without}
    try:
        run_stage(
            on.client,
            partial(compare_images_one, task),
            ready,
            ledger=ledger,
            stage=STAGE,
            progress=on.progress,
            counts="stars",
        )
    except StageError as error:
        return {**without, **error.failures}
    return without


def _network_records(
    job: AcfJob, task: CompareImagesTask, label: str, networks: Mapping[str, NetworkSpec]
) -> list[Record]:
    """Rows of the networks of one label: with parallax, and without where one was trained so."""
    main = _main(job, label)
    chosen = [spec for name, spec in networks.items() if label in spec.labels]
    if main not in networks:
        chosen.insert(0, NetworkSpec(main, (label,), job.network))  # its record says that it is missing
    records = []
    for spec in chosen:
        parallax = spec.network.parallax
        try:
            records.append(network_record(task, label, spec.name, parallax=parallax, stars_of=main))
        except StellarscaleError as error:
            records.append({**about_network(label, spec.name, parallax), "failed": str(error)})
    return records


def _failed(fit: ImageFit, error: Exception) -> Record:
    reason = str(error) if isinstance(error, StellarscaleError) else f"{type(error).__name__}: {error}"
    return {**about_fit(fit), "failed": reason}


def _write(job: AcfJob, out: Path, records: Sequence[Record]) -> None:
    write_json(out / "image_comparison.json", list(records))
    text = io.StringIO()
    rows = [row for group in groups_in(records) for row in table_rows(records, group)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "image_comparison.csv", text.getvalue())
