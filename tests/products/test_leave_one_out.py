"""References matched against one another: the star's other spectra are no candidates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.mock_laspm import LABELS, mock_flux, mock_labels

from stellarscale.catalog.spectra_fits import LabelledSpectra, write_spectra_fits
from stellarscale.engine.spectra_tasks import ReferenceFile
from stellarscale.errors import RunError
from stellarscale.kernels.stats import robust_sigma
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.products.leave_one_out import leave_one_out
from stellarscale.settings.laspm import LaspmJob

N = 80
GRID = WaveGrid.covering(6000, 6700)
WORST = {"teff": 0.5, "logg": 0.5, "m_h": 1.0}  # of the scatter of the labels; so few bands say little of [M/H]


def job_of(out: Path, file: Path, **matching) -> LaspmJob:
    return LaspmJob.model_validate(
        {
            "product": "laspm",
            "name": "mock",
            "out": str(out),
            "spectra": "spectra",
            "catalogs": {"spectra": {"path": "spectra"}},
            "references": {"file": str(file)},
            "matching": {"windows_aa": [[6005, 6695]], "min_pixels": 100, **matching},
        }
    )


def write(path: Path, labels, *, stars=None, name: str = "star", ivar=None, noise: float = 0.002) -> ReferenceFile:
    rng = np.random.default_rng(5)
    flux = mock_flux(labels, GRID)
    flux = (flux + rng.normal(0, noise, flux.shape)).astype(np.float32)
    columns = {label: labels[:, place] for place, label in enumerate(LABELS)}
    columns |= {} if stars is None else {name: stars}
    return ReferenceFile(path, write_spectra_fits(path, LabelledSpectra(flux, ivar, GRID, pa.table(columns))))


def run(tmp_path: Path, file: ReferenceFile, **matching):
    step = leave_one_out(job_of(tmp_path / "run", file.path, **matching), file, update=False)
    return step, pq.read_table(tmp_path / "run" / "leave_one_out" / "labels.parquet")


@pytest.fixture(scope="module")
def labels():
    return mock_labels(N, np.random.default_rng(7))


def test_labels_come_back_from_the_other_stars(labels, tmp_path):
    step, table = run(tmp_path, write(tmp_path / "references.fits", labels))
    assert (step["rows_in"], step["written"], table.num_rows) == (N, N, N)
    for place, label in enumerate(LABELS):
        np.testing.assert_array_equal(table[label], labels[:, place])
        residual = table[f"{label}_left_out"].to_numpy() - labels[:, place]
        told = step["numbers"][label]
        assert told["n"] == N
        assert told["robust_sigma"] == pytest.approx(robust_sigma(residual))
        assert told["bias"] == pytest.approx(np.median(residual))
        assert 0 < told["robust_sigma"] < WORST[label] * labels[:, place].std()
    [section] = json.loads((tmp_path / "run" / "leave_one_out" / "sections.json").read_text())
    assert section["numbers"]["plain"] == step["numbers"]
    assert "<img" in section["html"]


@pytest.mark.parametrize("name", ["star", "source_id"])
def test_other_spectra_of_the_star_are_no_candidates(labels, tmp_path, name):
    pairs = np.repeat(labels[: N // 2], 2, axis=0)
    stars = np.repeat(np.arange(N // 2), 2) + (1 << 60)
    given = stars if name == "source_id" else [str(star) for star in stars]
    _, apart = run(tmp_path / "apart", write_in(tmp_path / "apart", pairs, stars=given, name=name, noise=1e-4))
    _, mixed = run(tmp_path / "mixed", write_in(tmp_path / "mixed", pairs, noise=1e-4))
    away, near = (np.abs(t["teff_left_out"].to_numpy() - pairs[:, 0]) for t in (apart, mixed))
    assert np.median(near) < 5, "a twin of the spectrum is the best reference"
    assert np.median(away) > 4 * np.median(near)


def write_in(folder: Path, labels, **given) -> ReferenceFile:
    folder.mkdir()
    return write(folder / "references.fits", labels, **given)


def test_spectra_without_the_name_of_a_star_are_stars_of_their_own(labels, tmp_path):
    _, blank = run(tmp_path / "blank", write_in(tmp_path / "blank", labels, stars=pa.nulls(N, pa.string())))
    _, none = run(tmp_path / "none", write_in(tmp_path / "none", labels))
    assert blank.equals(none)


def test_a_star_without_others_has_no_labels(labels, tmp_path):
    file = write(tmp_path / "references.fits", labels[:6], stars=["one"] * 6)
    step, table = run(tmp_path, file)
    assert np.isnan(table["teff_left_out"].to_numpy()).all()
    assert step["numbers"] == {}


def test_masked_pixels_have_no_say(labels, tmp_path):
    ivar = np.full((N, GRID.n_pix), 2.5e5, np.float32)
    rng = np.random.default_rng(2)
    ivar[rng.random(ivar.shape) < 0.02] = 0.0
    step, table = run(tmp_path, write(tmp_path / "references.fits", labels, ivar=ivar))
    assert np.isfinite(table["teff_left_out"].to_numpy()).all()
    assert step["numbers"]["teff"]["robust_sigma"] < 0.6 * labels[:, 0].std()


def test_identical_references_count_once(labels, tmp_path):
    twice = np.concatenate([labels, labels[:1]])
    file = write(tmp_path / "references.fits", twice, noise=0.0)
    step, table = run(tmp_path, file)
    assert step["rows_in"] == N
    assert table["row"].to_pylist() == list(range(N))


def test_it_is_done_once_and_again_when_the_matching_changes(labels, tmp_path):
    file = write(tmp_path / "references.fits", labels)
    run(tmp_path, file)
    assert run(tmp_path, file)[0]["resumed"]
    with pytest.raises(RunError, match=r"k was 5, now 3"):
        run(tmp_path, file, k=3)
    job = job_of(tmp_path / "run", file.path, k=3)
    assert "resumed" not in leave_one_out(job, file, update=True)
