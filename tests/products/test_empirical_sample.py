"""The step from matched tables to sample and references: what it makes of inputs that do not fit together."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from reference.mock_laspm import mock_run
from reference.mock_m_sky import column, fits_parts, m_job

from stellarscale.catalog.reader import open_stored
from stellarscale.errors import ConfigError, InputError, SchemaError
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.products import laspm
from stellarscale.products.empirical_sample import NO_SPECTRUM

CLEANING = "references.sample.cleaning"


def refused(run, out, *overrides, error=InputError) -> str:
    with pytest.raises(error) as told:
        laspm.run(m_job(run.sky, out, f"store={run.store}", *overrides), cluster="threads:1")
    assert not (out / "sample" / "cleaned" / "references.fits").exists()
    return str(told.value)


def test_labels_of_the_sample_are_near_the_truth(m_run):
    """StarHorse's scatter (35 K, 0.05, 0.06 dex) and that of the other catalogues, cut at the tolerances."""
    _, _, sample = fits_parts(m_run.references.with_name("sample.fits"))
    truth = m_run.truth.filter(pc.is_in(m_run.truth["obsid"], pa.array(sample["obsid"].tolist())))
    by_id = {row["obsid"]: row for row in truth.select(["obsid", "teff", "logg", "m_h"]).to_pylist()}
    for label, limit in {"teff": 100.0, "logg": 0.25, "m_h": 0.25}.items():
        far = [abs(value - by_id[one][label]) for value, one in zip(sample[label], sample["obsid"], strict=True)]
        assert sorted(far)[int(0.9 * len(far))] < limit, label


def test_listed_variable_stars_are_not_in_the_sample(m_run):
    listed = csv.read_csv(m_run.sky / "variables" / "variables.csv.gz")["source_id"].drop_null().to_pylist()
    _, _, sample = fits_parts(m_run.references.with_name("sample.fits"))
    seen = set(column(m_run.store / "mstellar", "source_id")["source_id"].to_pylist())
    assert set(listed) & seen
    assert not set(listed) & set(sample["source_id"].tolist())


def test_both_branches_are_in_sample_and_references(m_run):
    for name in ("sample.fits", "references.fits"):
        _, _, table = fits_parts(m_run.references.with_name(name))
        assert set(table["branch"]) == {"dwarf", "giant"}, name
        assert (table["logg"][table["branch"] == "giant"] < 3.5).all()
        assert (table["logg"][table["branch"] == "dwarf"] > 3.5).all()


def test_spectra_without_a_file_are_rejected_for_that(m_run):
    rejects = pq.read_table(m_run.references.with_name("rejects.parquet"))
    lost = rejects.filter(pc.equal(rejects["reason"], NO_SPECTRUM))["obsid"]
    there = column(m_run.store / "spectra", "obsid")["obsid"]
    assert len(lost) > 0
    assert not pc.any(pc.is_in(lost, value_set=there.drop_null().combine_chunks())).as_py()


def test_the_fits_of_the_sample_and_its_catalogue_have_the_grid_of_the_spectra(m_run):
    header, flux, _ = fits_parts(m_run.references)
    grid = open_stored(m_run.store / "spectra").schema.field("flux").type.list_size
    assert flux.shape[1] == grid == header["NAXIS1"]


def test_spectra_of_another_survey_are_told(m_run, tmp_path):
    other = mock_run(tmp_path / "other", n=60, n_ref=40, grid=WaveGrid.covering(6000, 7600, 2e-4)).spectra
    text = refused(m_run, tmp_path / "run", f"catalogs.other={{path: {other}}}", "references.sample.spectra=other")
    for part in ("no spectrum of the sample is in the catalogue of spectra", str(other), "column obsid", "1000"):
        assert part in text


def test_a_catalogue_without_spectra_is_told(m_run, tmp_path):
    text = refused(m_run, tmp_path / "run", "references.sample.spectra=gaia", error=InputError)
    assert "gaia_dr3" in text
    assert "`spectrum` section" in text


@pytest.mark.parametrize(
    ("override", "error", "parts"),
    [
        (f"{CLEANING}.clustering.wave_aa=[3900, 8800]", ConfigError, ("clustering", "3900-8800")),
        (f"{CLEANING}.network.wave_aa=[6000, 8800]", ConfigError, ("network", "6000-8800")),
        ("references.sample.models={dwarf: '{data}/models/btsettl_like.fits'}", ConfigError, ("giant", "model")),
        ("references.sample.selection.cuts.min_snr=1000", InputError, ("no spectrum passes the cuts",)),
        ("references.sample.selection.cuts.ruwe=nowhere", SchemaError, ("nowhere",)),
        ("references.sample.selection.exclusions=[{name: binary, column: nowhere}]", SchemaError, ("nowhere",)),
    ],
)
def test_settings_that_do_not_fit_the_data_are_told(m_run, tmp_path, override, error, parts):
    text = refused(m_run, tmp_path / "run", override, error=error)
    for part in parts:
        assert part in text
