"""What a worker does to put the sample of one model together: which stars train, calibrate and test. No Dask here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.config import Classes, ModelSpec, Training
from stellarscale.errors import InputError
from stellarscale.models.split import held_out
from stellarscale.partition.features import class_code, floats

SKY_KEY = "_healpix_29"
TRAIN, HELD_OUT, TEST = "train", "held_out", "test:"
# Labelled stars that pass the cuts of the prediction and not those of the training: see build_sample.
CALIBRATE, HELD_OUT_WIDE = "calibrate", "held_out_wide"


@dataclass(frozen=True)
class TrainingSource:
    """Training rows of one label catalogue, as a HATS catalogue, and what its stars are for."""

    catalog: str
    role: str
    path: Path


@dataclass(frozen=True)
class SampleTask:
    """The training rows of every label catalogue, and where the samples of the models go.

    ``star`` is the id column of the primary catalogue; without one, a star is known by its place on the sky.
    ``carried`` are columns for calibration and plots, beside the inputs.
    """

    sources: tuple[TrainingSource, ...]
    out: Path
    training: Training
    classes: Classes | None
    seed: int
    star: str | None
    position: tuple[str, str]
    carried: tuple[str, ...] = ()

    def path(self, spec: ModelSpec) -> Path:
        """Where the sample of a model is."""
        return self.out / f"{spec.name}_sample.parquet"


def build_sample(task: SampleTask, spec: ModelSpec) -> dict[str, Any]:
    """Write the stars of a model in the order of the sky, each with its role (paper I, section 2.3).

    A star that tests does not train, and a star that an earlier catalogue gives a label is not taken from a later
    one. Of the stars that are left ``training.test_fraction`` is held out. Stars that pass the cuts of the prediction
    only do not train (Table 2): they calibrate the errors of the many stars in the catalogue that are like them, but
    for the same fraction, on which these errors are checked. Catalogues that test keep to the cuts of the training.
    All rows of a star that was observed more than once are in one place: what trains on one does not test on another.

    Raises
    ------
    InputError
        If fewer stars than ``training.min_stars`` train, those that are held out not counted.
    """
    tables = {source.catalog: _labelled(task, source, spec) for source in task.sources}
    rejected: dict[str, int] = {}
    tests = {s.catalog: _training_cuts(tables[s.catalog], rejected) for s in task.sources if s.role == "test"}
    further = [tables[source.catalog] for source in task.sources if source.role != "test"]
    pool = _sorted(_pooled(further, _stars(tests.values()), rejected))
    trains = pool["trains"].to_numpy()
    parts = [_with_roles(task, pool.filter(trains), (TRAIN, HELD_OUT))]
    _check_enough(task, spec, parts[0]["role"].to_pylist().count(TRAIN))
    wide, lost = _without(pool.filter(~trains), _stars(parts))
    _count(rejected, "another observation of the star passes the cuts of the training", lost)
    parts.append(_with_roles(task, wide, (CALIBRATE, HELD_OUT_WIDE)))
    parts += [_with_role(_sorted(table), [f"{TEST}{name}"] * table.num_rows) for name, table in tests.items()]
    sample = pa.concat_tables(parts).drop_columns([SKY_KEY, "trains"])
    with atomic_write(task.path(spec)) as temporary:
        pq.write_table(sample, temporary)
    roles = Counter(sample["role"].to_pylist())
    return {
        "rows_in": sum(table.num_rows for table in tables.values()),
        "rows_out": sample.num_rows,
        "rejected": rejected,
        "n_train": roles[TRAIN],
        "n_held_out": roles[HELD_OUT],
        "n_calibrate": roles[CALIBRATE],
        "n_held_out_wide": roles[HELD_OUT_WIDE],
        "n_test": sum(table.num_rows for table in tests.values()),
    }


def _training_cuts(table: pa.Table, rejected: dict[str, int]) -> pa.Table:
    kept = table.filter(table["trains"])
    _count(rejected, "test stars beyond the cuts of the training", table.num_rows - kept.num_rows)
    return kept


def _pooled(tables: Iterable[pa.Table], tested: pa.ChunkedArray | None, rejected: dict[str, int]) -> pa.Table:
    """Stars of several catalogues, each star once, without those that test."""
    pool: list[pa.Table] = []
    for table in tables:
        rest, lost = _without(table, tested)
        _count(rejected, "stars that test", lost)
        rest, lost = _without(rest, _stars(pool))
        _count(rejected, "label from an earlier catalogue", lost)
        pool.append(rest)
    return pa.concat_tables(pool)


def _with_roles(task: SampleTask, table: pa.Table, roles: tuple[str, str]) -> pa.Table:
    """Stars with the first role, and the second one for the share of them that is held out."""
    # Numbers in the order of first appearance: where no star repeats, the split is the plain one of the rows.
    encoded = table["star"].combine_chunks().dictionary_encode(null_encoding="encode")
    n, fraction = len(encoded.dictionary), task.training.test_fraction
    test = np.zeros(n, dtype=bool)
    if math.ceil(fraction * n) < n:  # else none would be left to train
        test = held_out(n, test_fraction=fraction, seed=task.seed)
    return _with_role(table, np.where(test[encoded.indices.to_numpy()], roles[1], roles[0]))


def _labelled(task: SampleTask, source: TrainingSource, spec: ModelSpec) -> pa.Table:
    """Rows of one catalogue that have the label and are of the model's classes; none if it does not give the label."""
    stored = open_stored(source.path)
    label = f"label_{spec.label}"
    columns = [*task.training.inputs, *task.carried, "trains", *(["class_code"] if spec.classes else [])]
    sky = [name for name in (task.star, *task.position) if name is not None]
    given = [label] if label in stored.schema.names else []
    table = read_columns(stored, list(dict.fromkeys([*columns, *sky, *given])))
    keep = np.isfinite(floats(table, label)) if given else np.zeros(table.num_rows, dtype=bool)
    if spec.classes and task.classes is not None:
        keep &= np.isin(floats(table, "class_code"), [class_code(task.classes, name) for name in spec.classes])
    return _in_shape(task, table.filter(pa.array(keep)), label, source.catalog)


