"""Files, columns, numbers and directories that an import refuses, before it writes anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference.import_inputs import SCHEMA, files_under, random_table, write_files

from stellarscale.catalog.import_plan import ImportConfig
from stellarscale.catalog.importer import import_files
from stellarscale.errors import CatalogError, ConfigError, InputError, SchemaError


def test_an_unknown_column_is_told_before_anything_is_written(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", [random_table(50, 1)])
    with pytest.raises(ConfigError, match=r"no such column.*'magg'.*did you mean 'mag'"):
        import_files(paths, SCHEMA, tmp_path / "out", ImportConfig(columns=("magg",)))
    assert not (tmp_path / "out").exists()


def test_a_finished_catalogue_is_not_overwritten(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", [random_table(50, 1)])
    import_files(paths, SCHEMA, tmp_path / "out")
    before = files_under(tmp_path / "out")
    with pytest.raises(CatalogError, match=r"finished catalogue.*dataset.*--fresh"):
        import_files(paths, SCHEMA, tmp_path / "out")
    assert files_under(tmp_path / "out") == before


def test_other_peoples_files_are_never_touched(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", [random_table(5, 1)])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(CatalogError, match=r"something else.*thesis\.tex"):
        import_files(paths, SCHEMA, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"
    with pytest.raises(InputError, match="is a file"):
        import_files(paths, SCHEMA, tmp_path / "out" / "thesis.tex")


def test_files_that_cannot_be_imported(tmp_path: Path) -> None:
    (good,) = write_files(tmp_path, [random_table(5, 1)])
    empty = tmp_path / "empty.parquet"
    empty.touch()
    cases: list[tuple[list[Path], str]] = [
        ([], "no file to import"),
        ([good, tmp_path / "absent"], "does not exist.*absent"),
        ([tmp_path], "a directory"),
        ([good, empty], r"empty\.parquet.*0 bytes"),
        ([good, tmp_path / "." / good.name], "given twice"),
    ]
    for files, message in cases:
        with pytest.raises(InputError, match=message):
            import_files(files, SCHEMA, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_must_have_the_same_columns(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", [random_table(5, 1), random_table(5, 2).drop_columns(["mag"])])
    message = r"part0\.parquet and .*part1\.parquet.*only in the first: mag; only in the second: none"
    with pytest.raises(SchemaError, match=message):
        import_files(paths, SCHEMA, tmp_path / "out")
    with pytest.raises(SchemaError, match="dec"):
        import_files(write_files(tmp_path, [random_table(5, 1).drop_columns(["dec"])]), SCHEMA, tmp_path / "out")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"max_rows": 0}, "max_rows"),
        ({"batch_rows": -1}, "batch_rows"),
        ({"threads": 0}, "threads"),
        ({"hashes_at_once": 0}, "hashes_at_once"),
        ({"min_order": 5, "finest_order": 4}, "min_order 5"),
        ({"min_order": -1}, "min_order -1"),
        ({"finest_order": 13}, "finest_order 13"),
    ],
)
def test_numbers_out_of_range(numbers: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImportConfig(**numbers)
