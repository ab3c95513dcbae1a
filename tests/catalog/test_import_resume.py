"""An import that was stopped goes on with what is still right; steps whose rows do not add up are errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference.import_inputs import SCHEMA, files_under, random_table, survey, write_files

from stellarscale.catalog import importer
from stellarscale.catalog.import_plan import ImportConfig, plan_import, prepare_output
from stellarscale.catalog.import_reduce import plan_partitions, reduce_pixel
from stellarscale.catalog.importer import (
    ImportSummary,
    find_duplicates,
    finish_import,
    import_files,
    reduce_partition,
    spill_source,
)
from stellarscale.catalog.reader import open_stored
from stellarscale.catalog.writer import WriteOptions
from stellarscale.errors import CatalogError, RowCountError


def test_a_resume_wants_the_same_columns_however_they_were_named(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", [random_table(50, 1)])
    prepare_output(plan_import(paths, SCHEMA, ImportConfig(columns=("source_id",))), tmp_path / "out")
    with pytest.raises(CatalogError, match="interrupted import"):
        import_files(paths, SCHEMA, tmp_path / "out")
    assert import_files(paths, SCHEMA, tmp_path / "out", ImportConfig(columns=("dec", "ra"))).rows_out == 50


def test_an_interrupted_import_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_files(tmp_path / "in", [random_table(200, seed) for seed in range(3)])
    config = ImportConfig(max_rows=60, batch_rows=50)
    whole = import_files(paths, SCHEMA, tmp_path / "whole", config)
    calls = 0

    def dies_at_third(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return reduce_pixel(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(importer, "reduce_pixel", dies_at_third)
        with pytest.raises(KeyboardInterrupt):
            import_files(paths, SCHEMA, tmp_path / "out", config)
    assert (tmp_path / "out" / ".stellarscale").is_dir()
    with pytest.raises(CatalogError):
        open_stored(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("stellarscale.catalog.spill.read_batches", None)  # every file must come from the spill
        again = import_files(paths, SCHEMA, tmp_path / "out", config)
    assert (again.rows_out, again.duplicates, again.bytes) == (whole.rows_out, whole.duplicates, whole.bytes)
    assert files_under(tmp_path / "out") == files_under(tmp_path / "whole")


def test_a_spill_that_died_halfway_is_made_again(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", [random_table(50, 1), random_table(50, 2, first=50)])
    plan = plan_import(paths, SCHEMA)
    spill_dir = prepare_output(plan, tmp_path / "out")
    spill_source(0, plan, spill_dir)
    torn = spill_dir / ".000001.0123"
    torn.mkdir()
    (torn / "rows.arrow").write_bytes(b"ARROW1")
    summary = import_files(paths, SCHEMA, tmp_path / "out")
    assert summary.rows_out == 100
    assert not (tmp_path / "out" / ".stellarscale").exists()


def test_an_interrupted_import_of_something_else_is_refused(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", [random_table(50, 1)])
    prepare_output(plan_import(paths, SCHEMA), tmp_path / "out")
    with pytest.raises(CatalogError, match=r"interrupted import.*--fresh"):
        import_files(paths, SCHEMA, tmp_path / "out", ImportConfig(max_rows=10))


def test_a_file_that_changed_stops_the_resume(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", [random_table(50, 1)])
    prepare_output(plan_import(paths, SCHEMA), tmp_path / "out")
    os.utime(paths[0], ns=(1, 1))
    with pytest.raises(CatalogError, match="interrupted import"):
        import_files(paths, SCHEMA, tmp_path / "out")


def test_digest_follows_what_the_result_depends_on(tmp_path: Path) -> None:
    paths = write_files(tmp_path, [random_table(5, 1), random_table(5, 2)])
    digest = plan_import(paths, SCHEMA).digest
    assert plan_import([str(path) for path in paths], SCHEMA, ImportConfig(threads=8)).digest == digest
    others = [
        plan_import(paths[:1], SCHEMA),
        plan_import(paths[::-1], SCHEMA),
        plan_import(paths, survey(alias="other")),
        plan_import(paths, SCHEMA, ImportConfig(max_rows=7)),
        plan_import(paths, SCHEMA, ImportConfig(write=WriteOptions(level=1))),
    ]
    assert len({digest, *(plan.digest for plan in others)}) == 6


def spilled(tmp_path: Path) -> tuple[Any, Path, list[Any]]:
    paths = write_files(tmp_path / "in", [random_table(40, 1), random_table(40, 2)])
    plan = plan_import(paths, SCHEMA, ImportConfig(max_rows=30))
    spill_dir = prepare_output(plan, tmp_path / "out")
    return plan, spill_dir, [spill_source(number, plan, spill_dir) for number in range(2)]


def test_a_partition_with_other_rows_than_counted_is_an_error(tmp_path: Path) -> None:
    plan, spill_dir, records = spilled(tmp_path)
    pixel, rows = plan_partitions(records, plan, spill_dir)[0]
    find_duplicates(records, plan, spill_dir)
    with pytest.raises(RowCountError, match=rf"partition {pixel}.*Seen: {rows}\. Needed: {rows + 1}\."):
        reduce_pixel(pixel, rows + 1, plan, spill_dir, tmp_path / "out")
    assert not (tmp_path / "out" / "dataset").exists()


def test_counts_that_do_not_add_up_are_an_error(tmp_path: Path) -> None:
    plan, spill_dir, records = spilled(tmp_path)
    counts = records[0].files(spill_dir).counts
    damaged = np.load(counts)
    damaged[1, 0] += 5
    np.save(counts, damaged)
    with pytest.raises(RowCountError, match=r"Seen: 85\. Needed: 80\."):
        plan_partitions(records, plan, spill_dir)


def test_a_lost_partition_stops_the_end(tmp_path: Path) -> None:
    plan, spill_dir, records = spilled(tmp_path)
    root = tmp_path / "out"
    partitions = plan_partitions(records, plan, spill_dir)
    duplicates = find_duplicates(records, plan, spill_dir)
    written = [reduce_partition(part, plan=plan, spill_dir=spill_dir, root=root) for part in partitions]
    with pytest.raises(RowCountError, match=rf"{80 - partitions[-1].rows} written \+ 0 rejected.*80 rows read"):
        finish_import(plan, root, spill_dir, records=records, written=written[:-1], duplicates=duplicates)
    assert spill_dir.is_dir()
    summary = finish_import(plan, root, spill_dir, records=records, written=written, duplicates=duplicates)
    assert isinstance(summary, ImportSummary)
    assert (summary.partitions, summary.bytes) == (len(partitions), sum(record.bytes for record in written))


def test_a_partition_written_twice_has_the_same_bytes(tmp_path: Path) -> None:
    plan, spill_dir, records = spilled(tmp_path)
    partition = plan_partitions(records, plan, spill_dir)[0]
    find_duplicates(records, plan, spill_dir)
    first, second = (
        reduce_partition(partition, plan=plan, spill_dir=spill_dir, root=tmp_path / "out") for _ in range(2)
    )
    assert first == second
