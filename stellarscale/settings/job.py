"""What the jobs of all products share: inputs, the value-added catalogue, what it is compared with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from stellarscale.schema import Frozen
from stellarscale.settings.evaluation import Evaluation
from stellarscale.settings.features import ClassRule
from stellarscale.settings.matching import MatchStep
from stellarscale.settings.spectra import Grid


class CatalogInput(Frozen):
    """A catalogue of the run: native files to import, or a HATS directory that exists."""

    survey: str | None = Field(None, description="schema name or path, with `files`")
    files: tuple[str, ...] = Field((), description="native files or shell patterns")
    path: str | None = Field(None, description="an existing HATS catalogue, instead of `survey` and `files`")
    columns: tuple[str, ...] = Field(
        (),
        description="columns to import besides id, position, motion, epoch and what the schema requires; all if empty",
    )
    max_rows: int | None = Field(
        None, ge=1, description="row cap of a partition; a million, or 20,000 spectra, if null"
    )
    grid: Grid | None = Field(None, description="wavelengths that spectra are stored on; the schema's own if null")

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
    columns: dict[str, str] = Field(description="column of the catalogue: column of the table it is made from")


class Truth(Frozen):
    """An independent table to compare the catalogue with, joined by id."""

    file: str = Field(description="Parquet file")
    id: str = Field(description="id column of the catalogue")
    truth_id: str = Field(description="id column of the truth")
    labels: dict[str, str] = Field(description="parameter: column of the truth")


class Job(Frozen, ABC):
    """A whole run of one product: what the steps that products share need to know of it."""

    product: str = Field(description="what to make")
    name: str = Field(description="name of the run, in reports")
    out: str = Field(description="directory of the run")
    store: str | None = Field(
        None,
        description="directory of imported and matched catalogues that several jobs share; `<out>/catalogs` if null",
    )
    data: str = Field(".", description="what {data} stands for in the texts of the job")
    seed: int = Field(0, description="seed of every random stream")
    catalogs: dict[str, CatalogInput]
    truth: Truth | None = None
    evaluation: Evaluation = Evaluation()
    exports: tuple[Literal["fits", "csv"], ...] = Field(
        (), description="files to write beside the catalogue; CSV without columns of vectors"
    )

    @property
    @abstractmethod
    def used_catalogs(self) -> tuple[str, ...]:
        """Catalogues that a step of the job reads, in the order in which it needs them."""

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, str]:
        """Column of the value-added catalogue: column of the table it is made from."""

    @property
    @abstractmethod
    def units(self) -> Mapping[str, str]:
        """Unit of each parameter that the catalogue gives."""

    @property
    def class_rules(self) -> tuple[ClassRule, ...]:
        """Classes of stars that comparisons keep apart, where the catalogue has a column ``class_code`` for them."""
        return ()

    @property
    def errors_by(self) -> tuple[str | None, str]:
        """Column of the catalogue by which its errors are looked at, and the name of what it holds."""
        return None, ""

    @property
    @abstractmethod
    def primary(self) -> str:
        """Catalogue whose rows are those of the value-added catalogue."""

    def column_of(self, source: str) -> str | None:
        """Column of the value-added catalogue that comes from a column or feature of another name, if any."""
        return next((name for name, origin in self.columns.items() if origin == source), None)

    @model_validator(mode="after")
    def _catalogs_exist(self) -> Job:
        unknown = sorted(set(self.used_catalogs) - set(self.catalogs))
        if unknown:
            raise ValueError(f"catalogues named but not declared: {', '.join(unknown)}")
        return self
