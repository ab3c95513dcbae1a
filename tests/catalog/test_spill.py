"""The map half of an import: what is spilled for one file, and when it is believed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stellarscale.catalog import spill
from stellarscale.catalog.duplicates import hash_ids, map_hashes
from stellarscale.catalog.import_plan import ImportConfig, ImportPlan, plan_import, prepare_output
from stellarscale.catalog.ordering import runs_of, stable_order, sum_counts
from stellarscale.catalog.spill import SpillRecord, spill_file
from stellarscale.errors import RowCountError, RunError, SchemaError
from stellarscale.kernels.healpix import pixel_of
from stellarscale.schema import SurveySchema
from stellarscale.surveys.read import CanonicalBatch, read_batches

SCHEMA = SurveySchema.model_validate(
    {
        "name": "mock",
        "alias": "mock",
        "title": "a mock survey",
        "id": "source_id",
        "columns": {
            "source_id": {"native": ["source_id"], "dtype": "int64", "required": True},
            "ra": {"native": ["ra"], "dtype": "float64", "required": True},
            "dec": {"native": ["dec"], "dtype": "float64", "required": True},
            "mag": {"native": ["mag"], "dtype": "float32"},
            "name": {"native": ["name"], "dtype": "string"},
        },
    }
)


def write_survey(path: Path, rows: int, *, seed: int = 0, bad: int = 0) -> Path:
    """A Parquet file with a few repeated places on the sky, and `bad` rows without a position."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, rows), rng.uniform(-90, 90, rows)
    ra[: rows // 5], dec[: rows // 5] = 180.0, 10.0
    place = rng.permutation(rows)
    ra, dec = ra[place], dec[place]
    dec[:bad] = np.nan
    table = pa.table(
        {
            "source_id": np.arange(rows, dtype=np.int64) + 10_000 * seed,
            "ra": ra,
            "dec": dec,
            "mag": rng.normal(15, 1, rows).astype(np.float32),
            "name": [None if i % 7 == 0 else f"star {i}" for i in range(rows)],
        }
    )
    pq.write_table(table, path)
    return path


def make_plan(tmp_path: Path, rows: int = 200, *, bad: int = 3, **numbers: Any) -> tuple[ImportPlan, Path]:
    path = write_survey(tmp_path / "survey.parquet", rows, bad=bad)
    plan = plan_import([path], SCHEMA, ImportConfig(**numbers))
    return plan, prepare_output(plan, tmp_path / "out")


def batches_of(record: SpillRecord, spill_dir: Path) -> list[pa.RecordBatch]:
    reader = pa.ipc.open_file(record.files(spill_dir).rows.read_bytes())
    return [reader.get_batch(number) for number in range(reader.num_record_batches)]


@given(hnp.arrays(np.int64, st.integers(0, 60), elements=st.integers(-3, 3)))
def test_order_is_stable_with_many_ties(keys: np.ndarray) -> None:
    np.testing.assert_array_equal(stable_order(keys), np.argsort(keys, kind="stable"))


def test_order_is_stable_in_long_arrays() -> None:
    rng = np.random.default_rng(1)
    for top in (10, 5_000, 2**61):
        keys = rng.integers(0, top, 20_000)
        np.testing.assert_array_equal(stable_order(keys), np.argsort(keys, kind="stable"))


@given(st.lists(st.integers(0, 9), max_size=40))
def test_runs_are_those_of_unique(values: list[int]) -> None:
    ordered = np.sort(np.array(values, dtype=np.int64))
    distinct, starts = runs_of(ordered)
    expected, first = np.unique(ordered, return_index=True)
    np.testing.assert_array_equal(distinct, expected)
    np.testing.assert_array_equal(starts, first)


@given(st.lists(st.dictionaries(st.integers(0, 30), st.integers(1, 9), max_size=10), max_size=5))
def test_sparse_histograms_add_up(parts: list[dict[int, int]]) -> None:
    arrays = [np.array([sorted(part), [part[key] for key in sorted(part)]], dtype=np.int64) for part in parts]
    total = sum_counts(arrays)
    dense = np.zeros(31, dtype=np.int64)
    for part in parts:
        for pixel, count in part.items():
            dense[pixel] += count
    np.testing.assert_array_equal(total[0], np.flatnonzero(dense))
    np.testing.assert_array_equal(total[1], dense[dense > 0])


@pytest.mark.parametrize("batch_rows", [1_000, 64, 7])
def test_every_batch_is_sorted_with_ties_in_file_order(tmp_path: Path, batch_rows: int) -> None:
    plan, spill_dir = make_plan(tmp_path, batch_rows=batch_rows)
    record = spill_file(plan.files[0], plan, spill_dir, 0)
    batches = batches_of(record, spill_dir)
    assert len(batches) == len(record.batches) > 0
    for batch, span in zip(batches, record.batches, strict=True):
        keys = batch.column(0).to_numpy()
        ids = batch.column("source_id").to_numpy()
        assert (np.diff(keys) >= 0).all()
        assert (np.diff(ids)[np.diff(keys) == 0] > 0).all()  # ids rise along the file
        assert (span.rows, span.first, span.last) == (len(keys), keys[0], keys[-1])
        np.testing.assert_array_equal(keys, pixel_of(batch["ra"].to_numpy(), batch["dec"].to_numpy()))


def test_every_row_is_spilled_unchanged_or_rejected(tmp_path: Path) -> None:
    plan, spill_dir = make_plan(tmp_path, batch_rows=50)
    record = spill_file(plan.files[0], plan, spill_dir, 0)
    assert (record.rows_in, record.rows_out, record.rejected, record.null_ids) == (200, 197, 3, 0)
    original = {row["source_id"]: row for row in pq.read_table(plan.files[0]).to_pylist()}
    spilled = [row for batch in batches_of(record, spill_dir) for row in batch.to_pylist()]
    for row in spilled:
        assert {key: row[key] for key in original[0]} == original[row["source_id"]]
    rejects = pa.ipc.open_file(record.files(spill_dir).rejects.read_bytes()).read_all()
    assert rejects["row"].to_pylist() == [0, 1, 2]
    assert {row["source_id"] for row in spilled} == set(original) - {0, 1, 2}


@pytest.mark.parametrize("order", [0, 3, 10])
def test_counts_are_those_of_the_finest_order(tmp_path: Path, order: int) -> None:
    plan, spill_dir = make_plan(tmp_path, batch_rows=30, finest_order=order)
    record = spill_file(plan.files[0], plan, spill_dir, 0)
    keys = np.concatenate([batch.column(0).to_numpy() for batch in batches_of(record, spill_dir)])
    pixels, counts = np.unique(keys >> (2 * (29 - order)), return_counts=True)
    np.testing.assert_array_equal(np.load(record.files(spill_dir).counts), [pixels, counts])


def test_counts_of_many_batches_are_summed_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "_COMPACT_AT", 10)
    plan, spill_dir = make_plan(tmp_path, batch_rows=8)
    record = spill_file(plan.files[0], plan, spill_dir, 0)
    assert np.load(record.files(spill_dir).counts)[1].sum() == record.rows_out == 197


