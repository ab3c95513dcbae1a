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


class CatalogInput(Frozen):
    """A catalogue of the run: native files to import, or a HATS directory that exists."""

    survey: str | None = Field(None, description="schema name or path, with `files`")
    files: tuple[str, ...] = Field((), description="native files or shell patterns")
    path: str | None = Field(None, description="an existing HATS catalogue, instead of `survey` and `files`")
    max_rows: int = Field(1_000_000, ge=1, description="row cap of a partition")

    @model_validator(mode="after")
    def _one_source(self) -> CatalogInput:
        if (self.path is None) == (self.survey is None) or bool(self.files) != bool(self.survey):
            raise ValueError("give either `path`, or `survey` with `files`")
        return self


class MatchStep(Frozen):
    """One match of a chain: the catalogue to add and how."""

    catalog: str
    radius_arcsec: float = Field(1.0, gt=0, le=3600)
    keep: Literal["nearest", "all", "mutual"] = "nearest"
    how: Literal["inner", "left"] = "inner"
    epoch: float | Literal["rows"] | None = Field(None, description="a year, `rows`, or null for raw positions")
    prefix: str | None = Field(None, description="prefix of the added columns; the catalogue's alias when absent")


class MatchChain(Frozen):
    """The primary catalogue and what is matched to it, in order."""

    primary: str
    chain: tuple[MatchStep, ...] = ()


class Band(Frozen):
    """A photometric band: its columns, extinction coefficient and error cuts (paper I, Tables 1 and 2)."""

    mag: str
    err: str | None = None
    extinction: float = Field(0.0, description="R = A / E(B-V), E(B-V) as in SFD98, unscaled")
    train_err: float | None = Field(None, gt=0)
    predict_err: float | None = Field(None, gt=0)


class Reddening(Frozen):
    """Where E(B-V) comes from: exactly one of the three."""

    column: str | None = None
    sfd98: str | None = Field(None, description="directory of SFD_dust_4096_ngp.fits and _sgp.fits")
    value: float | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Reddening:
        if sum(item is not None for item in (self.column, self.sfd98, self.value)) != 1:
            raise ValueError("give exactly one of `column`, `sfd98`, `value`")
        return self


class Parallax(Frozen):
    """Parallax columns (mas) and the smallest parallax/error that training and prediction accept."""

    value: str
    error: str
    train_snr: float | None = None
    predict_snr: float | None = None


class ClassRule(Frozen):
    """A region of the colour - absolute magnitude diagram; the first rule that holds names the class.

    ``fainter_than`` and ``brighter_than`` are polynomials in the colour, lowest power first: the absolute magnitude
    must be above (fainter) or below (brighter) their value.
    """

    name: str
    code: int
    colour: tuple[float, float] | None = None
    absolute: tuple[float, float] | None = None
    fainter_than: tuple[float, ...] | None = None
    brighter_than: tuple[float, ...] | None = None


class Classes(Frozen):
    """How stars are sorted into classes (paper I, Fig. 1)."""

    colour: str = Field("bp-rp", description="two bands, dereddened")
    absolute: str = Field("g", description="band of the absolute magnitude")
    rules: tuple[ClassRule, ...]
    likely_giant: str | None = Field(
        None, description="class of stars whose parallax error exceeds the parallax; null: such stars get no class"
    )


class FeatureConfig(Frozen):
    """Everything that makes features out of a matched row."""

    bands: dict[str, Band] = Field(default_factory=dict)
    ebv: Reddening | None = None
    ebv_max_train: float | None = None
    ebv_max_predict: float | None = None
    parallax: Parallax | None = None
    colours: tuple[str, ...] = Field((), description="pairs of bands, e.g. `u-v`; made of dereddened magnitudes")
    absolute: tuple[str, ...] = Field((), description="bands that get an absolute magnitude")
    classes: Classes | None = None

    @model_validator(mode="after")
    def _bands_exist(self) -> FeatureConfig:
        pairs = [*self.colours, *([self.classes.colour] if self.classes else [])]
        named = [band for pair in pairs for band in pair.split("-")] + list(self.absolute)
        named += [self.classes.absolute] if self.classes else []
        unknown = sorted(set(named) - set(self.bands))
        if unknown:
            raise ValueError(f"bands named but not declared: {', '.join(unknown)} (declared: {', '.join(self.bands)})")
        if (self.absolute or self.classes) and self.parallax is None:
            raise ValueError("absolute magnitudes and classes need `parallax`")
        return self


class Label(Frozen):
    """A stellar parameter to learn: its columns in the label catalogue, and the cut on its error."""

    column: str
    error: str | None = None
    max_error: float | None = Field(None, gt=0)
    range: tuple[float, float] | None = None
    unit: str = ""


class ForestSettings(Frozen):
    """Hyper-parameters of the forests (paper I, section 4)."""

    n_estimators: int = Field(300, ge=1)
    max_features: float | None = Field(None, gt=0, le=1, description="share tried at each split; null: all")
    max_depth: int | None = Field(17, ge=1)
    min_samples_leaf: int = Field(1, ge=1)
    backend: Literal["auto", "sklearn", "sklearnex"] = "auto"


class ModelSpec(Frozen):
    """One forest: a label learned on the stars of some classes (all stars when empty)."""

    label: str
    classes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """File stem of the model."""
        return "_".join([self.label, *self.classes])


class Training(Frozen):
    """What is learned from which labels."""

    match: MatchStep | None = Field(None, description="how labels reach the stars; null: they are in the table")
    labels: dict[str, Label]
    inputs: tuple[str, ...] = Field(min_length=1, description="feature columns, in the order of the model")
    models: tuple[ModelSpec, ...] = Field(min_length=1)
    forest: ForestSettings = ForestSettings()
    test_fraction: float = Field(0.2, gt=0, lt=1)
    min_stars: int = Field(50, ge=2, description="fewer training stars than this for a model is an error")
    compare_with_sklearn: bool = Field(False, description="fit plain scikit-learn on the same split and report it")

    @model_validator(mode="after")
    def _labels_exist(self) -> Training:
        unknown = sorted({model.label for model in self.models} - set(self.labels))
        if unknown:
            raise ValueError(f"models of undeclared labels: {', '.join(unknown)}")
        for label in self.labels:
            served = [name for model in self.models if model.label == label for name in model.classes or ("all",)]
            if len(set(served)) < len(served) or ("all" in served and len(served) > 1):
                raise ValueError(f"two models give {label} for the same class: {', '.join(served)}")
        return self


class Output(Frozen):
    """The value-added catalogue."""

    name: str = "catalog"
    columns: dict[str, str] = Field(description="column of the catalogue: column of the matched table")
    colour_limit: tuple[str, float] | None = Field(
        None, description="feature and value beyond which parameters are blanked (paper I: bp_rp_0, 1.598)"
    )


class Truth(Frozen):
    """An independent table to compare the catalogue with, joined by id."""

    file: str
    id: str
    truth_id: str
    labels: dict[str, str]


class Job(Frozen):
    """A whole run of the product ``sages``."""

    product: Literal["sages"]
    name: str
    out: str
    data: str = Field(".", description="what {data} stands for in the texts of the job")
    seed: int = 0
    catalogs: dict[str, CatalogInput]
    match: MatchChain
    features: FeatureConfig = FeatureConfig()
    training: Training
    output: Output
    truth: Truth | None = None
    exports: tuple[Literal["fits", "csv"], ...] = ()

    @model_validator(mode="after")
    def _catalogs_exist(self) -> Job:
        named = [self.match.primary, *(step.catalog for step in self.match.chain)]
        named += [self.training.match.catalog] if self.training.match else []
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
