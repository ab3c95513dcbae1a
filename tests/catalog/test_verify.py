"""Verification: a whole catalogue has no problem; every kind of damage is found and its file named."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog import layout
from stellarscale.catalog.index import write_index
from stellarscale.catalog.margins import write_margin
from stellarscale.catalog.reader import open_stored
from stellarscale.catalog.verify import verify
from stellarscale.catalog.writer import write_table
from stellarscale.flags import Flag

TABLE = mock_table(3000, seed=9)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_mock(tmp_path_factory.mktemp("verify") / "cat", TABLE, max_rows=800)


@pytest.fixture
def damaged(whole, tmp_path):
    """A copy to damage: its directory, its third partition and that one's file."""
    shutil.copytree(whole[0].root, tmp_path / "cat")
    pixel = whole[0].pixels[2]
    return tmp_path / "cat", pixel, layout.pixel_path(tmp_path / "cat", pixel)


def change(path, function):
    write_table(path, function(pq.ParquetFile(path).read()))


def only_problem(root, **options):
    report = verify(root, **options)
    assert not report.ok
    assert len(report.problems) == 1, [str(problem) for problem in report.problems]
    return report.problems[0]


def test_a_whole_catalogue_has_no_problem(whole):
    stored, records = whole
    for deep in (True, False):
        report = verify(stored.root, deep, checksums={record.pixel: record.checksum for record in records})
        assert report.problems == ()
        assert report.ok
        assert (report.partitions, report.rows) == (len(records), TABLE.num_rows)


def test_margins_and_indexes_are_verified_too(whole, tmp_path):
    stored, _ = whole
    write_margin(stored, tmp_path / "m", threshold_arcsec=900.0)
    write_index(stored, tmp_path / "i", column="source_id", rows_per_part=1000)
    assert verify(tmp_path / "m").problems == ()
    assert verify(tmp_path / "i").problems == ()
    pixel = open_stored(tmp_path / "m").pixels[0]
    change(
        layout.pixel_path(tmp_path / "m", pixel),
        lambda table: table.set_column(0, "_healpix_29", pa.array(np.full(len(table), pixel.first))),
    )
    assert any("inside of the partition" in problem.what for problem in verify(tmp_path / "m").problems)
    layout.index_part_path(tmp_path / "i", 1).unlink()
    assert only_problem(tmp_path / "i").file == "dataset/index/part.1.parquet"


def test_no_catalogue_at_all_is_a_problem(tmp_path):
    assert "no HATS catalogue" in only_problem(tmp_path).what
    assert "no such catalogue" in only_problem(tmp_path / "gone").what


@pytest.mark.parametrize("deep", [True, False])
def test_a_missing_file(damaged, deep):
    root, _, path = damaged
    path.unlink()
    problems = verify(root, deep).problems
    assert [problem.what for problem in problems if problem.file.endswith(path.name)] == ["the file is missing"]
    assert any("number of rows" in problem.what for problem in problems)


@pytest.mark.parametrize("deep", [True, False])
def test_a_file_too_many(damaged, deep):
    root, _, path = damaged
    shutil.copy(path, path.with_name("Npix=99.parquet"))
    problem = only_problem(root, deep=deep)
    assert problem.file.endswith("Npix=99.parquet")
    assert "not listed" in problem.what


@pytest.mark.parametrize("deep", [True, False])
def test_a_cut_file(damaged, deep):
    root, _, path = damaged
    path.write_bytes(path.read_bytes()[:-100])
    problem = next(p for p in verify(root, deep).problems if "damaged" in p.what)
    assert problem.file == path.relative_to(root).as_posix()


def test_lost_rows(damaged):
    root, _, path = damaged
    change(path, lambda table: table.slice(5))
    problems = verify(root, deep=False).problems
    assert any("_metadata" in p.what and p.file.endswith(path.name) for p in problems)
    assert any("than it says" in p.what and p.seen == str(TABLE.num_rows - 5) for p in problems)


def test_unsorted_rows(damaged):
    root, _, path = damaged
    change(path, lambda table: table.take(pa.array([1, 0, *range(2, len(table))])))
    assert verify(root, deep=False).ok
    problem = only_problem(root)
    assert "not sorted" in problem.what
    assert "row 1" in problem.seen


def test_rows_of_another_partition(damaged):
    root, _, path = damaged
    other = pq.ParquetFile(layout.pixel_path(root, open_stored(root).pixels[0])).read()

    def replace_rows(table):
        return pa.concat_tables([other.slice(0, 3), table.slice(3)])

    change(path, replace_rows)
    problems = [problem.what for problem in verify(root).problems]
    assert "rows outside of the partition" in problems
    assert any("duplicates" in problem for problem in problems)


