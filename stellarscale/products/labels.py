"""From label catalogues to training rows: match each with the stars, add features, apply the training cuts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stellarscale.catalog.reader import open_stored
from stellarscale.catalog.subset import parse_subset
from stellarscale.config import Label, MatchStep, SagesJob
from stellarscale.engine.sampling import SampleTask, TrainingSource
from stellarscale.engine.tasks import TrainingTask, training_pixel
from stellarscale.errors import InputError
from stellarscale.partition.features import colour_name
from stellarscale.partition.noise import noise_columns
from stellarscale.partition.training import training_rows
from stellarscale.products.featured import feature_inputs, located, no_features, only_position
from stellarscale.products.matching import match_catalogs
from stellarscale.products.steps import Mapped, Session, Summary, inherited, map_catalog

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelCatalog:
    """One catalogue of labels: what its stars are for, how it is matched (None: labels are in the table)."""

    name: str
    role: str
    match: MatchStep | None
    labels: Mapping[str, Label]


def label_catalogs(job: SagesJob) -> list[LabelCatalog]:
    """The label catalogues of a job in order of preference; the first one trains."""
    main = job.training.match
    first = LabelCatalog(main.catalog if main else job.match.primary, "train", main, job.training.labels)
    further = [LabelCatalog(s.match.catalog, s.role, s.match, s.labels) for s in job.training.sources]
    return [first, *further]


def training_sources(
    on: Session, job: SagesJob, catalogs: Mapping[str, Path], matched: Path, subset: str | None, steps: list[Summary]
) -> list[TrainingSource]:
    """Training rows of every label catalogue, each as a small catalogue of its own.

    Raises
    ------
    InputError
        If no star has a partner in the catalogue that trains. One that extends or tests may be empty: a part of the
        sky need not hold any of its stars; it is said.
    """
    return [_one_source(on, job, catalogs, matched, labels, subset, steps) for labels in label_catalogs(job)]


def sample_task(job: SagesJob, sources: list[TrainingSource], matched: Path, out: Path) -> SampleTask:
    """How the samples of the models are put together."""
    properties = open_stored(matched).properties
    return SampleTask(
        sources=tuple(sources),
        out=out,
        training=job.training,
        classes=job.features.classes,
        seed=job.seed,
        star=properties.extra.get("stellarscale_id"),
        position=(properties.ra, properties.dec),
        carried=_carried(job),
    )


def _one_source(
    on: Session,
    job: SagesJob,
    catalogs: Mapping[str, Path],
    matched: Path,
    labels: LabelCatalog,
    subset: str | None,
    steps: list[Summary],
) -> TrainingSource:
    folder = Path(job.out).absolute() / "catalogs"
    labelled = matched
    if labels.match is not None:
        labelled = folder / f"labelled_{labels.name}"
        done = match_catalogs(on, matched, catalogs[labels.name], labelled, step=labels.match)
        steps.append({**done, "name": f"labels from {labels.name}"})
        _check_overlap(labels, catalogs[labels.name], done)
    out = folder / f"training_{labels.name}"
    steps.append(_training_rows(on, job, labelled, out, labels, subset))
    return TrainingSource(labels.name, labels.role, out)


def _check_overlap(labels: LabelCatalog, catalog: Path, done: Summary) -> None:
    if done["matched"]:
        return
    if labels.role != "train":
        log.warning("no star has a partner in the label catalogue %s", labels.name)
        return
    assert labels.match is not None, "called after a match"
    raise InputError(
        "no star has a partner in the label catalogue",
        where=f"catalogs.{labels.name} ({catalog})",
        seen=f"{done['rows_in']:,} stars, {open_stored(catalog).num_rows:,} labels, no pair",
        needed=f"stars in common within {labels.match.radius_arcsec} arcsec",
        cause="the two cover different parts of the sky, or the positions are of another epoch or unit",
    )


def _training_rows(
    on: Session, job: SagesJob, labelled: Path, out: Path, labels: LabelCatalog, subset: str | None
) -> Summary:
    stored = open_stored(labelled)
    star = stored.properties.extra.get("stellarscale_id")
    keep = (*([star] if star else []), stored.properties.ra, stored.properties.dec, *_carried(job))
    features = no_features(job, stored)
    empty, _ = training_rows(features, job.features, job.training.inputs, labels.labels, keep=keep)
    mapped = Mapped(
        step="training rows",
        source=labelled,
        out=out,
        schema=empty.schema,
        properties=only_position(inherited(stored.properties, out.name)),
        settings={
            "features": job.features.model_dump(mode="json"),
            "inputs": job.training.inputs,
            "labels": {name: label.model_dump(mode="json") for name, label in labels.labels.items()},
            "keep": keep,
        },
        inputs=feature_inputs(job.features),
    )
    chosen = parse_subset(subset) if subset else None
    task = TrainingTask(labelled, out, located(job.features), job.training.inputs, labels.labels, keep, chosen)
    done = map_catalog(on, partial(training_pixel, task), mapped, subset=subset)
    return {**done, "name": f"training rows from {labels.name}"}


def _carried(job: SagesJob) -> tuple[str, ...]:
    """Columns of the samples beside the inputs: what the calibration and novelty depend on, and the diagram."""
    errors = job.training.errors
    names = [*([errors.magnitude] if errors.magnitude else []), *noise_columns(errors.noise)]
    if job.features.classes:
        names += [colour_name(job.features.classes.colour), f"m_{job.features.classes.absolute}_0"]
    if job.output.colour_limit:
        names.append(job.output.colour_limit[0])
    return tuple(dict.fromkeys(names))
