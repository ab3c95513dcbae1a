"""Which files of spectra an import finds, and in which order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stellarscale.catalog.spectra_files import by_directory, list_files, listing_digest, read_group, write_listing
from stellarscale.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.fits", "b/10.fits", "a/1.fits", "a/deep/3.fits.gz", "a/.hidden", ".git/x", "c.txt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return tmp_path / "in"


def names(folder: Path, *arguments: str | Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in list_files(arguments)["path"].to_pylist()]


def test_directories_are_searched_and_hidden_files_left_out(folder):
    assert names(folder, folder) == ["a/1.fits", "a/deep/3.fits.gz", "b/10.fits", "b/2.fits", "c.txt"]
    assert names(folder, folder / "b", folder / "c.txt") == ["b/10.fits", "b/2.fits", "c.txt"]


def test_patterns(folder):
    assert names(folder, folder / "*" / "*.fits") == ["a/1.fits", "b/10.fits", "b/2.fits"]
    assert names(folder, folder / "**" / "*.gz") == ["a/deep/3.fits.gz"]


def test_a_file_whose_name_is_a_pattern_is_that_file(folder):
    (folder / "[1].fits").write_bytes(b"x")
    assert names(folder, folder / "[1].fits") == ["[1].fits"]


def test_lists(folder, monkeypatch):
    monkeypatch.chdir(folder)
    Path("all.list").write_text("c.txt\n\n  a \nb/*.fits\n")
    assert names(folder, "@all.list") == ["c.txt", "a/1.fits", "a/deep/3.fits.gz", "b/10.fits", "b/2.fits"]


def test_sizes_and_times_are_noted(folder):
    listing = list_files([folder / "c.txt"])
    status = (folder / "c.txt").stat()
    assert listing.to_pylist() == [
        {"path": str(folder / "c.txt"), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.fits"], "does not exist"),
        (["*.nothing"], "does not exist"),
        (["@nothing.list"], "list of files cannot be read"),
        (["empty"], "no file to import"),
        (["b", "b/2.fits"], r"given twice.*2\.fits"),
    ],
)
def test_what_is_refused(folder, monkeypatch, arguments, words):
    monkeypatch.chdir(folder)
    Path("empty").mkdir()
    with pytest.raises(InputError, match=words):
        list_files(arguments)


def test_a_name_that_is_no_text_is_told(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.fits"
    with open(path, "wb") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="not valid UTF-8"):
        list_files([tmp_path])


def test_the_digest_follows_names_sizes_and_times(folder):
    before = listing_digest(list_files([folder]))
    assert listing_digest(list_files([folder])) == before
    assert listing_digest(list_files([folder / "b"])) != before
    os.utime(folder / "c.txt", ns=(5, 5))
    touched = listing_digest(list_files([folder]))
    assert touched != before
    os.rename(folder / "b" / "2.fits", folder / "b" / "3.fits")
    assert listing_digest(list_files([folder])) not in {before, touched}


def test_groups_are_read_back_in_order(folder, tmp_path):
    listing = list_files([folder])
    write_listing(listing, tmp_path)
    groups = [read_group(tmp_path, number, 2) for number in range(3)]
    assert [len(group) for group in groups] == [2, 2, 1]
    assert [str(path) for group in groups for path in group] == listing["path"].to_pylist()


def test_directories_are_summed(folder):
    summary = {os.path.relpath(item["path"], folder): item for item in by_directory(list_files([folder]))}
    assert list(summary) == ["*", "a/*", "a/deep/*", "b/*"]
    assert summary["b/*"]["files"] == 2
    assert summary["b/*"]["bytes"] == len("b/2.fits") + len("b/10.fits")
    assert summary["b/*"]["mtime_ns"] == max(path.stat().st_mtime_ns for path in (folder / "b").iterdir())
