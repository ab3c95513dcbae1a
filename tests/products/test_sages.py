"""One row all the way: native files in, value-added catalogue and report out."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.verify import verify
from stellarscale.errors import RunError
from stellarscale.flags import Flag
from stellarscale.products import dispatch, sages
from stellarscale.products.inspect import run_status


@pytest.fixture(scope="module")
def finished(small_job, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    return out, sages.run(small_job(out), cluster="threads:2")


def test_rows_are_conserved_from_step_to_step(finished):
    out, summary = finished
    steps = {step["name"]: step for step in json.loads((out / "steps.json").read_text())}
    for name, step in steps.items():
        if name.startswith("import"):
            assert step["rows_in"] == step["written"] + step["rejected"], name
    assert steps["match gaia x sages"]["rows_in"] == steps["import gaia"]["written"]
    chain = steps["match gaia_x_sages_x_twomass_x_allwise x galex"]
    assert chain["written"] == steps["match gaia x sages"]["written"]
    assert steps["predict"]["rows_in"] == steps["predict"]["written"] == chain["written"] == summary["written"]
    training = steps["training rows from lamost"]
    assert training["rows_in"] == training["written"] + sum(training["rejected"].values())


def test_rejects_are_the_ones_the_mock_made(finished, mock_sky):
    out, _ = finished
    manifest = json.loads((mock_sky / "manifest.json").read_text())
    for name, survey in (("sages", "sages_dr1"), ("twomass", "twomass_psc")):
        expected = manifest["surveys"][survey]["expected_rejects"]
        total = sum(expected.values()) if isinstance(expected, dict) else expected
        assert total > 0
        assert pq.read_metadata(out / "catalogs" / name / "rejects.parquet").num_rows == total


def test_the_catalogue_is_sound_and_close_to_the_truth(finished, mock_sky):
    out, _ = finished
    assert not verify(out / "catalog").problems
    stored = open_stored(out / "catalog")
    stars = read_columns(stored, ["source_id", "teff", "logg", "fe_h", "quality_flags"])
    truth = pq.read_table(mock_sky / "truth" / "truth.parquet", columns=["source_id", "teff_k", "fe_h"])
    known = {i: t for i, t in zip(truth["source_id"].to_pylist(), truth["teff_k"].to_pylist(), strict=True) if i}
    teff = np.array([value if value is not None else np.nan for value in stars["teff"].to_pylist()])
    true = np.array([known[i] for i in stars["source_id"].to_pylist()])
    given = np.isfinite(teff)
    assert given.mean() > 0.5
    assert np.median(np.abs(teff - true)[given]) < 100
    assert np.median(np.abs(teff - true)[given]) < 0.3 * np.median(np.abs(true - np.median(true)))
    blank = stars["quality_flags"].to_numpy() & int(
        Flag.MISSING_FEATURE | Flag.FAILED_CUT | Flag.HIGH_EXTINCTION | Flag.LOW_PARALLAX_SNR
        | Flag.BEYOND_COLOUR_LIMIT | Flag.NO_MODEL_FOR_CLASS
    )  # fmt: skip
    assert ((blank > 0) == ~given).all(), "a parameter is missing exactly where a flag says why"


def test_ids_and_provenance_arrive(finished):
    out, summary = finished
    stored = open_stored(out / "catalog")
    ids = read_columns(stored, ["source_id"])["source_id"].to_pylist()
    gaia = read_columns(open_stored(out / "catalogs" / "gaia"), ["source_id"])["source_id"].to_pylist()
    assert set(ids) <= set(gaia)
    assert max(ids) > 2**53
    extra = stored.properties.extra
    digests = [key for key in extra if key.startswith("stellarscale_model_digest_")]
    assert len(digests) == len(summary["models"]) == 5
    assert len(extra["stellarscale_job_digest"]) == 64
    assert extra["stellarscale_id"] == "source_id"


def test_columns_carry_units_and_the_export_too(finished):
    out, summary = finished
    schema = open_stored(out / "catalog").schema
    assert schema.field("teff").metadata[b"unit"] == b"K"
    assert schema.field("parallax").metadata[b"unit"] == b"mas"
    table = Table.read(summary["exports"][0])
    assert len(table) == summary["written"]
    assert table["teff"].unit == "K"
    assert table["source_id"].dtype.kind == "i"


def test_the_report_has_every_part(finished):
    out, summary = finished
    page = (out / "report.html").read_text()
    for part in ("Kiel", "match gaia x sages", "truth", "held-out labels", "Importances", "data:image/png;base64"):
        assert part in page, part
    numbers = json.loads((out / "report.json").read_text())
    assert numbers["rows"] == summary["written"]
    labels = {"held-out labels", "held-out labels beyond the training cuts", "labels of apogee"}
    assert {row["against"] for row in summary["evaluations"]} == {*labels, "truth"}


def test_a_finished_run_is_not_redone(finished, small_job):
    out, summary = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    again = sages.run(small_job(out), cluster="threads:1")
    assert again["written"] == summary["written"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == before


def test_other_settings_are_refused(finished, small_job):
    out, _ = finished
    with pytest.raises(RunError, match="--fresh"):
        sages.run(small_job(out, "training.forest.max_depth=5"), cluster="threads:1")


def test_the_report_can_be_written_again(finished):
    out, _ = finished
    first = (out / "report.json").read_text()
    (out / "report.html").unlink()
    dispatch.rebuild_report(out)
    assert (out / "report.html").is_file()
    assert (out / "report.json").read_text() == first


def test_status_counts_the_tasks(finished):
    out, _ = finished
    status = run_status(out)
    assert {step["state"] for step in status["steps"]} == {"finished"}
    assert {"import", "crossmatch", "train", "predict", "training rows"} == {step["step"] for step in status["steps"]}


def test_workers_and_processes_give_the_same_bytes(finished, small_job, tmp_path):
    out, _ = finished
    sages.run(small_job(tmp_path / "other"), cluster="processes:2")
    for path in sorted((out / "catalog").rglob("Npix=*.parquet")):
        assert path.read_bytes() == (tmp_path / "other" / path.relative_to(out)).read_bytes()


def test_a_subset_gives_the_same_stars(finished, small_job, tmp_path):
    out, _ = finished
    whole = read_columns(open_stored(out / "catalogs" / "gaia_x_sages"), ["source_id", "ra", "dec", "sages_sage_id"])
    stars = whole.to_pandas()
    wanted = stars[(stars.dec > 0) & (stars.dec < 60)]
    from stellarscale.config import MatchStep
    from stellarscale.products.matching import match_catalogs
    from stellarscale.products.steps import session

    step = MatchStep(catalog="sages", radius_arcsec=1.0, keep="mutual", epoch="rows")
    with session("threads:1") as on:
        done = match_catalogs(
            on, out / "catalogs" / "gaia", out / "catalogs" / "sages", tmp_path / "part", step=step,
            subset="box:0,360,0,60",
        )  # fmt: skip
    part = read_columns(open_stored(tmp_path / "part"), ["source_id"])["source_id"].to_pylist()
    assert sorted(part) == sorted(wanted.source_id)
    assert done["rows_in"] < len(stars)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")  # of hats itself
def test_hats_accepts_every_catalogue_of_the_run(finished):
    validation = pytest.importorskip("hats.io.validation", reason="hats is not installed")
    out, _ = finished
    catalogs = [*sorted((out / "catalogs").iterdir()), out / "catalog"]
    assert len(catalogs) == 16
    assert [path.name for path in catalogs if not validation.is_valid_catalog(path, strict=True)] == []
