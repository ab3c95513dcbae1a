"""What an import will read and how: checked before a row is read, and digested so that a run can resume."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from stellarscale.catalog import atomic, layout
from stellarscale.catalog.writer import SKY_FIELD, WriteOptions
from stellarscale.errors import CatalogError, ConfigError, InputError, SchemaError
from stellarscale.schema import SurveySchema
from stellarscale.surveys.read import canonical_schema, chosen_columns, inspect, open_source

PLAN_FILE = "plan.json"
SPILL = "import"
_FILE_STRIDE = 1 << 32  # between the row numbers of text files, whose rows are unknown until they are read
_DEEPEST_HISTOGRAM = 12  # one base pixel of it fills 128 MiB of counts


@dataclass(frozen=True)
class ImportConfig:
    """Numbers of an import; memory follows from them and the number of tasks at once, not from the input.

    Parameters
    ----------
    max_rows : int
        Row cap of a partition; a pixel of the finest order may exceed it.
    batch_rows : int
        Rows read, sorted and spilled at a time.
    min_order, finest_order : int
        Lowest and highest HEALPix order of a partition.
    hashes_at_once : int
        Id hashes (8 bytes each) that one step of the duplicate check holds in memory.
    threads : int
        Threads that work on one file when there are fewer files than this; the result does not depend on it.
    columns : tuple of str
        Canonical columns to import beside those that always are (see
        :func:`~stellarscale.surveys.plan.chosen_columns`); all that the files have when empty.
    write : WriteOptions
        Codec and row groups of the partition files.

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """

    max_rows: int = 1_000_000
    batch_rows: int = 500_000
    min_order: int = 0
    finest_order: int = 10
    hashes_at_once: int = 2_000_000
    threads: int = 1
    columns: tuple[str, ...] = ()
    write: WriteOptions = field(default_factory=WriteOptions)

    def __post_init__(self) -> None:
        for name in ("max_rows", "batch_rows", "hashes_at_once", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is too small", seen=getattr(self, name), needed="1 or more")
        if not 0 <= self.min_order <= self.finest_order <= _DEEPEST_HISTOGRAM:
            raise ConfigError(
                "the HEALPix orders of the import do not fit together",
                seen=f"min_order {self.min_order}, finest_order {self.finest_order}",
                needed=f"0 <= min_order <= finest_order <= {_DEEPEST_HISTOGRAM}",
            )


@dataclass(frozen=True)
class ImportPlan:
    """A checked import: the files in reading order, what they hold, and the digest that guards a resume."""

    files: tuple[Path, ...]
    sizes: tuple[int, ...]
    first_ids: tuple[int, ...]
    columns: tuple[str, ...]
    schema: SurveySchema
    config: ImportConfig
    digest: str

    @property
    def arrow_schema(self) -> pa.Schema:
        """Schema of the stored rows: the sky key first, then the canonical columns and the quality flags."""
        return pa.schema([SKY_FIELD, *canonical_schema(self.schema, self.columns)])

    @property
    def threads_per_file(self) -> int:
        """Threads inside one map task; more than one only where files are too few to keep the tasks busy."""
        return max(1, self.config.threads // len(self.files))


def plan_import(files: Sequence[Path | str], schema: SurveySchema, config: ImportConfig | None = None) -> ImportPlan:
    """Look into every file before anything is read or written.

    Parameters
    ----------
    files : sequence of path
        Survey files of one kind; rows keep this order where positions tie.
    schema : SurveySchema
        How native columns become canonical ones.
    config : ImportConfig, optional

    Returns
    -------
    ImportPlan

    Raises
    ------
    InputError
        If no file is given, a file is missing, empty, not a file, or given twice.
    SchemaError
        If a required column is missing, or two files do not have the same columns.
    ConfigError
        If a chosen column is unknown to the schema, or the files do not have it.
    """
    config = config or ImportConfig()
    paths = _checked_paths(files)
    columns = chosen_columns(schema, _common_columns(paths, schema), config.columns)
    sizes = tuple(path.stat().st_size for path in paths)
    digest = _digest(paths, columns, schema, config)
    return ImportPlan(paths, sizes, _first_ids(paths, schema), columns, schema, config, digest)


def prepare_output(plan: ImportPlan, root: Path) -> Path:
    """Make, or find again, the directory of the spilled rows inside the catalogue being made.

    Parameters
    ----------
    plan : ImportPlan
    root : Path
        Catalogue to make.

    Returns
    -------
    Path
        The spill directory.

    Raises
    ------
    InputError
        If `root` is a file.
    CatalogError
        If `root` holds something that is not an interrupted run of this very import.
    """
    if root.is_file():
        raise InputError("the catalogue's path is a file", where=root, needed="a new or an empty directory")
    working = layout.working_directory(root)
    marker = spill_directory(root) / PLAN_FILE
    found = sorted(item.name for item in root.iterdir() if item != working) if root.is_dir() else []
    if marker.is_file():
        _refuse_another_plan(marker, plan, root)
    elif found:
        raise _occupied(root, found)
    atomic.write_text(marker, json.dumps({"digest": plan.digest, "files": [str(path) for path in plan.files]}))
    return marker.parent


def spill_directory(root: Path) -> Path:
    """Where an import keeps its spilled rows while it runs."""
    return layout.working_directory(root) / SPILL


def _checked_paths(files: Sequence[Path | str]) -> tuple[Path, ...]:
    if not files:
        raise InputError("no file to import", needed="at least one survey file")
    seen: dict[Path, Path | str] = {}
    for file in files:
        path = Path(file).resolve()
        if path in seen:
            raise InputError("a file is given twice", where=path, seen=f"{seen[path]} and {file}")
        if not path.is_file():
            state = "a directory" if path.is_dir() else "nothing there"
            raise InputError("a file to import does not exist", where=path, seen=state, needed="a file")
        if path.stat().st_size == 0:
            raise InputError("a file to import is empty", where=path, seen="0 bytes", cause="a broken download")
        seen[path] = file
    return tuple(seen)


def _common_columns(paths: Sequence[Path], schema: SurveySchema) -> tuple[str, ...]:
    columns = inspect(paths[0], schema)
    for path in paths[1:]:
        others = inspect(path, schema)
        if set(others) != set(columns):
            first_only = ", ".join(sorted(set(columns) - set(others))) or "none"
            second_only = ", ".join(sorted(set(others) - set(columns))) or "none"
            raise SchemaError(
                "two files of one import do not have the same columns",
                where=f"{paths[0]} and {path}",
                seen=f"only in the first: {first_only}; only in the second: {second_only}",
                needed="the same columns in every file",
                cause="files of different releases; import them into catalogues of their own",
            )
    return tuple(columns)


def _first_ids(paths: Sequence[Path], schema: SurveySchema) -> tuple[int, ...]:
    """Number of each file's first row, for surveys whose ids or positions are made from row numbers."""
    functions = {one.function for column in schema.columns.values() for one in column.derive}
    if "row_number" not in functions and not schema.position.placeholder:
        return (0,) * len(paths)
    known = [open_source(path, schema).rows for path in paths]
    rows = [_FILE_STRIDE if None in known else count for count in known]
    return tuple(itertools.accumulate((count or 0 for count in rows[:-1]), initial=0))


def _digest(paths: Sequence[Path], columns: Sequence[str], schema: SurveySchema, config: ImportConfig) -> str:
    numbers = dataclasses.asdict(config)
    del numbers["threads"]  # a resumed run may have another machine under it
    del numbers["columns"]  # what came of it is in `columns`
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    content = [schema.model_dump(mode="json"), numbers, list(columns), states]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _refuse_another_plan(marker: Path, plan: ImportPlan, root: Path) -> None:
    digest = json.loads(marker.read_text(encoding="utf-8"))["digest"]
    if digest != plan.digest:
        raise CatalogError(
            "the directory holds an interrupted import with other files, schema or numbers",
            where=root,
            seen=f"plan {digest[:12]}",
            needed=f"plan {plan.digest[:12]}",
            cause="an input changed since; start over with --fresh",
        )


def _occupied(root: Path, found: Sequence[str]) -> CatalogError:
    finished = layout.PROPERTIES in found
    return CatalogError(
        "the output directory already holds " + ("a finished catalogue" if finished else "something else"),
        where=root,
        seen=", ".join(found[:8]) + (", ..." if len(found) > 8 else ""),
        needed="a new or an empty directory",
        cause="an earlier import; replace it with --fresh" if finished else "a mistyped path",
    )