def _in_shape(task: SampleTask, table: pa.Table, label: str, catalog: str) -> pa.Table:
    """The columns of the sample: key of the sky, inputs, what is carried, label, source, star, position, trains."""
    floats32 = list(dict.fromkeys([*task.training.inputs, *task.carried]))
    columns = {SKY_KEY: table[SKY_KEY]} | {name: table[name].cast(pa.float32()) for name in floats32}
    values = floats(table, label) if label in table.schema.names else np.empty(0)
    columns["label"] = pa.array(values, pa.float64())
    columns["source"] = pa.array([catalog] * table.num_rows, pa.string())
    columns["star"] = table[task.star or SKY_KEY]
    for name, column in zip(("ra", "dec"), task.position, strict=True):
        columns[name] = table[column].cast(pa.float64())
    return pa.table(columns | {"trains": table["trains"]})


def _with_role(table: pa.Table, roles: Sequence[str] | NDArray[np.str_]) -> pa.Table:
    return table.append_column("role", pa.array(roles, pa.string()))


def _stars(tables: Iterable[pa.Table]) -> pa.ChunkedArray | None:
    chunks = [chunk for table in tables for chunk in table["star"].chunks]
    return pa.chunked_array(chunks) if chunks else None


def _without(table: pa.Table, stars: pa.ChunkedArray | None) -> tuple[pa.Table, int]:
    """The table without these stars, and how many rows that takes."""
    if stars is None or table.num_rows == 0:
        return table, 0
    kept = table.filter(pc.invert(pc.is_in(table["star"], value_set=stars)))
    return kept, table.num_rows - kept.num_rows


def _count(rejected: dict[str, int], reason: str, lost: int) -> None:
    if lost:
        rejected[reason] = rejected.get(reason, 0) + lost


def _sorted(table: pa.Table) -> pa.Table:
    keys: NDArray[np.int64] = table[SKY_KEY].to_numpy()
    return table.take(pa.array(np.argsort(keys, kind="stable")))


def _check_enough(task: SampleTask, spec: ModelSpec, seen: int) -> None:
    if seen < task.training.min_stars:
        raise InputError(
            "too few stars to train a model",
            where=f"model {spec.name}",
            seen=seen,
            needed=f"{task.training.min_stars} (training.min_stars)",
            cause="the label catalogues hardly overlap, the cuts are too tight, or the class is rare",
        )