def test_hash_runs_are_sorted_and_those_of_the_ids(tmp_path: Path) -> None:
    plan, spill_dir = make_plan(tmp_path, batch_rows=60)
    record = spill_file(plan.files[0], plan, spill_dir, 0)
    runs = record.hash_runs(spill_dir)
    hashes = map_hashes(runs.path)
    ends = np.cumsum(runs.lengths)
    for batch, end, length in zip(batches_of(record, spill_dir), ends, runs.lengths, strict=True):
        expected = np.sort(hash_ids(batch["source_id"])[0])
        np.testing.assert_array_equal(hashes[end - length : end], expected)
    assert ends[-1] == len(hashes) == 197


def test_a_spilled_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, spill_dir = make_plan(tmp_path)
    record = spill_file(plan.files[0], plan, spill_dir, 0)

    def refuse(*_: Any, **__: Any) -> Iterator[CanonicalBatch]:
        raise AssertionError("read again")

    monkeypatch.setattr(spill, "read_batches", refuse)
    assert spill_file(plan.files[0], plan, spill_dir, 0) == record


def test_a_spill_of_another_plan_is_made_anew(tmp_path: Path) -> None:
    plan, spill_dir = make_plan(tmp_path)
    spill_file(plan.files[0], plan, spill_dir, 0)
    other = plan_import(plan.files, SCHEMA, ImportConfig(batch_rows=50))
    record = spill_file(plan.files[0], other, spill_dir, 0)
    assert record.digest == other.digest != plan.digest
    assert len(record.batches) == 4


