"""Models of another run, checked against the job before any work."""

from __future__ import annotations

from pathlib import Path

from stellarscale.config import ModelSpec, Pretrained, SagesJob
from stellarscale.errors import ModelError
from stellarscale.models.forest import check_features
from stellarscale.models.store import StoredForest, load
from stellarscale.products.featured import features_digest
from stellarscale.products.forests import TrainedModel


def given_models(job: SagesJob, given: Pretrained) -> list[TrainedModel]:
    """The job's models, each from its file.

    Raises
    ------
    ModelError
        If a file is missing or damaged, has another digest than asked for, or was trained for another label, unit,
        class or list of features than the job names.
    """
    unknown = sorted(set(given.digests) - {spec.name for spec in job.training.models})
    if unknown:
        raise ModelError(
            "digests are given for models that the job does not have",
            where="training.pretrained.digests",
            seen=", ".join(unknown),
            needed=", ".join(spec.name for spec in job.training.models),
        )
    return [_given(job, given, spec) for spec in job.training.models]


def _given(job: SagesJob, given: Pretrained, spec: ModelSpec) -> TrainedModel:
    path = Path(given.directory).absolute() / f"{spec.name}.npz"
    stored = load(path, expect_digest=given.digests.get(spec.name))
    _check_purpose(job, spec, stored)
    _check_meaning(job, stored)
    check_features(stored, job.training.inputs)
    provenance = stored.provenance
    numbers = {
        "digest": stored.digest,
        "n_train": provenance.n_train,
        "oob_score": provenance.oob_score,
        "backend": provenance.hyperparameters.get("backend", "unknown"),
    }
    return TrainedModel(spec, path, numbers)


def _check_meaning(job: SagesJob, stored: StoredForest) -> None:
    """The names of features say little: extinction, colours and classes must be those of the training."""
    needed, seen = features_digest(job.features), stored.provenance.features_digest
    if seen != needed:
        raise ModelError(
            "the model was trained on features that mean something else",
            where=stored.path,
            seen=f"digest {seen[:12] or 'none'} of extinction coefficients, colours and classes",
            needed=f"digest {needed[:12]}, this job's",
            cause="features.bands.*.extinction, features.colours or features.classes differ from the training job's",
        )


def _check_purpose(job: SagesJob, spec: ModelSpec, stored: StoredForest) -> None:
    label = job.training.labels[spec.label]
    provenance = stored.provenance
    wanted = {"label": spec.label, "unit": label.unit, "classes": tuple(spec.classes)}
    found = {"label": provenance.label, "unit": provenance.unit, "classes": tuple(provenance.class_names)}
    for name, value in wanted.items():
        if found[name] != value:
            raise ModelError(
                "the model was trained for something else",
                where=f"{stored.path}, {name}",
                seen=found[name],
                needed=value,
                cause="the directory is of another job, or the file was renamed",
            )
