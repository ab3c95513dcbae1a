"""A catalogue of made-up spectra, imported once for all tests of this folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from reference.fake_spectra import COUNT, SCHEMA, SMALL, fakes_are_read, write_files

from stellarscale.catalog.importer import import_files
from stellarscale.catalog.reader import StoredCatalog, open_stored


@pytest.fixture(scope="session")
def spectra_files(tmp_path_factory) -> Path:
    """The folder of the files."""
    folder = tmp_path_factory.mktemp("spectra") / "in"
    write_files(folder, COUNT)
    return folder


@pytest.fixture(scope="session")
def spectra_cat(spectra_files) -> StoredCatalog:
    """The catalogue of all files. Read it, do not change it."""
    with fakes_are_read():
        import_files([spectra_files], SCHEMA, spectra_files.parent / "cat", SMALL)
    return open_stored(spectra_files.parent / "cat")


@pytest.fixture
def spectra_copy(spectra_cat, tmp_path) -> StoredCatalog:
    """A copy to spoil."""
    shutil.copytree(spectra_cat.root, tmp_path / "own")
    return open_stored(tmp_path / "own")
