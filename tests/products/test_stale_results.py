"""A job of the M stars that changed: no step takes what an earlier job left for its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from reference.mock_laspm import MockRun, mock_run

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.spectra_fits import LabelledSpectra, read_spectra_fits, write_spectra_fits
from stellarscale.errors import RunError
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.products import laspm
from stellarscale.products.dispatch import rebuild_report
from stellarscale.products.repeat_errors import accuracy_of
from stellarscale.settings.laspm import LaspmJob

GRID = WaveGrid.covering(6000, 6700)


@pytest.fixture(scope="module")
def mock(tmp_path_factory) -> MockRun:
    return mock_run(tmp_path_factory.mktemp("stale"), n=60, n_ref=60, grid=GRID)


def job_of(mock: MockRun, out: Path, **changes) -> LaspmJob:
    short = {"out": str(out), "truth": None, "report": {"examples": 0}}
    return LaspmJob.model_validate(mock.job.model_dump() | short | changes)


def mean_teff(out: Path) -> float:
    return float(np.nanmean(read_columns(open_stored(out / "catalog"), ["teff"])["teff"].to_numpy()))


def test_another_column_of_the_references_is_another_match(mock, tmp_path, monkeypatch):
    monkeypatch.setattr("stellarscale.products.laspm_reporting.report_run", lambda *about: {})
    given = read_spectra_fits(mock.references.path)
    hotter = pa.array(given.table["teff"].to_numpy() + 500.0)
    table = given.table.rename_columns({"teff": "teff_a"}).append_column("teff_b", hotter)
    file = tmp_path / "references.fits"
    write_spectra_fits(file, LabelledSpectra(given.flux, None, given.grid, table))
    first, second = (
        job_of(mock, tmp_path / "run", references={"file": str(file), "columns": {"teff": name}})
        for name in ("teff_a", "teff_b")
    )
    laspm.run(first)
    before = mean_teff(tmp_path / "run")
    with pytest.raises(RunError, match=r"columns\.teff was \"teff_a\", now \"teff_b\""):
        laspm.run(second)
    laspm.run(second, update=True)
    assert mean_teff(tmp_path / "run") == pytest.approx(before + 500.0, abs=0.1)


def test_the_report_has_no_section_of_a_step_that_the_job_no_longer_has(mock, tmp_path):
    laspm.run(job_of(mock, tmp_path / "run", leave_one_out=True))
    assert "leave_one_out" in json.loads((tmp_path / "run" / "report.json").read_text())
    done = laspm.run(job_of(mock, tmp_path / "run", exports=["csv"]))
    assert pcsv.read_csv(done["exports"][0]).num_rows == 60
    assert "leave_one_out" not in json.loads((tmp_path / "run" / "report.json").read_text())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"errors": {"star": "mjd", "accuracy": {"fe_h": 0.1}}}, "names fe_h: no label"),
        ({"errors": {"star": "mjd", "accuracy": "leave_one_out"}}, "`leave_one_out` must be true"),
        (
            {"errors": {"star": "mjd", "accuracy": "leave_one_out", "split": {"column": "mjd"}}, "leave_one_out": True},
            "has no mjd to split",
        ),
        ({"errors": {"star": "mjd"}, "matching": {"snr": None}}, r"`matching\.snr` names its column"),
        ({"errors": {"star": "mjd"}, "matching": {"columns": {"ra": "ra", "dec": "dec"}}}, "`matching.columns` keeps"),
    ],
)
def test_errors_that_cannot_be_made_are_refused_before_any_work(mock, tmp_path, changes, message):
    with pytest.raises(ValidationError, match=message):
        job_of(mock, tmp_path / "run", **changes)


def test_the_report_of_a_run_that_was_moved_can_be_written_again(m_run, tmp_path, monkeypatch):
    moved = shutil.copytree(m_run.out, tmp_path / "moved")
    job = json.loads((moved / "job.json").read_text()) | {"out": "runs/elsewhere"}
    (moved / "job.json").write_text(json.dumps(job))
    (moved / "report.html").unlink()
    monkeypatch.chdir(tmp_path)
    done = rebuild_report(Path("moved"))
    assert Path(done["report"]).samefile(moved / "report.html")


def test_the_scatter_of_a_handful_is_no_accuracy(mock, tmp_path):
    """One giant among the references: alone it would be called exact."""
    errors = {"star": "mjd", "accuracy": "leave_one_out", "split": {"column": "logg", "limit": 3.5}}
    job = job_of(mock, tmp_path / "run", leave_one_out=True, errors=errors)
    rng = np.random.default_rng(1)
    logg = np.append(np.full(39, 4.5), 1.0)
    columns = {"teff": 3500.0, "logg": logg, "m_h": 0.0}
    left_out = {f"{name}_left_out": value + rng.normal(0, 1, 40) * 0.1 for name, value in columns.items()}
    table = pa.table({name: np.broadcast_to(value, 40) for name, value in columns.items()} | left_out)
    (tmp_path / "run" / "leave_one_out").mkdir(parents=True)
    pq.write_table(table, tmp_path / "run" / "leave_one_out" / "labels.parquet")
    giants, dwarfs = accuracy_of(job)
    assert giants == pytest.approx(dwarfs, rel=0.2)
    assert all(value == pytest.approx(0.1, rel=0.5) for value in dwarfs)