def test_record_survives_json(tmp_path: Path) -> None:
    plan, spill_dir = make_plan(tmp_path, batch_rows=90)
    record = spill_file(plan.files[0], plan, spill_dir, 0)
    assert SpillRecord.from_json(record.to_json()) == record


def test_threads_change_nothing(tmp_path: Path) -> None:
    plan, spill_dir = make_plan(tmp_path, batch_rows=16)
    spill_file(plan.files[0], plan, spill_dir, 0)
    before = {path.name: path.read_bytes() for path in (spill_dir / "000000").iterdir()}
    threaded = plan_import(plan.files, SCHEMA, ImportConfig(batch_rows=16, threads=3))
    assert threaded.threads_per_file == 3
    assert threaded.digest == plan.digest
    again = tmp_path / "again"
    spill_file(plan.files[0], threaded, again, 0)
    assert {path.name: path.read_bytes() for path in (again / "000000").iterdir()} == before


def _failing(error: Exception) -> Any:
    def reader(*arguments: Any, **options: Any) -> Iterator[CanonicalBatch]:
        yield next(read_batches(*arguments, **options))
        raise error

    return reader


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, spill_dir = make_plan(tmp_path, batch_rows=20)
    before = sorted(spill_dir.iterdir())
    monkeypatch.setattr(spill, "read_batches", _failing(ValueError("torn")))
    with pytest.raises(ValueError, match="torn"):
        spill_file(plan.files[0], plan, spill_dir, 0)
    assert sorted(spill_dir.iterdir()) == before


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, spill_dir = make_plan(tmp_path, batch_rows=20)
    monkeypatch.setattr(spill, "read_batches", _failing(OSError(errno.ENOSPC, "no space")))
    with pytest.raises(RunError, match=r"disk is full.*bytes free"):
        spill_file(plan.files[0], plan, spill_dir, 0)


def test_other_system_errors_pass_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, spill_dir = make_plan(tmp_path, batch_rows=20)
    monkeypatch.setattr(spill, "read_batches", _failing(PermissionError(errno.EACCES, "no")))
    with pytest.raises(PermissionError):
        spill_file(plan.files[0], plan, spill_dir, 0)


def _changed(change: Any) -> Any:
    def reader(*arguments: Any, **options: Any) -> Iterator[CanonicalBatch]:
        for batch in read_batches(*arguments, **options):
            yield change(batch)

    return reader


def test_a_reader_that_loses_rows_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, spill_dir = make_plan(tmp_path)
    monkeypatch.setattr(spill, "read_batches", _changed(lambda b: CanonicalBatch(b.table[1:], b.rejects, b.rows_in)))
    with pytest.raises(RowCountError, match=r"survey\.parquet.*196 kept \+ 3 rejected.*200 rows"):
        spill_file(plan.files[0], plan, spill_dir, 0)


def test_a_reader_with_other_columns_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, spill_dir = make_plan(tmp_path)

    def change(batch: CanonicalBatch) -> CanonicalBatch:
        return CanonicalBatch(batch.table.drop_columns(["mag"]), batch.rejects, batch.rows_in)

    monkeypatch.setattr(spill, "read_batches", _changed(change))
    with pytest.raises(SchemaError, match=r"other columns.*survey\.parquet"):
        spill_file(plan.files[0], plan, spill_dir, 0)
