"""Survey and product schemas: the YAML in ``schemas/`` as frozen, checked objects.

A survey schema says how native columns become canonical ones; a product schema what a written column means.
No module but this one knows the YAML's keys.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from stellarscale.errors import ConfigError
from stellarscale.flags import Flag
from stellarscale.frozen import Frozen as Frozen
from stellarscale.resources import resource_directory
from stellarscale.schema_spectra import SpectrumLayout

_DTYPE_NAMES = ("int16", "int32", "int64", "float32", "float64", "string", "bool")
DTYPES: dict[str, pa.DataType] = {name: pa.type_for_alias(name) for name in _DTYPE_NAMES}


class Condition(Frozen):
    """A test on one canonical column; exactly one of the tests is given. A null fulfils `is_null` only."""

    column: str
    is_null: bool | None = None
    is_true: bool | None = None
    equals: float | int | str | None = None
    not_equals: float | int | str | None = None
    above: float | None = None
    below: float | None = None
    bits: int | None = None
    character: int | None = Field(None, description="index of the character that `one_of` looks at")
    one_of: str | None = Field(None, description="characters that fulfil the condition, with `character`")

    @model_validator(mode="after")
    def _has_one_test(self) -> Condition:
        tests = ("is_null", "is_true", "equals", "not_equals", "above", "below", "bits", "one_of")
        given = [name for name in tests if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a condition needs exactly one test, this has {', '.join(given) or 'none'}")
        if (self.one_of is None) != (self.character is None):
            raise ValueError("`one_of` and `character` go together")
        return self


def _one_or_many(value: Any) -> Any:
    return value if value is None or isinstance(value, list | tuple) else (value,)


class QualityRule(Frozen):
    """Set a flag, and blank columns, where a condition (or every one of a list) holds."""

    flag: str
    when: Annotated[tuple[Condition, ...], BeforeValidator(_one_or_many)]
    blank: tuple[str, ...] = ()

    @field_validator("flag")
    @classmethod
    def _flag_is_known(cls, value: str) -> str:
        if value not in Flag.__members__:
            raise ValueError(f"{value!r} is not in the flag table: {', '.join(Flag.__members__)}")
        return value


class Derivation(Frozen):
    """A canonical column computed from native ones by a function named in ``surveys.derive``."""

    function: Literal[
        "flux_error_to_mag_error", "jd_to_year", "mjd_to_year", "date_to_year", "redshift_to_rv", "row_number"
    ]
    inputs: tuple[str, ...] = Field((), description="canonical names of columns declared in this schema")
    constant: float = 0.0


class Column(Frozen):
    """One canonical column of a survey."""

    native: tuple[str, ...] = Field((), description="accepted native names, best first")
    dtype: Literal["int16", "int32", "int64", "float32", "float64", "string", "bool"] = "float32"
    unit: str = ""
    ucd: str = ""
    description: str = ""
    required: bool = False
    keep: bool = Field(True, description="False: read it for derivations and rules, do not store it")
    null: tuple[float | int | str, ...] = Field((), description="sentinels that mean 'missing'")
    range: tuple[float | None, float | None] | None = Field(None, description="outside: null and flagged")
    derive: Annotated[tuple[Derivation, ...], BeforeValidator(_one_or_many)] = Field(
        (), description="fills a missing or null value; of several, the first whose inputs the file has"
    )

    @model_validator(mode="after")
    def _has_a_source(self) -> Column:
        if not self.native and not self.derive:
            raise ValueError("a column needs `native` names or `derive`")
        return self


class TextLayout(Frozen):
    """How to read the survey's text files when they have no header, or an odd delimiter."""

    delimiter: str | None = None
    names: tuple[str, ...] = Field((), description="fields of a line, for files without a header line")
    trailing_delimiter: bool = False
    null_values: tuple[str, ...] = ("", "null", "NULL", "NaN", "nan", "\\N")


class Position(Frozen):
    """Which canonical columns are the position, or that the table has none."""

    ra: str = "ra"
    dec: str = "dec"
    placeholder: bool = Field(False, description="allowed without: rows get evenly spread, empty positions")


class Motion(Frozen):
    """Which canonical columns are the proper motion (mas/yr, pmra with cos dec)."""

    pmra: str
    pmdec: str


class Epoch(Frozen):
    """Epoch of the positions: a column in Julian years, or one year for rows and files without it."""

    column: str | None = None
    year: float | None = None


class SurveySchema(Frozen):
    """A survey: its columns and how to read them."""

    name: str
    alias: str = Field(description="prefix of this survey's columns in a match, e.g. `gaia`")
    title: str
    reference: str = ""
    id: str
    position: Position = Position()
    epoch: Epoch = Epoch()
    motion: Motion | None = None
    hdu: int | str | None = Field(None, description="HDU of FITS tables; the first table when absent")
    text: TextLayout = TextLayout()
    spectrum: SpectrumLayout | None = Field(None, description="given where a file holds one spectrum, not a table")
    columns: dict[str, Column]
    quality: tuple[QualityRule, ...] = ()

    @model_validator(mode="after")
    def _references_exist(self) -> SurveySchema:
        named = [self.id]
        if not self.position.placeholder:
            named += [self.position.ra, self.position.dec]
        if self.motion:
            named += [self.motion.pmra, self.motion.pmdec]
        if self.epoch.column:
            named.append(self.epoch.column)
        if self.spectrum and not self.spectrum.rest:
            named.append(self.spectrum.redshift)
        for column in self.columns.values():
            named += [name for derivation in column.derive for name in derivation.inputs]
        for rule in self.quality:
            named += [*(condition.column for condition in rule.when), *rule.blank]
        missing = sorted(set(named) - set(self.columns))
        if missing:
            raise ValueError(f"columns named but not declared: {', '.join(missing)}")
        return self


