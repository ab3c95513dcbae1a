"""Input that the product laspm cannot use: a clear error before the work, or a record."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from reference.command_line import refused
from reference.mock_m_sky import GRID, LABELS, SAMPLE, WINDOWS, column, m_job, steps_of, with_references

from stellarscale.catalog.spectra_fits import LabelledSpectra, read_spectra_fits, write_spectra_fits
from stellarscale.config import load_job
from stellarscale.errors import ConfigError, InputError, SchemaError, StellarscaleError
from stellarscale.kernels.stats import robust_sigma
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.products import laspm

pytestmark = pytest.mark.usefixtures("no_report")


def told(run, out: Path, *overrides: str, error: type[StellarscaleError] = InputError) -> str:
    """What a short job says that cannot work; it has not begun to match."""
    with pytest.raises(error) as caught:
        laspm.run(with_references(run, out, *overrides), cluster="threads:1")
    assert not (out / "matched").exists()
    assert not (out / "catalog").exists()
    return str(caught.value)


@pytest.fixture(scope="module")
def given(m_run) -> LabelledSpectra:
    return read_spectra_fits(m_run.references)


def write(path: Path, given: LabelledSpectra, *, grid=None, table=None, flux=None) -> str:
    spectra = given.flux if flux is None else flux
    made = LabelledSpectra(spectra, None, grid or given.grid, given.table if table is None else table)
    write_spectra_fits(path, made)
    return f"references={{file: {path}}}"


# ---- references


def test_references_on_another_grid(m_run, given, tmp_path):
    for name, grid in {
        "step": WaveGrid(given.grid.start_dex, 1.9e-4, given.grid.n_pix + 40),
        "shift": WaveGrid(given.grid.start_dex - 3e-5, given.grid.step_dex, given.grid.n_pix + 1),
    }.items():
        wider = np.pad(given.flux, ((0, 0), (0, grid.n_pix - given.grid.n_pix)), mode="edge")
        file = write(tmp_path / f"{name}.fits", given, grid=grid, flux=wider)
        text = told(m_run, tmp_path / name, file, "matching.windows_aa=[[6050, 7500]]")
        assert "another wavelength grid than the spectra" in text, name


def test_references_that_do_not_cover_the_window(m_run, given, tmp_path):
    grid = WaveGrid(given.grid.start_dex, given.grid.step_dex, given.grid.n_pix - 50)
    file = write(tmp_path / "short.fits", given, grid=grid, flux=given.flux[:, :-50])
    text = told(m_run, tmp_path / "run", file)
    for part in ("do not cover the wavelengths", "short.fits", "6000-7600"):
        assert part in text


def test_spectra_that_do_not_cover_the_window(m_run, given, tmp_path):
    grid = WaveGrid(given.grid.start_dex, given.grid.step_dex, given.grid.n_pix + 60)
    wider = np.pad(given.flux, ((0, 0), (0, 60)), mode="edge")
    file = write(tmp_path / "wide.fits", given, grid=grid, flux=wider)
    text = told(m_run, tmp_path / "run", file, "matching.windows_aa=[[6000, 7700]]")
    assert "spectra do not cover the wavelengths" in text


def test_references_without_labels(m_run, given, tmp_path):
    bare = tmp_path / "bare.fits"
    with fits.open(m_run.references) as hdus:
        fits.HDUList([hdus[0]]).writeto(bare)
    text = told(m_run, tmp_path / "a", f"references={{file: {bare}}}")
    assert "no labels" in text
    assert "bare.fits" in text
    text = told(m_run, tmp_path / "b", write(tmp_path / "two.fits", given, table=given.table.drop(["m_h"])))
    for part in ("no such label", "m_h", "two.fits"):
        assert part in text
    teff = given.table["teff"].to_numpy().copy()
    teff[[2, 5]] = np.nan
    place = given.table.column_names.index("teff")
    holes = given.table.set_column(place, "teff", pa.array(teff))
    text = told(m_run, tmp_path / "c", write(tmp_path / "holes.fits", given, table=holes))
    for part in ("have no teff", "rows 2, 5", "holes.fits"):
        assert part in text


def test_references_under_other_names_are_found_when_told(m_run, given, tmp_path):
    names = ["T" if name == "teff" else name for name in given.table.column_names]
    file = write(tmp_path / "named.fits", given, table=given.table.rename_columns(names))
    assert "no such label" in told(m_run, tmp_path / "a", file)
    path = tmp_path / "named.fits"
    job = with_references(m_run, tmp_path / "b", f"references={{file: {path}, columns: {{teff: T}}}}")
    assert laspm.run(job, cluster="threads:1")["written"] == m_run.done["written"]


def test_duplicate_references_count_once_and_are_told(m_run, given, tmp_path, caplog):
    rows = [*range(len(given.flux)), 3]
    file = write(tmp_path / "twice.fits", given, flux=given.flux[rows], table=given.table.take(rows))
    with caplog.at_level(logging.WARNING):
        laspm.run(with_references(m_run, tmp_path / "run", file), cluster="threads:1")
    assert f"row {len(rows) - 1} is that of row 3" in caplog.text
    ids = np.array(column(tmp_path / "run" / "catalog", "reference_ids")["reference_ids"].to_pylist())
    assert ids.max() < len(given.flux)


def test_references_with_flux_that_is_no_spectrum(m_run, given, tmp_path):
    flux = given.flux.copy()
    flux[4] = np.nan
    text = told(m_run, tmp_path / "a", write(tmp_path / "nan.fits", given, flux=flux))
    assert "rows 4" in text
    flux[4] = -1.0
    text = told(m_run, tmp_path / "b", write(tmp_path / "negative.fits", given, flux=flux))
    for part in ("not positive", "rows 4", "negative.fits"):
        assert part in text


# ---- spectra


def test_a_catalogue_of_stars_in_place_of_spectra(m_run, tmp_path):
    text = told(m_run, tmp_path / "run", f"catalogs.spectra.path={m_run.store / 'gaia'}", error=SchemaError)
    assert "flux" in text


def test_columns_that_the_spectra_do_not_have(m_run, tmp_path):
    text = told(m_run, tmp_path / "run", "matching.columns={plate: plate}", error=SchemaError)
    assert "plate" in text


# ---- files that are not there, before any work


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("references={file: nowhere.fits}", "references.file"),
        (
            "references={library: {spectra: spectra, labels: nowhere.csv, columns: {teff: t, logg: l, m_h: m}}}",
            "library.labels",
        ),
        ("references.sample.models={dwarf: nowhere.fits, giant: nowhere.fits}", "models dwarf"),
        ("references.sample.selection.exclusions=[{name: binaries, file: nowhere.csv}]", "exclusions binaries"),
        ("truth.file=nowhere.parquet", "truth.file"),
        ("report.isochrones={file: nowhere.csv}", "report.isochrones.file"),
        ("catalogs.spectra.files=[nowhere]", "catalogs.spectra"),
        ("catalogs.gaia.files=[nowhere]", "catalogs.gaia"),
    ],
)
def test_missing_files_are_told_at_once(m_run, tmp_path, override, where):
    job = m_job(m_run.sky, tmp_path / "out", override)
    with pytest.raises(InputError, match="does not exist") as caught:
        laspm.plan(job)
    assert where in str(caught.value)
    assert "nowhere" in str(caught.value)
    with pytest.raises(InputError, match="nowhere"):
        laspm.run(job)
    assert not (tmp_path / "out").exists()


def test_the_command_line_tells_the_same_in_one_paragraph(m_run, tmp_path):
    settings = [f"data={m_run.sky}", f"out={tmp_path / 'out'}", GRID, WINDOWS, *SAMPLE, "references={file: no.fits}"]
    words = [word for setting in settings for word in ("--set", setting)]
    assert "references.file" in refused("run", "laspm", *words)
    assert "references.file" in refused("run", "laspm", "--dry-run", *words)


def test_a_run_never_deletes_its_input(m_run):
    job = with_references(m_run, m_run.store)
    with pytest.raises(StellarscaleError, match="nothing was touched"):
        laspm.run(job, fresh=True)
    assert (m_run.store / "spectra" / "hats.properties").exists()


# ---- settings


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("references={}", "exactly one of `file`, `sample`, `library`"),
        ("references={file: a.fits, library: {spectra: spectra, labels: b.csv, columns: {}}}", "exactly one"),
        ("spectra=nowhere", "not declared: nowhere"),
        ("references.sample.attach=[{catalog: nowhere, columns: {a: b}}]", "not declared: nowhere"),
        ("attach=[{catalog: mstellar, columns: {teff: teff}}, {catalog: gaia, columns: {teff: ra}}]", "one name: teff"),
        ("attach=[{catalog: mstellar, columns: {obsid: obsid}}]", "one name: obsid"),
        ("matching.order=3", "matching.order"),
        ("matching.windows_aa=[[7000, 6000]]", "holds no wavelength"),
        ("training.min_stars=3", "training"),
    ],
)
def test_a_wrong_setting_is_told(override, words):
    with pytest.raises(ConfigError, match=words):
        load_job("laspm", [override])


# ---- a library of the user's own


def library(run, file: Path, out: Path, *overrides: str):
    given = f"{{spectra: spectra, labels: {file}, columns: {{teff: t, logg: g, m_h: z}}, star: star}}"
    return with_references(run, out, f"references={{library: {given}}}", "leave_one_out=true", *overrides)


def labels_of(run) -> dict[str, list]:
    """The truth of the good spectra as a table of labels in other words."""
    truth = run.truth.filter(pa.array([not bad for bad in run.truth["bad_file"].to_pylist()]))
    truth = truth.filter(pa.array(truth["snr_i"].to_numpy() > 30))
    names = {"spectrum_id": "spectrum_id", "t": "teff", "g": "logg", "z": "m_h", "star": "source_id"}
    return {name: truth[column].to_pylist() for name, column in names.items()}


def write_csv(file: Path, columns: dict[str, list]) -> Path:
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_library_gives_parameters_and_leaves_the_own_star_out(m_run, tmp_path):
    labels = labels_of(m_run)
    assert len(set(labels["star"])) < len(labels["star"]), "some stars have several spectra"
    job = library(m_run, write_csv(tmp_path / "labels.csv", labels), tmp_path / "run")
    done = laspm.run(job, cluster="threads:2")
    assert done["written"] == m_run.done["written"]
    step = steps_of(tmp_path / "run")["library of references"]
    assert step["written"] + sum(step["rejected"].values()) == len(labels["t"])
    assert step["rejected"]["no spectrum"] == 0
    found = column(tmp_path / "run" / "catalog", "spectrum_id", *LABELS).to_pylist()
    true = dict(zip(labels["spectrum_id"], labels["t"], strict=True))
    own = [row["teff"] - true[row["spectrum_id"]] for row in found if row["spectrum_id"] in true and row["teff"]]
    left_out = steps_of(tmp_path / "run")["leave one out"]["numbers"]["teff"]
    assert left_out["n"] == step["written"]
    assert 2 * robust_sigma(np.array(own)) < left_out["robust_sigma"] < 100, "a spectrum finds itself in the catalogue"


def test_labels_that_cannot_be_used_stop_the_run(m_run, tmp_path):
    labels = labels_of(m_run)
    file = tmp_path / "labels.csv"
    for change, words in (
        ({"star": None}, "lacks columns.*star"),
        ({"spectrum_id": [labels["spectrum_id"][0], *labels["spectrum_id"][:-1]]}, "spectrum twice"),
        ({"spectrum_id": [f"other-{i}" for i in range(len(labels["t"]))]}, "no spectrum of the library has labels"),
        ({"t": ["nan"] * len(labels["t"])}, "no spectrum of the library has labels"),
    ):
        columns = {name: values for name, values in {**labels, **change}.items() if values is not None}
        job = library(m_run, write_csv(file, columns), tmp_path / "run")
        with pytest.raises(InputError, match=words):
            laspm.run(job, cluster="threads:1", update=True)
    assert not (tmp_path / "run" / "catalog").exists()