def test_positions_that_moved(damaged):
    root, _, path = damaged

    def move(table):
        dec = table.column("dec").to_numpy().copy()
        dec[4] += 0.01
        return table.set_column(3, table.schema.field("dec"), pa.array(dec))

    change(path, move)
    problem = only_problem(root)
    assert "_healpix_29 does not belong" in problem.what
    assert problem.seen.startswith("1 rows, first row 4")


def test_positions_that_another_library_rounds_differently_are_fine(damaged):
    root, _, path = damaged

    def nudge(table):
        sky = table.column(0).to_numpy().copy()
        sky[0] ^= 1  # the pixel beside
        return table.set_column(0, "_healpix_29", pa.array(np.sort(sky)))

    change(path, nudge)
    assert verify(root).ok


def test_another_schema(damaged):
    root, _, path = damaged
    change(path, lambda table: table.set_column(5, "gmag", table.column("gmag").cast(pa.float64())))
    problem = only_problem(root, deep=False)
    assert (problem.seen, problem.needed) == ("gmag double", "gmag float")


def test_a_missing_column(damaged):
    root, _, path = damaged
    change(path, lambda table: table.drop_columns(["feh"]))
    assert only_problem(root).seen == "feh absent"


def test_null_ids(damaged):
    root, _, path = damaged

    def blank(table):
        ids = table.column("source_id").to_pylist()
        return table.set_column(1, table.schema.field("source_id"), pa.array([None, None, *ids[2:]], pa.int64()))

    change(path, blank)
    problem = only_problem(root)
    assert "null in the id column source_id" in problem.what
    assert problem.seen == "2 rows"


@pytest.mark.parametrize("marked", [True, False])
def test_ids_that_several_rows_carry_must_be_marked(damaged, marked):
    root, _, path = damaged

    def double(table):
        ids = table.column("source_id").to_numpy().copy()
        flags = table.column("quality_flags").fill_null(0).to_numpy().copy()
        ids[7] = ids[3]
        flags[[3, 7]] = (flags[[3, 7]] & ~int(Flag.DUPLICATE_ID)) | (int(Flag.DUPLICATE_ID) if marked else 0)
        table = table.set_column(1, table.schema.field("source_id"), pa.array(ids))
        return table.set_column(9, table.schema.field("quality_flags"), pa.array(flags))

    change(path, double)
    if marked:
        assert verify(root).ok
    else:
        assert only_problem(root).seen == "1 rows"


def test_another_checksum(damaged, whole):
    root, pixel, path = damaged
    checksums = {record.pixel: record.checksum for record in whole[1]}
    change(path, lambda table: table.set_column(4, table.schema.field("pmra"), pa.array(np.zeros(len(table)))))
    assert verify(root).ok
    problem = only_problem(root, checksums=checksums)
    assert (problem.file, problem.needed) == (path.relative_to(root).as_posix(), checksums[pixel])


def test_gathered_footers_of_other_partitions(damaged):
    root, pixel, path = damaged
    listed = layout.partition_info_path(root)
    listed.write_text(listed.read_text().replace(f"\n{pixel.order},{pixel.ipix}\n", "\n"))
    problems = {problem.file: problem.what for problem in verify(root, deep=False).problems}
    assert "other partitions" in problems["dataset/_metadata"]
    assert "not listed" in problems[path.relative_to(root).as_posix()]


@pytest.mark.parametrize("name", ["_metadata", "_common_metadata"])
def test_missing_schema_files(damaged, name):
    root, _, _ = damaged
    (root / "dataset" / name).unlink()
    assert only_problem(root).file == f"dataset/{name}"


def test_damaged_footers(damaged):
    root, _, _ = damaged
    layout.metadata_path(root).write_bytes(b"PAR1")
    assert only_problem(root).file == "dataset/_metadata"


def test_overlapping_partitions(damaged):
    root, pixel, _ = damaged
    with layout.partition_info_path(root).open("a") as file:
        file.write(f"{pixel.order + 1},{pixel.ipix * 4}\n")
    assert any("overlap" in problem.what for problem in verify(root, deep=False).problems)


def test_temporary_files_left(damaged):
    root, _, path = damaged
    path.with_name(".x.1-2.stellarscale-part").touch()
    assert "killed process" in only_problem(root).what


def test_a_problem_reads_as_a_sentence(damaged):
    root, _, path = damaged
    change(path, lambda table: table.drop_columns(["feh"]))
    text = str(only_problem(root))
    assert text.startswith("dataset/Norder=")
    assert text.endswith("seen feh absent, needed feh float")
