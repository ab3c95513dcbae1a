"""The job file as frozen, checked objects: every number of a run is here, none is buried in code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from stellarscale.errors import ConfigError
from stellarscale.resources import resource_directory
from stellarscale.schema import Frozen, parse_mapping
from stellarscale.settings.evaluation import ClusterSettings, Evaluation, External
from stellarscale.settings.features import Band, Classes, ClassRule, FeatureConfig, Parallax, Reddening
from stellarscale.settings.matching import MatchStep
from stellarscale.settings.training import (
    Comparator,
    Errors,
    ForestSettings,
    Label,
    LabelSource,
    ModelSpec,
    Pretrained,
    Training,
    Tuning,
)

__all__ = [
    "Band",
    "CatalogInput",
    "ClassRule",
    "Classes",
    "ClusterSettings",
    "Comparator",
    "Errors",
    "Evaluation",
    "External",
    "FeatureConfig",
    "ForestSettings",
    "Job",
    "Label",
    "LabelSource",
    "MatchChain",
    "MatchStep",
    "ModelSpec",
    "Output",
    "Parallax",
    "Pretrained",
    "Reddening",
    "Training",
    "Truth",
    "Tuning",
    "digest_of",
    "job_text",
    "load_job",
]


class CatalogInput(Frozen):
    """A catalogue of the run: native files to import, or a HATS directory that exists."""

    survey: str | None = Field(None, description="schema name or path, with `files`")
    files: tuple[str, ...] = Field((), description="native files or shell patterns")
    path: str | None = Field(None, description="an existing HATS catalogue, instead of `survey` and `files`")
    columns: tuple[str, ...] = Field(
        (),
        description="columns to import besides id, position, motion, epoch and what the schema requires; all if empty",
    )
    max_rows: int = Field(1_000_000, ge=1, description="row cap of a partition")

    @model_validator(mode="after")
    def _one_source(self) -> CatalogInput:
        if (self.path is None) == (self.survey is None) or bool(self.files) != bool(self.survey):
            raise ValueError("give either `path`, or `survey` with `files`")
        return self


class MatchChain(Frozen):
    """The primary catalogue and what is matched to it, in order."""

    primary: str = Field(description="catalogue whose stars are the rows")
    chain: tuple[MatchStep, ...] = ()


class Output(Frozen):
    """The value-added catalogue."""

    name: str = Field("catalog", description="directory of the value-added catalogue, in the run")
    columns: dict[str, str] = Field(description="column of the catalogue: column of the matched table")
    colour_limit: tuple[str, float] | None = Field(
        None, description="feature and value beyond which parameters are blanked (paper I: bp_rp_0, 1.598)"
    )


class Truth(Frozen):
    """An independent table to compare the catalogue with, joined by id."""

    file: str = Field(description="Parquet file")
    id: str = Field(description="id column of the catalogue")
    truth_id: str = Field(description="id column of the truth")
    labels: dict[str, str] = Field(description="parameter: column of the truth")


class Job(Frozen):
    """A whole run of the product ``sages``."""

    product: Literal["sages"] = Field(description="what to make")
    name: str = Field(description="name of the run, in reports")
    out: str = Field(description="directory of the run")
    store: str | None = Field(
        None,
        description="directory of imported and matched catalogues that several jobs share; `<out>/catalogs` if null",
    )
    data: str = Field(".", description="what {data} stands for in the texts of the job")
    seed: int = Field(0, description="seed of every random stream")
    catalogs: dict[str, CatalogInput]
    match: MatchChain
    features: FeatureConfig = FeatureConfig()
    training: Training
    output: Output
    truth: Truth | None = None
    evaluation: Evaluation = Evaluation()
    exports: tuple[Literal["fits", "csv"], ...] = Field((), description="files to write beside the catalogue")

    @property
    def used_catalogs(self) -> tuple[str, ...]:
        """Catalogues that a step of the job reads, in the order in which it needs them."""
        named = [self.match.primary, *(step.catalog for step in self.match.chain)]
        if self.training.pretrained is None:
            named += [self.training.match.catalog] if self.training.match else []
            named += [source.match.catalog for source in self.training.sources]
        named += [external.match.catalog for external in self.evaluation.external]
        return tuple(dict.fromkeys(named))

    @model_validator(mode="after")
    def _catalogs_exist(self) -> Job:
        named = self.used_catalogs
        unknown = sorted(set(named) - set(self.catalogs))
        if unknown:
            raise ValueError(f"catalogues named but not declared: {', '.join(unknown)}")
        rules = [rule.name for rule in self.features.classes.rules] if self.features.classes else []
        strange = sorted({name for model in self.training.models for name in model.classes} - set(rules))
        if strange:
            raise ValueError(f"classes of models that features.classes does not define: {', '.join(strange)}")
        return self


def load_job(path_or_name: str, overrides: Sequence[str] = ()) -> Job:
    """Read a job file, or one that ships with the package, and apply ``key=value`` overrides.

    Raises
    ------
    ConfigError
        If there is no such file, or a key or value in it is wrong; unknown keys are told with the nearest known one.
    """
    path = Path(path_or_name)
    if not path.is_file():
        shipped = resource_directory("jobs") / f"{path.stem}.yaml"
        if not shipped.is_file():
            names = ", ".join(sorted(item.stem for item in shipped.parent.glob("*.yaml")))
            raise ConfigError("the job file does not exist", where=path, needed=f"a file, or one of: {names}")
        path = shipped
    content = _from_yaml(_text_of(path), "the job file is not valid YAML", where=path)
    if not isinstance(content, dict):
        raise ConfigError("the job file holds no settings", where=path, seen=type(content).__name__)
    for override in overrides:
        _apply(content, override)
    return parse_mapping(Job, _filled(content, str(content.get("data", "."))), where=str(path))


def _filled(content: Any, data: str) -> Any:
    """Put the data directory where ``{data}`` stands, in every text of the job."""
    if isinstance(content, dict):
        return {key: _filled(value, data) for key, value in content.items()}
    if isinstance(content, list):
        return [_filled(value, data) for value in content]
    return content.replace("{data}", data) if isinstance(content, str) else content


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        example = "e.g. --set training.test_fraction=0.3"
        raise ConfigError("an override must be KEY=VALUE", seen=override, needed=example)
    *parents, last = key.split(".")
    target = content
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise ConfigError("an override reaches into something that has no keys", seen=override, where=parent)
    target[last] = _from_yaml(text, "the value of an override is not valid YAML", where=f"--set {override}")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError("the job file is not UTF-8 text", where=path, seen=error.reason, needed="YAML") from error


def _from_yaml(text: str, problem: str, *, where: object) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise ConfigError(problem, where=place, seen=getattr(error, "problem", None) or error) from error


def digest_of(*parts: Any) -> str:
    """SHA-256 of settings: the same settings give the same digest on every machine."""
    plain = [part.model_dump(mode="json") if isinstance(part, Frozen) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def job_text(job: Job) -> str:
    """The job as YAML, overrides applied, defaults left out."""
    return yaml.safe_dump(job.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