class ProductColumn(Frozen):
    """Meaning of one column of a product."""

    dtype: Annotated[str, Field(pattern="|".join(DTYPES))] = "float32"
    unit: str = ""
    ucd: str = ""
    description: str


class ProductSchema(Frozen):
    """Columns a product may carry, by name."""

    name: str
    title: str
    columns: dict[str, ProductColumn]


def field_metadata(unit: str, ucd: str, description: str) -> dict[bytes, bytes]:
    """Arrow field metadata of a column; empty entries are left out."""
    entries = {b"unit": unit, b"ucd": ucd, b"description": description}
    return {key: value.encode() for key, value in entries.items() if value}


def arrow_field(name: str, column: Column | ProductColumn) -> pa.Field:
    """Arrow field of a declared column, with unit, UCD and description as metadata."""
    metadata = field_metadata(column.unit, column.ucd, column.description)
    return pa.field(name, DTYPES[column.dtype], metadata=metadata or None)


def load_survey(name_or_path: str) -> SurveySchema:
    """Read ``schemas/<name>.yaml``, or a file of the user's.

    Raises
    ------
    ConfigError
        If there is no such schema (the nearest names are told) or it is not a valid one.
    """
    path = _find(name_or_path)
    return parse_yaml(SurveySchema, path.read_text(encoding="utf-8"), where=str(path))


def load_product(name_or_path: str) -> ProductSchema:
    """Read ``schemas/product_<name>.yaml``, or a file of the user's; errors as :func:`load_survey`."""
    path = _find(name_or_path if Path(name_or_path).suffix else f"product_{name_or_path}")
    return parse_yaml(ProductSchema, path.read_text(encoding="utf-8"), where=str(path))


def survey_names() -> list[str]:
    """Names of the survey schemas that ship with the package."""
    names = sorted(path.stem for path in resource_directory("schemas").glob("*.yaml"))
    return [name for name in names if name != "clusters" and not name.startswith(("product_", "paper_table_"))]


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise ConfigError("the schema file does not exist", where=path)
    shipped = resource_directory("schemas") / f"{name_or_path}.yaml"
    if shipped.is_file():
        return shipped
    near = difflib.get_close_matches(name_or_path, survey_names(), n=3, cutoff=0.4)
    raise ConfigError(
        "no schema of this name",
        seen=name_or_path,
        needed=f"one of {', '.join(survey_names())}, or the path of a .yaml file",
        cause=f"did you mean {' or '.join(near)}?" if near else None,
    )


def parse_yaml(model: type[Any], text: str, *, where: str) -> Any:
    """Check YAML text against a model; every problem becomes one :class:`ConfigError`."""
    try:
        content = _null_keys_named(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigError("the file is not valid YAML", where=where, seen=error) from error
    return parse_mapping(model, content, where=where)


def _null_keys_named(content: Any) -> Any:
    # YAML reads the bare key `null:` of a column as the null value; nobody should have to know.
    if not isinstance(content, dict):
        return content
    return {"null" if key is None else key: _null_keys_named(value) for key, value in content.items()}


def parse_mapping(model: type[Any], content: Any, *, where: str) -> Any:
    """Check a mapping against a model; an unknown key is told with the nearest known ones."""
    if not isinstance(content, dict):
        raise ConfigError("expected a mapping", where=where, seen=type(content).__name__)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_explain(item, model) for item in error.errors())
        raise ConfigError("the settings are not valid", where=where, seen=problems) from error


def _explain(item: Any, model: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in item["loc"]) or "top level"
    if item["type"] == "missing":
        return f"{place} is missing"
    if item["type"] != "extra_forbidden":
        words = item["msg"].replace("a valid tuple", "a list").replace("a valid dictionary", "a mapping")
        if item["type"] == "value_error":  # our own words, which name the value where it helps
            return f"{place}: {words.removeprefix('Value error, ')}"
        return f"{place}: {words} (got {item['input']!r:.80})"
    *sections, key = item["loc"]
    near = [
        *difflib.get_close_matches(str(key), _keys_beside(model, sections), n=1, cutoff=0.6),
        *difflib.get_close_matches(str(key), _all_keys(model), n=1, cutoff=0.6),
    ]
    return f"unknown key {place}" + (f", did you mean {near[0]!r}?" if near else "")


def _keys_beside(model: type[BaseModel], sections: list[Any]) -> list[str]:
    """Keys of the section that a place leads to; of the last one known where it leads nowhere."""
    for section in sections:
        info = model.model_fields.get(section) if isinstance(section, str) else None
        inner = _models_in(info.annotation) if info else []
        model = inner[0] if inner else model
    return list(model.model_fields)


def _all_keys(model: type[BaseModel]) -> list[str]:
    """Every key that the model or a model inside it knows; good enough for a suggestion."""
    keys = set(model.model_fields)
    for info in model.model_fields.values():
        for inner in _models_in(info.annotation):
            keys.update(_all_keys(inner))
    return sorted(keys)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
