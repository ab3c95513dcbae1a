"""Two small catalogues, a mock sky with the demo job, a finished run on mock spectra of M stars; each made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference.command_line import import_both, write_files
from reference.mock_m_sky import MRun, run_m_sky, write_m_sky

from stellarscale.config import load_job
from stellarscale.simulate import simulate_sky

SMALL = (
    "training.forest.n_estimators=12",
    "training.forest.backend=sklearn",
    "training.min_stars=10",
    "catalogs.gaia.max_rows=3000",
    "catalogs.sages.max_rows=3000",
)


@pytest.fixture(scope="session")
def survey_files(tmp_path_factory) -> tuple[Path, Path]:
    """Gaia and a user's table, as files. Read them, do not change them."""
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="session")
def catalogs(tmp_path_factory) -> tuple[Path, Path]:
    """The two tables imported. Read them, do not change them."""
    return import_both(tmp_path_factory.mktemp("catalogs"))


@pytest.fixture
def out(tmp_path) -> Path:
    """A directory that is not there yet."""
    return tmp_path / "out"


@pytest.fixture(scope="session")
def mock_sky(tmp_path_factory) -> Path:
    """A sky of 6,000 stars in the surveys' own files."""
    out = tmp_path_factory.mktemp("sky")
    simulate_sky(rows=6000, seed=3, out=out)
    return out


@pytest.fixture(scope="session")
def small_job(mock_sky):
    """The demo job on the small sky, for a given output directory."""

    def make(out: Path, *overrides: str):
        return load_job("demo", [f"data={mock_sky}", f"out={out}", *SMALL, *overrides])

    return make


@pytest.fixture(scope="session")
def m_run(tmp_path_factory) -> MRun:
    """The shipped job of the M stars, finished on a small mock survey. Read it, do not change it."""
    root = tmp_path_factory.mktemp("m_stars")
    return run_m_sky(write_m_sky(root / "sky"), root / "run")


@pytest.fixture(scope="module")
def no_report():
    """Runs of the M stars end without the pages of their reports, which take longer than the rest of a short job."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stellarscale.products.laspm_reporting.report_run", lambda job, out, steps: {})
        yield


@pytest.fixture(scope="module")
def acf_one_core():
    """Networks of tests this small gain nothing from more."""
    from reference.mock_acf import one_core  # here, because the other products' tests do without torch

    with one_core():
        yield


@pytest.fixture(scope="module")
def acf_run(acf_one_core):
    """The run of the small acf mock that all tests share; none may change it."""
    from reference.mock_acf import finished_run

    return finished_run()
