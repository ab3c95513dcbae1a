"""A small survey in Parquet files for tests of the import, and what is stored of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stellarscale.catalog.reader import StoredCatalog, read_pixel
from stellarscale.schema import SurveySchema

COLUMNS: dict[str, Any] = {
    "source_id": {"native": ["source_id"], "dtype": "int64", "required": True},
    "ra": {"native": ["ra"], "dtype": "float64", "unit": "deg", "required": True},
    "dec": {"native": ["dec"], "dtype": "float64", "unit": "deg", "required": True},
    "mag": {"native": ["mag"], "dtype": "float32", "unit": "mag", "ucd": "phot.mag"},
}


def survey(**changes: Any) -> SurveySchema:
    """The schema of the survey with some of its fields changed."""
    fields = {"name": "mock", "alias": "mk", "title": "a mock survey", "id": "source_id", "columns": COLUMNS}
    return SurveySchema.model_validate({**fields, **changes})


SCHEMA = survey()


def table_of(ids: Sequence[int | None], ra: Iterable[float], dec: Iterable[float]) -> pa.Table:
    """Rows of the survey; the magnitude is the number of the row."""
    ids = pa.array(list(ids), type=pa.int64())
    mag = np.arange(len(ids), dtype=np.float32)
    return pa.table({"source_id": ids, "ra": np.array(ra, float), "dec": np.array(dec, float), "mag": mag})


def random_table(rows: int, seed: int, *, first: int = 0) -> pa.Table:
    """Rows anywhere on the sky, with ids from ``first`` on."""
    rng = np.random.default_rng(seed)
    return table_of(range(first, first + rows), rng.uniform(0, 360, rows), rng.uniform(-90, 90, rows))


def write_files(directory: Path, tables: Sequence[pa.Table]) -> list[Path]:
    """A Parquet file for each table."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"part{number}.parquet" for number in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        pq.write_table(table, path)
    return paths


def files_under(root: Path) -> dict[str, bytes]:
    """Every data file of a catalogue; the properties hold a date and are left out."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "properties" not in path.name
    }


def rows_of(catalog: StoredCatalog) -> list[dict[str, Any]]:
    """All rows of a catalogue, in the order of the sky."""
    return [row for pixel in catalog.pixels for row in read_pixel(catalog, pixel).to_pylist()]
