"""The stars that networks on images learn from, as arrays that a training can map into memory. No Dask here."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import StoredCatalog, open_stored, read_batches_of
from stellarscale.catalog.writer import write_table
from stellarscale.engine.image_training_rows import (
    PARALLAX,
    PARALLAX_ERROR,
    SPLIT,
    TrainingSetTask,
    check_training_set,
    no_stars,
    useful_stars,
)
from stellarscale.errors import CatalogError, InputError, RowCountError, SchemaError
from stellarscale.flags import COLUMN, Flag
from stellarscale.models.image_stars import FEWEST_STARS, TEST, TRAIN, VALIDATION, TrainingStars
from stellarscale.partition.features import floats
from stellarscale.stamp_columns import STAMP, StampFormat, stamps_of

Record = dict[str, Any]
STAMPS_FILE, TABLE_FILE = "stamps.npy", "table.parquet"


def build_training_set(task: TrainingSetTask) -> Record:
    """Write ``stamps.npy``, shape (n, bands, size, size), and the rows of ``table.parquet`` that go with it.

    Stars with an incomplete band, without any label and, where a network needs it, without parallax are left out; a
    star that is there twice is kept once. Each reason is counted. Which part of the split a star is in depends on
    the seed and its id alone.

    Returns
    -------
    dict
        ``rows_in``, ``rows_out``, ``rejected`` by reason, ``n_train``, ``n_validation``, ``n_test``, training stars
        of each label, ``stamps`` (their format) and ``digest``, the SHA-256 of all that networks learn from; columns
        that are carried along do not count, so that another comparison trains nothing again.

    Raises
    ------
    InputError
        If fewer than 50 stars are left to train a label on.
    SchemaError
        As :func:`check_training_set`.
    """
    layout = check_training_set(task)
    catalog = open_stored(task.source)
    rejected: Counter[str] = Counter()
    seen = np.empty(0, dtype=np.int64)
    chosen: list[tuple[Pixel, NDArray[np.bool_]]] = []
    tables = []
    for pixel in catalog.pixels:
        table, keep = useful_stars(task, catalog, pixel, seen, rejected)
        seen = np.union1d(seen, table["object_id"].to_numpy())
        chosen.append((pixel, keep))
        tables.append(table)
    rows_in = sum(len(keep) for _, keep in chosen)
    stars = pa.concat_tables(tables) if tables else no_stars(task, catalog)
    trained = _check_enough(task, stars, rejected)
    digest = _write(task, catalog, layout, chosen, stars)
    parts = np.bincount(stars[SPLIT].to_numpy(), minlength=3)
    return {
        "rows_in": rows_in,
        "rows_out": stars.num_rows,
        "rejected": dict(rejected),
        "n_train": int(parts[TRAIN]),
        "n_validation": int(parts[VALIDATION]),
        "n_test": int(parts[TEST]),
        "trained": trained,
        "stamps": asdict(layout),
        "bytes": sum((task.out / name).stat().st_size for name in (STAMPS_FILE, TABLE_FILE)),
        "digest": digest,
    }


def read_training_set(folder: Path, labels: tuple[str, ...]) -> TrainingStars:
    """A training set as a network's training takes it, with some of its labels.

    Raises
    ------
    CatalogError
        If a file is missing or damaged, or they do not belong together.
    """
    try:
        table = pq.read_table(folder / TABLE_FILE, partitioning=None)
        shape = np.load(folder / STAMPS_FILE, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        raise _not_a_set(folder, error) from error
    missing = [name for name in (*labels, PARALLAX, PARALLAX_ERROR, SPLIT) if name not in table.column_names]
    if missing or len(shape) != 4 or shape[0] != table.num_rows:
        raise _not_a_set(folder, f"{table.num_rows} rows and stamps {shape}, columns missing: {missing or 'none'}")
    return TrainingStars(
        stamps=folder / STAMPS_FILE,
        names=labels,
        labels=_columns(table, labels),
        parallax=_columns(table, (PARALLAX, PARALLAX_ERROR)),
        split=table[SPLIT].to_numpy(),
    )


def _columns(table: pa.Table, names: tuple[str, ...]) -> NDArray[np.float64]:
    result = np.empty((table.num_rows, len(names)))
    for column, name in enumerate(names):
        result[:, column] = floats(table, name)
    return result


def _not_a_set(folder: Path, seen: object) -> CatalogError:
    return CatalogError(
        "the training set cannot be used",
        where=folder,
        seen=seen,
        needed=f"{STAMPS_FILE} and {TABLE_FILE} as one step wrote them",
        cause="a file was removed or altered: remove the directory, and start again",
    )


def _check_enough(task: TrainingSetTask, stars: pa.Table, rejected: Counter[str]) -> dict[str, int]:
    """Training stars of each label."""
    train = stars.filter(pc.equal(stars[SPLIT], TRAIN))
    counts = {name: train.num_rows - train[name].null_count for name in task.labels}
    poorest = min(counts, key=lambda name: counts[name])
    if counts[poorest] < FEWEST_STARS:
        lost = ", ".join(f"{n} {reason}" for reason, n in rejected.items())
        raise InputError(
            "too few stars to train a network",
            where=f"label {poorest}, {task.source}",
            seen=f"{counts[poorest]} training stars; left out: {lost or 'none'}",
            needed=FEWEST_STARS,
            cause="the label catalogue hardly overlaps with the images, or the cuts on the label are too tight"
            if rejected["incomplete bands"] < FEWEST_STARS
            else "cut-outs of some band are missing, unreadable or smaller than `stamps.size_px`",
        )
    return counts


def _write(
    task: TrainingSetTask,
    catalog: StoredCatalog,
    layout: StampFormat,
    chosen: list[tuple[Pixel, NDArray[np.bool_]]],
    stars: pa.Table,
) -> str:
    """Both files; the table comes last. Returns the SHA-256 of stamps, ids, labels, parallaxes and split."""
    digest = hashlib.sha256()
    with atomic_write(task.out / STAMPS_FILE) as temporary, open(temporary, "wb") as file:
        header = {"descr": np.dtype(layout.dtype).newbyteorder("<").str, "fortran_order": False}
        np.lib.format.write_array_header_2_0(file, {**header, "shape": (stars.num_rows, *layout.shape)})
        written = sum(_write_pixel(task, catalog, part, file, digest) for part in chosen)
        if written != stars.num_rows:
            raise RowCountError("stamps were lost", where=task.source, seen=written, needed=stars.num_rows)
    write_table(task.out / TABLE_FILE, stars)
    digest.update(stars["object_id"].to_numpy().tobytes())
    digest.update(_columns(stars, (*task.labels, PARALLAX, PARALLAX_ERROR, SPLIT)).tobytes())
    return digest.hexdigest()


def _write_pixel(
    task: TrainingSetTask, catalog: StoredCatalog, part: tuple[Pixel, NDArray[np.bool_]], file: BinaryIO, digest: Any
) -> int:
    """Stamps of a partition's stars, a row group at a time; returns how many."""
    pixel, keep = part
    start = 0
    for batch in read_batches_of(catalog, pixel, columns=[STAMP]):
        mine = keep[start : start + batch.num_rows]
        start += batch.num_rows
        lacking = int(np.count_nonzero(batch[STAMP].is_null().to_numpy() & mine))
        if lacking:
            raise SchemaError(
                "stars without a stamp are not flagged",
                where=f"{task.source}, {pixel}, column {STAMP}",
                seen=f"{lacking} null",
                needed=f"{Flag.INCOMPLETE_BANDS.name} in {COLUMN}",
                cause="the catalogue was not made by the step that makes stamps",
            )
        stamps = np.ascontiguousarray(stamps_of(batch)[mine]).reshape(-1).view(np.uint8)
        file.write(stamps.data)
        digest.update(stamps.data)
    if start != len(keep):
        raise RowCountError(
            "the catalogue changed while it was read", where=f"{task.source}, {pixel}", seen=start, needed=len(keep)
        )
    return int(keep.sum())
