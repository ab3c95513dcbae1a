"""The value-added catalogue of a catalogue of stamps by trained networks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from stellarscale.catalog.reader import open_stored
from stellarscale.config import digest_of
from stellarscale.engine.gpu import gpu_resources
from stellarscale.engine.image_tasks import PredictImagesTask, check_images, predict_image_pixel
from stellarscale.engine.ledger import Ledger
from stellarscale.models.calibrate import CalibratedErrors
from stellarscale.models.image_errors import read_errors
from stellarscale.models.store import digest
from stellarscale.partition.image_predict import PredictStampsConfig
from stellarscale.products.featured import output_properties
from stellarscale.products.image_held_out import (
    calibrate_image_errors,
    errors_file,
    networks_of,
    settled_prediction,
)
from stellarscale.products.image_models import TrainedNetwork
from stellarscale.products.image_novelty import novelty_beside
from stellarscale.products.steps import Mapped, Session, Summary, map_catalog
from stellarscale.schema import load_product
from stellarscale.settings.acf import AcfJob

__all__ = ["calibrate_image_errors", "predict_images"]

log = logging.getLogger(__name__)


def predict_images(
    on: Session, job: AcfJob, stamps_catalog: Path, models: Sequence[TrainedNetwork], out: Path, steps: list[Summary]
) -> Path:
    """The value-added catalogue of a catalogue of stamps; networks that are there for comparisons are left out.

    Errors are those in ``errors_<label>.npz`` beside the networks. They are null, which is said, where there is none.
    Stars unlike the training stars are flagged by ``novelty_<name>.npz``, which each network has. A catalogue in which
    no star has parameters is written, with a warning that says why.

    Raises
    ------
    SchemaError, ModelError
        If the table lacks columns, the region of a network's training stars is not there, or networks, regions,
        errors and stamps do not fit each other.
    """
    mine = [model for model in models if model.parallax == job.network.parallax]
    stored, target = open_stored(stamps_catalog), out / job.output.name
    folder = mine[0].path.parent
    settings, errors = settled_prediction(job, folder), _errors_beside(job, folder)
    regions = novelty_beside(job, mine)
    config = prediction_config(job, {label: found for label, (found, _) in errors.items()})
    config = replace(config, regions=tuple(region for region, _ in regions.values()))
    task = PredictImagesTask(stamps_catalog, target, config, networks_of(on, mine, settings))
    schema = check_images(task)
    digests = {model.name: model.digest for model in mine}
    about = {"job_digest": digest_of(job), "product": job.product}
    about |= {f"model_digest_{name}": digest for name, digest in digests.items()}
    mapped = Mapped(
        step="predict_images",
        source=stamps_catalog,
        out=target,
        schema=schema,
        properties=output_properties(stored.properties, job.output.name, job.output.columns, **about),
        settings={
            "models": digests,
            "errors": {label: digest for label, (_, digest) in errors.items()},
            "novelty": {name: digest for name, (_, digest) in regions.items()},
            "prediction": settings.model_dump(mode="json", exclude={"batch_size", "compile"}),
            "columns": dict(job.output.columns),
            "parallax": [job.parallax, job.parallax_error],
            "limits": {label: list(limits) for label, limits in job.limits.items()},
        },
    )
    done = map_catalog(on, partial(predict_image_pixel, task), mapped, resources=gpu_resources(on.client))
    receipts = Ledger(target).receipts("predict_images").values()
    ran = {name: sorted({receipt[name] for receipt in receipts}) for name in ("device", "precision")}
    steps.append({**done, "name": "predict", **ran, "without_parameters": _without_parameters(list(receipts))})
    return target


def prediction_config(job: AcfJob, errors: Mapping[str, CalibratedErrors]) -> PredictStampsConfig:
    """What the prediction needs to know of a job, with the errors that there are."""
    return PredictStampsConfig(
        labels=tuple(job.labels.labels),
        columns=job.output.columns,
        parallax=job.parallax,
        parallax_error=job.parallax_error,
        limits=job.limits,
        product=load_product(job.product),
        errors=errors,
    )


def _without_parameters(receipts: Sequence[Mapping[str, Any]]) -> int:
    """Stars that got no parameters; a warning with the flags of these if there is no other star."""
    stars, lacking = (sum(receipt.get(name, 0) for receipt in receipts) for name in ("rows_out", "without"))
    if lacking == stars > 0:
        why: Counter[str] = Counter()
        for receipt in receipts:
            why.update(receipt.get("why", {}))
        told = ", ".join(f"{name} {count:,}" for name, count in why.most_common())
        log.warning("none of the %d stars of the catalogue has parameters; flags of these stars: %s", stars, told)
    return lacking


def _errors_beside(job: AcfJob, folder: Path) -> Mapping[str, tuple[CalibratedErrors, str]]:
    """Calibrated errors and SHA-256 of their files, for the labels that have some."""
    found = {}
    for label in job.labels.labels:
        path = errors_file(folder, label)
        if path.is_file():
            found[label] = (read_errors(path, label), digest(path))
        else:
            log.warning("%s has no calibrated errors (%s): its errors are null", label, path)
    return found
