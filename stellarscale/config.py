"""The job file as frozen, checked objects: every number of a run is here, none is buried in code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from stellarscale.errors import ConfigError
from stellarscale.resources import resource_directory
from stellarscale.schema import Frozen, parse_mapping
from stellarscale.settings.acf import AcfJob
from stellarscale.settings.evaluation import ClusterSettings, Evaluation, External
from stellarscale.settings.features import Band, Classes, ClassRule, FeatureConfig, Parallax, Reddening
from stellarscale.settings.job import CatalogInput, Job, MatchChain, Output, Truth
from stellarscale.settings.laspm import LaspmJob
from stellarscale.settings.matching import MatchStep
from stellarscale.settings.sages import SagesJob, SagesOutput
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
    "AcfJob",
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
    "LaspmJob",
    "MatchChain",
    "MatchStep",
    "ModelSpec",
    "Output",
    "Parallax",
    "Pretrained",
    "Reddening",
    "SagesJob",
    "SagesOutput",
    "Training",
    "Truth",
    "Tuning",
    "digest_of",
    "job_text",
    "load_job",
]


PRODUCTS: dict[str, type[Job]] = {"sages": SagesJob, "laspm": LaspmJob, "acf": AcfJob}


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
    return parse_mapping(_kind_of_job(content, path), _filled(content, str(content.get("data", "."))), where=str(path))


def read_job(path: Path) -> Job:
    """Read the job that a run has kept as ``job.json``."""
    text = path.read_text(encoding="utf-8")
    return _kind_of_job(json.loads(text), path).model_validate_json(text)


def _kind_of_job(content: dict[str, Any], path: Path) -> type[Job]:
    product = content.get("product")
    if product not in PRODUCTS:
        raise ConfigError(
            "the job names no product that there is",
            where=f"{path}, product",
            seen=repr(product) if product is not None else "nothing",
            needed=f"one of: {', '.join(PRODUCTS)}",
        )
    return PRODUCTS[product]


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
    target: Any = content
    for parent in parents:
        target = target.setdefault(parent, {}) if isinstance(target, dict) else target[_place(target, parent, override)]
        if not isinstance(target, dict | list):
            raise ConfigError("an override reaches into something that has no keys", seen=override, where=parent)
    value = _from_yaml(text, "the value of an override is not valid YAML", where=f"--set {override}")
    target[last if isinstance(target, dict) else _place(target, last, override)] = value


def _place(items: list[Any], key: str, override: str) -> int:
    """Index of a list's item, counted from 0."""
    if not key.isdigit() or int(key) >= len(items):
        needed = f"a number from 0 to {len(items) - 1}" if items else "a value for the whole list, which is empty"
        raise ConfigError("an override names no item of a list", seen=override, where=key, needed=needed)
    return int(key)


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
        # `{data}/...` begins like a mapping.
        cause = (
            "text that begins with { needs quotes of its own: --set 'key=\"{data}/...\"'" if text[:1] == "{" else None
        )
        raise ConfigError(problem, where=place, seen=getattr(error, "problem", None) or error, cause=cause) from error


def digest_of(*parts: Any) -> str:
    """SHA-256 of settings: the same settings give the same digest on every machine."""
    plain = [part.model_dump(mode="json") if isinstance(part, Frozen) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def job_text(job: Job) -> str:
    """The job as YAML, overrides applied, defaults left out."""
    return yaml.safe_dump(job.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
