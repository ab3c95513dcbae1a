"""Spectra of the user's own with a table of labels as references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, Table
from reference.mock_catalog import mock_table, write_mock
from reference.mock_laspm import LABELS, MockRun, mock_run

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.spectra_fits import read_spectra_fits
from stellarscale.engine.progress import Progress
from stellarscale.errors import InputError, RunError, SchemaError
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.products.library import build_library, read_labels
from stellarscale.products.steps import Session
from stellarscale.settings.laspm import LaspmJob, Library
from stellarscale.spectra_columns import spectra_of, spectrum_array

N = 120
GRID = WaveGrid.covering(6000, 6400)
NONE = {"labels are not finite": 0, "no spectrum": 0, "masked, or without positive flux": 0}
COLUMNS = {"teff": "Teff", "logg": "g", "m_h": "feh"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> MockRun:
    return mock_run(tmp_path_factory.mktemp("library"), n=N, n_ref=60, grid=GRID)


def labels_of(run: MockRun, **more) -> Table:
    """A table of labels in the user's own words, one row per spectrum, in another order than the sky's."""
    ids = read_columns(open_stored(run.spectra), ["spectrum_id"])["spectrum_id"].to_pylist()
    table = Table({"name": ids, **dict(zip(COLUMNS.values(), run.truth.T, strict=True)), **more})
    return table[::-1]


def job_of(run: MockRun, labels: Path, out: Path, **library) -> LaspmJob:
    given = {"spectra": "spectra", "labels": str(labels), "id": "name", "columns": COLUMNS} | library
    changes = {"out": str(out), "references": {"library": given}}
    return LaspmJob.model_validate(run.job.model_dump() | changes)


def build(job: LaspmJob, spectra: Path, *, update: bool = False):
    steps = []
    on = Session(None, Progress(enabled=False), update)
    return build_library(on, job, {"spectra": spectra}, steps), steps[0]


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "parquet"])
def test_spectra_and_labels_come_together_by_name(run, tmp_path, suffix):
    file, table = tmp_path / f"labels.{suffix}", labels_of(run)
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pandas(table.to_pandas(index=False)), file)
    else:
        table.write(file, format="ascii.csv" if suffix == "csv" else None)
    path, step = build(job_of(run, file, tmp_path / "run"), run.spectra)
    found = read_spectra_fits(path, labels=LABELS)
    assert (step["rows_in"], step["written"]) == (N, N)
    assert step["rejected"] == NONE
    assert found.table["spectrum_id"].to_pylist() == list(table["name"])
    assert found.table["star"].to_pylist() == list(table["name"]), "each spectrum is a star of its own"
    for label, column in COLUMNS.items():
        np.testing.assert_allclose(found.table[label], table[column], rtol=1e-12)
    stored = read_columns(open_stored(run.spectra), ["flux", "ivar"])
    np.testing.assert_array_equal(found.flux, spectra_of(stored, "flux")[::-1])
    np.testing.assert_array_equal(found.ivar, spectra_of(stored, "ivar")[::-1])
    assert found.grid == GRID
    assert not (path.parent / "spectra").exists(), "the copies on disk are removed"


def test_the_column_of_the_spectra_may_be_called_as_that_of_the_stars(run, tmp_path):
    table = labels_of(run)
    table.rename_column("name", "star")
    table.write(tmp_path / "labels.csv", format="ascii.csv")
    path, _ = build(job_of(run, tmp_path / "labels.csv", tmp_path / "run", id="star"), run.spectra)
    found = read_spectra_fits(path, labels=LABELS).table
    assert found["spectrum_id"].to_pylist() == found["star"].to_pylist() == list(table["star"])
    np.testing.assert_allclose(found["m_h"], table["feh"], rtol=1e-12)


def test_what_lacks_labels_or_a_spectrum_is_left_out_and_counted(run, tmp_path):
    table = labels_of(run)
    table["Teff"] = MaskedColumn(table["Teff"], mask=np.arange(N) == 3)
    table["feh"][5], table["g"][7], table["name"][9] = np.nan, np.inf, "elsewhere"
    table.write(tmp_path / "labels.csv", format="ascii.csv")
    path, step = build(job_of(run, tmp_path / "labels.csv", tmp_path / "run"), run.spectra)
    assert step["rejected"] == {**NONE, "labels are not finite": 3, "no spectrum": 1}
    assert step["rows_in"] == step["written"] + 4 == N
    found = read_spectra_fits(path, labels=LABELS)
    assert set(found.table["spectrum_id"].to_pylist()) == set(table["name"][[i not in (3, 5, 7, 9) for i in range(N)]])


def test_spectra_that_no_reference_can_be_are_left_out_and_counted(run, tmp_path):
    stored = read_columns(open_stored(run.spectra), open_stored(run.spectra).schema.names)
    flux, ivar = (np.array(spectra_of(stored, name)) for name in ("flux", "ivar"))
    ivar[2] = 0.0
    ivar[4, : GRID.n_pix // 5] = 0.0
    flux[6] *= -1.0
    for name, values in (("flux", flux), ("ivar", ivar)):
        place = stored.column_names.index(name)
        stored = stored.set_column(place, stored.schema.field(name), spectrum_array(values, name, GRID))
    write_mock(tmp_path / "spectra", stored, max_rows=250, stellarscale_id="spectrum_id")
    labels_of(run)[::-1].write(tmp_path / "labels.csv", format="ascii.csv")
    job = job_of(run, tmp_path / "labels.csv", tmp_path / "run")
    path, step = build(job, tmp_path / "spectra")
    assert step["rejected"] == NONE | {"masked, or without positive flux": 3}
    gone = {stored["spectrum_id"][row].as_py() for row in (2, 4, 6)}
    kept = set(read_spectra_fits(path).table["spectrum_id"].to_pylist())
    assert kept == set(stored["spectrum_id"].to_pylist()) - gone


def test_stars_have_the_names_of_their_column(run, tmp_path):
    table = labels_of(run, star=np.array(["a", "a", "b", ""] * (N // 4)))
    table["star"] = MaskedColumn(table["star"], mask=table["star"] == "")
    table.write(tmp_path / "labels.csv", format="ascii.csv")
    path, _ = build(job_of(run, tmp_path / "labels.csv", tmp_path / "run", star="star"), run.spectra)
    stars = read_spectra_fits(path).table["star"].to_pylist()
    assert stars == [None if star is np.ma.masked else str(star) for star in table["star"]]


def test_it_is_made_once_and_again_when_the_labels_change(run, tmp_path):
    file, out = tmp_path / "labels.csv", tmp_path / "run"
    table = labels_of(run)
    table.write(file, format="ascii.csv")
    path, first = build(job_of(run, file, out), run.spectra)
    made = path.stat().st_mtime_ns
    assert "resumed" not in first
    assert build(job_of(run, file, out), run.spectra)[1]["resumed"]
    assert path.stat().st_mtime_ns == made
    before = path.read_bytes()
    build(job_of(run, file, tmp_path / "other"), run.spectra)
    assert (tmp_path / "other" / "library" / path.name).read_bytes() == before, "equal inputs give equal files"
    table[1:].write(file, format="ascii.csv", overwrite=True)
    with pytest.raises(RunError, match=r"labels\.csv is new or has changed"):
        build(job_of(run, file, out), run.spectra)
    _, again = build(job_of(run, file, out), run.spectra, update=True)
    assert (again["written"], again.get("resumed")) == (N - 1, None)


def refused(run: MockRun, tmp_path: Path, table: Table, error=InputError, **library) -> str:
    table.write(tmp_path / "labels.csv", format="ascii.csv", overwrite=True)
    with pytest.raises(error) as told:
        build(job_of(run, tmp_path / "labels.csv", tmp_path / "run", **library), run.spectra, update=True)
    text = str(told.value)
    assert "labels.csv" in text
    return text


def test_labels_that_cannot_be_used_are_named(run, tmp_path):
    table = labels_of(run)
    bare = table.copy()
    bare.remove_column("feh")
    text = refused(run, tmp_path, bare)
    for part in ("lacks columns", "feh", "Teff"):
        assert part in text
    assert "lacks columns" in refused(run, tmp_path, table, star="star")
    twice = table.copy()
    twice["name"][1] = twice["name"][0]
    text = refused(run, tmp_path, twice)
    assert "spectrum twice" in text
    assert str(table["name"][0]) in text
    words = table.copy()
    words["g"] = words["g"].astype(str)
    words["g"][4] = "dwarf"
    text = refused(run, tmp_path, words)
    for part in ("no number", "column g", "dwarf"):
        assert part in text


def test_a_table_that_is_mended_is_taken_without_more_ado(run, tmp_path):
    table = labels_of(run)
    table["name"][1] = table["name"][0]
    table.write(tmp_path / "labels.csv", format="ascii.csv")
    job = job_of(run, tmp_path / "labels.csv", tmp_path / "run")
    with pytest.raises(InputError, match="twice"):
        build(job, run.spectra)
    table[1:].write(tmp_path / "labels.csv", format="ascii.csv", overwrite=True)
    assert build(job, run.spectra)[1]["written"] == N - 1


def test_labels_of_other_spectra_show_both_names(run, tmp_path):
    table = labels_of(run)
    table["name"] = [f"star{i}" for i in range(N)]
    text = refused(run, tmp_path, table)
    for part in ("no spectrum of the library has labels", "star0", "spec-000"):
        assert part in text
    table = labels_of(run)
    table["Teff"] = np.nan
    assert "no spectrum of the library has labels" in refused(run, tmp_path, table)


def test_ids_that_are_missing_are_no_spectrum_and_not_twice(run, tmp_path):
    table = labels_of(run)
    table["name"] = MaskedColumn(table["name"], mask=np.arange(N) < 2)
    table.write(tmp_path / "labels.csv", format="ascii.csv")
    _, step = build(job_of(run, tmp_path / "labels.csv", tmp_path / "run"), run.spectra)
    assert step["rejected"] == {**NONE, "no spectrum": 2}
    assert step["written"] == N - 2


def test_a_table_that_is_not_there_or_none(tmp_path):
    library = Library(spectra="spectra", labels="x", columns=COLUMNS)
    with pytest.raises(InputError, match="no table of labels"):
        read_labels(tmp_path / "absent.csv", library)
    (tmp_path / "odd.fits").write_bytes(b"SIMPLE  = nonsense")
    with pytest.raises(InputError, match=r"cannot be read.*odd\.fits"):
        read_labels(tmp_path / "odd.fits", library)
    pq.write_table(pa.table({"spectrum_id": ["a"]}), tmp_path / "labels.parquet")
    with pytest.raises(InputError, match=r"lacks columns.*Teff"):
        read_labels(tmp_path / "labels.parquet", library)
    (tmp_path / "odd.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"cannot be read.*odd\.parquet"):
        read_labels(tmp_path / "odd.parquet", library)


def test_a_catalogue_without_spectra_is_named(run, tmp_path):
    write_mock(tmp_path / "stars", mock_table(50))
    labels_of(run).write(tmp_path / "labels.csv", format="ascii.csv")
    with pytest.raises(SchemaError, match="flux"):
        build(job_of(run, tmp_path / "labels.csv", tmp_path / "run"), tmp_path / "stars")
