"""What an import will read and how: checked before a row is read, and digested so that a run can resume."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stellarscale.catalog import atomic, layout
from stellarscale.catalog.import_config import ImportConfig, default_max_rows
from stellarscale.catalog.spectra_files import list_files, listing_digest, write_listing
from stellarscale.catalog.writer import SKY_FIELD
from stellarscale.errors import CatalogError, ConfigError, InputError, SchemaError
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.schema import SurveySchema
from stellarscale.spectra_columns import FLUX, IVAR
from stellarscale.surveys.read import canonical_schema, chosen_columns, inspect, open_source
from stellarscale.surveys.spectra.read import available_columns, spectra_schema

__all__ = [
    "ImportConfig",
    "ImportPlan",
    "SpectraFiles",
    "default_max_rows",
    "plan_import",
    "prepare_output",
    "spill_directory",
]

PLAN_FILE = "plan.json"
SPILL = "import"
_FILE_STRIDE = 1 << 32  # between the row numbers of text files, whose rows are unknown until they are read
_BATCH_BYTES = 64 << 20  # spectra in memory at a time; the sorted copy takes as much again


@dataclass(frozen=True)
class SpectraFiles:
    """The files of an import of spectra, read in groups.

    Parameters
    ----------
    grid : WaveGrid
        Wavelengths that the spectra are stored on.
    files, groups : int
        How many there are of each.
    listing : pa.Table, optional
        The files; left out of what workers get, who find it on disk.
    """

    grid: WaveGrid
    files: int
    groups: int
    listing: pa.Table | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class ImportPlan:
    """A checked import: the files in reading order, what they hold, and the digest that guards a resume.

    A source is what one map task reads: a survey file or, where `spectra` is given, a group of files of spectra;
    `files`, `sizes` and `first_ids` are empty then.
    """

    files: tuple[Path, ...]
    sizes: tuple[int, ...]
    first_ids: tuple[int, ...]
    columns: tuple[str, ...]
    schema: SurveySchema
    config: ImportConfig
    digest: str
    spectra: SpectraFiles | None = None

    @property
    def arrow_schema(self) -> pa.Schema:
        """Schema of the stored rows: the sky key first, then the canonical columns and the quality flags."""
        if self.spectra is None:
            return pa.schema([SKY_FIELD, *canonical_schema(self.schema, self.columns)])
        return pa.schema([SKY_FIELD, *spectra_schema(self.schema, self.columns, self.spectra.grid)])

    @property
    def sources(self) -> int:
        """Number of map tasks."""
        return len(self.files) if self.spectra is None else self.spectra.groups

    @property
    def num_files(self) -> int:
        """Number of files."""
        return len(self.files) if self.spectra is None else self.spectra.files

    @property
    def threads_per_file(self) -> int:
        """Threads inside one map task; more than one only where files are too few to keep the tasks busy."""
        return 1 if self.spectra else max(1, self.config.threads // len(self.files))

    @property
    def files_per_batch(self) -> int:
        """Files of spectra that are in memory at a time."""
        assert self.spectra is not None
        row_bytes = 2 * self.spectra.grid.n_pix * np.dtype(np.float32).itemsize
        return max(1, min(self.config.files_at_once, _BATCH_BYTES // row_bytes))

    def for_workers(self) -> ImportPlan:
        """The plan without the list of spectra, which is on disk by then."""
        if self.spectra is None:
            return self
        return dataclasses.replace(self, spectra=dataclasses.replace(self.spectra, listing=None))


def plan_import(files: Sequence[Path | str], schema: SurveySchema, config: ImportConfig | None = None) -> ImportPlan:
    """Look into every file before anything is read or written; files of spectra are only counted.

    Parameters
    ----------
    files : sequence of path
        Survey files of one kind; rows keep this order where positions tie. For spectra also directories,
        patterns and lists, see :func:`~stellarscale.catalog.spectra_files.list_files`.
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
        If a chosen column is unknown to the schema, or the files do not have it; if a wavelength grid is given
        for a survey without spectra.
    """
    config = config or ImportConfig()
    if schema.spectrum is not None:
        return _plan_spectra(list_files(files), schema, config)
    if config.grid is not None:
        raise ConfigError(
            "a wavelength grid is given, and the survey has no spectra", where=f"survey {schema.name}", seen=config.grid
        )
    paths = _checked_paths(files)
    columns = chosen_columns(schema, _common_columns(paths, schema), config.columns)
    sizes = tuple(path.stat().st_size for path in paths)
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    digest = _digest(states, columns, schema, config)
    return ImportPlan(paths, sizes, _first_ids(paths, schema), columns, schema, config, digest)


def _plan_spectra(listing: pa.Table, schema: SurveySchema, config: ImportConfig) -> ImportPlan:
    assert schema.spectrum is not None
    chosen = tuple(name for name in config.columns if name not in (FLUX, IVAR))  # these always come along
    columns = chosen_columns(schema, available_columns(schema), chosen)
    grid = config.grid or schema.spectrum.grid.wave_grid
    config = dataclasses.replace(config, grid=grid)
    digest = _digest(listing_digest(listing), columns, schema, config)
    groups = -(-listing.num_rows // config.files_at_once)
    spectra = SpectraFiles(grid, listing.num_rows, groups, listing)
    return ImportPlan((), (), (), columns, schema, config, digest, spectra)


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
    if plan.spectra is not None and plan.spectra.listing is not None:
        write_listing(plan.spectra.listing, marker.parent)
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


def _digest(states: Any, columns: Sequence[str], schema: SurveySchema, config: ImportConfig) -> str:
    """Digest of what the files are, the columns and the numbers; absent spectra leave no trace in it."""
    numbers, described = dataclasses.asdict(config), schema.model_dump(mode="json")
    del numbers["threads"]  # a resumed run may have another machine under it
    del numbers["columns"]  # what came of it is in `columns`
    if schema.spectrum is None:
        del numbers["grid"], numbers["files_at_once"], described["spectrum"]
    content = [described, numbers, list(columns), states]
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
