"""What a published table looks like: ``schemas/paper_table_*.yaml`` as frozen, checked objects."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from stellarscale.flags import Flag
from stellarscale.resources import resource_directory
from stellarscale.schema import Frozen, parse_yaml


class PaperColumn(Frozen):
    """One column of the published table: where it comes from and what it means."""

    native: str | None = Field(None, description="column of the value-added catalogue")
    length_of: tuple[str, str] | None = Field(None, description="two components of a vector, instead of `native`")
    optional: bool = Field(False, description="left out when the catalogue has no such column")
    dtype: Literal["int16", "int32", "int64", "float32", "float64"] = "float32"
    unit: str = ""
    ucd: str = ""
    description: str

    @model_validator(mode="after")
    def _has_one_source(self) -> PaperColumn:
        if (self.native is None) == (self.length_of is None):
            raise ValueError("give either `native` or `length_of`")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """Columns of the catalogue that it needs."""
        return self.length_of or (self.native or "",)


class PaperRows(Frozen):
    """Which stars the published table has."""

    class_column: str
    classes: tuple[int, ...] = Field(min_length=1, description="class codes that the table has")
    without_flags: tuple[str, ...] = Field((), description="quality flags that keep a star out")

    @model_validator(mode="after")
    def _flags_exist(self) -> PaperRows:
        unknown = sorted(set(self.without_flags) - set(Flag.__members__))
        if unknown:
            raise ValueError(f"not in the flag table: {', '.join(unknown)}")
        return self

    @property
    def bits(self) -> int:
        """The flags that keep a star out, as one number."""
        return sum(int(Flag[name]) for name in self.without_flags)


class PaperTable(Frozen):
    """A published table: its rows, its columns in order, and its mark for missing values."""

    name: str
    title: str
    null_value: int
    rows: PaperRows
    columns: dict[str, PaperColumn] = Field(min_length=1)


def load_paper_table(name: str = "sages") -> PaperTable:
    """Read ``schemas/paper_table_<name>.yaml``.

    Raises
    ------
    ConfigError
        If it is not a valid one.
    """
    path = resource_directory("schemas") / f"paper_table_{name}.yaml"
    return parse_yaml(PaperTable, path.read_text(encoding="utf-8"), where=str(path))
