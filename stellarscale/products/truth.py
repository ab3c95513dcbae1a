"""Compare the value-added catalogue with an independent table, joined by id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog.reader import StoredCatalog, open_stored
from stellarscale.config import Job, Truth
from stellarscale.errors import InputError
from stellarscale.partition.features import floats
from stellarscale.products.estimates import estimate_rows, evaluation_of
from stellarscale.report.content import Evaluation
from stellarscale.schema import DTYPES, load_survey

BATCH_ROWS = 1 << 21


def check_truth(job: Job) -> None:
    """Refuse a truth table that cannot be joined, before any work.

    Raises
    ------
    InputError
        If the file is missing or not Parquet, lacks a column, or its ids are of another kind than the catalogue's.
    """
    truth = job.truth
    if truth is None:
        return
    path = Path(truth.file)
    if not path.is_file():
        raise InputError("the truth table of the job does not exist", where=path.absolute())
    try:
        schema = pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise InputError("the truth table is no Parquet file", where=path, seen=error, needed="Parquet") from error
    missing = sorted({truth.truth_id, *truth.labels.values()} - set(schema.names))
    if missing:
        seen = ", ".join(schema.names)
        raise InputError("the truth table lacks columns", where=path, seen=seen, needed=", ".join(missing))
    for label, column in truth.labels.items():
        if not _is_number(schema.field(column).type):
            kind = schema.field(column).type
            raise InputError(f"the truth of {label} is no number", where=f"{path}, {column}", seen=kind)
    if truth.id not in job.columns:
        seen = ", ".join(job.columns)
        raise InputError(
            "the catalogue will not have the id of the truth", where="truth.id", seen=seen, needed=truth.id
        )
    ours = _declared_type(job, job.columns[truth.id])
    if ours is not None:
        _check_ids(truth, ours, schema.field(truth.truth_id).type)


def against_truth(job: Job, stored: StoredCatalog) -> list[Evaluation]:
    """The catalogue beside the truth, one evaluation per label, over at most a million stars along the sky.

    Raises
    ------
    InputError
        As :func:`check_truth`, and if the truth has a star twice, which would count it twice.
    """
    truth = job.truth
    if truth is None:
        return []
    check_truth(job)
    labels = [label for label in truth.labels if label in job.units]
    stars, note = estimate_rows(job, stored, labels, [truth.id])
    _check_ids(truth, stars.schema.field(truth.id).type, pq.read_schema(truth.file).field(truth.truth_id).type)
    known = _looked_up(truth, stars[truth.id], labels)
    return [
        evaluation_of(job, stars, label, known[label], against="truth", kind="truth", note=note) for label in labels
    ]


def _looked_up(truth: Truth, ids: pa.ChunkedArray, labels: list[str]) -> dict[str, NDArray[np.float64]]:
    """The truth of each star, NaN where it has none; the file is read in batches, whatever its length."""
    values = {label: np.full(len(ids), np.nan) for label in labels}
    ids = ids.combine_chunks()
    first = pc.index_in(ids, value_set=ids).fill_null(-1).to_numpy(zero_copy_only=False)
    times = np.zeros(len(ids), dtype=np.int64)
    for batch in _batches(truth, labels):
        found = pc.index_in(batch.column(truth.truth_id).cast(ids.type), value_set=ids)
        hit = pc.and_(found.is_valid(), batch.column(truth.truth_id).is_valid()).to_numpy(zero_copy_only=False)
        place = found.fill_null(0).to_numpy(zero_copy_only=False)[hit]
        np.add.at(times, place, 1)
        for label in labels:
            values[label][place] = floats(pa.table({label: batch.column(truth.labels[label])}), label)[hit]
    if (times > 1).any():
        raise InputError("the ids of the truth table are not unique", where=truth.file, seen=truth.truth_id)
    known = first >= 0
    return {label: np.where(known, column[first], np.nan) for label, column in values.items()}


def _batches(truth: Truth, labels: list[str]) -> Iterator[pa.RecordBatch]:
    columns = list(dict.fromkeys([truth.truth_id, *(truth.labels[label] for label in labels)]))
    with pq.ParquetFile(truth.file) as file:
        yield from file.iter_batches(BATCH_ROWS, columns=columns)


def _declared_type(job: Job, source: str) -> pa.DataType | None:
    """Type of a column of the primary catalogue, as far as it is known before the import."""
    entry = job.catalogs[job.primary]
    if entry.survey is not None:
        column = load_survey(entry.survey).columns.get(source)
        return DTYPES[column.dtype] if column else None
    if entry.path is None or not Path(entry.path).is_dir():
        return None
    schema = open_stored(entry.path).schema
    return schema.field(source).type if source in schema.names else None


def _check_ids(truth: Truth, ours: pa.DataType, theirs: pa.DataType) -> None:
    if _kind(ours) == _kind(theirs) != "other":
        return
    raise InputError(
        "the ids of the catalogue and of the truth are of different kinds",
        where=f"{truth.id} and {truth.file}, {truth.truth_id}",
        seen=f"{ours} and {theirs}",
        needed="whole numbers in both, or text in both",
        cause="the wrong column is named as `truth.id` or `truth.truth_id`",
    )


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind):
        return "integer"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else "other"


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
