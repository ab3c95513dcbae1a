"""Stars unlike the training stars of a run on images: flagged, kept, told in the report; directories without them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from reference.mock_acf import LABELS, acf_job, acf_mock, column

from stellarscale.engine.image_scoring import held_out_file
from stellarscale.errors import ConfigError, ModelError
from stellarscale.flags import Flag
from stellarscale.products import acf
from stellarscale.products.acf_reporting import held_out_evaluations
from stellarscale.products.image_models import stored_networks
from stellarscale.products.image_novelty import novelty_file

FAINTEST_LABEL = 15.0  # of the mock's labels, mag
pytestmark = pytest.mark.usefixtures("acf_one_core")


@pytest.fixture(scope="module")
def stars(acf_run):
    """Flag and true g magnitude of the stars with parameters."""
    found = column(acf_run.out / "catalog", "object_id", "quality_flags", *LABELS).to_pandas().dropna()
    truth = pq.read_table(acf_mock().folder / "truth" / "truth.parquet").to_pandas().set_index("object_id")
    found["g"] = truth.loc[found["object_id"], "g_mag"].to_numpy()
    found["novel"] = (found["quality_flags"] & int(Flag.EXTRAPOLATED)) != 0
    return found


def test_stars_fainter_than_the_labels_are_flagged_and_few_others_like_them(acf_run, stars):
    faint = stars["g"] > FAINTEST_LABEL + 1
    assert faint.sum() > 10
    assert stars["novel"][faint].mean() > 0.9
    assert stars["novel"][stars["g"] < FAINTEST_LABEL].mean() < 0.25
    table = pq.read_table(held_out_file(acf_run.out / "models", "joint"))
    assert table["novel"].to_numpy().mean() < 0.1
    assert table.schema.field("novel").metadata


def test_the_report_counts_them_and_shows_their_scatter(acf_run, stars):
    section = acf_run.report["image_novelty"]
    assert section["flagged"] == stars["novel"].sum() == acf_run.report["flag_counts"]["EXTRAPOLATED"]
    against = {(row["label"], row["against"]) for row in section["by_magnitude"]}
    assert {(label, "truth") for label in LABELS} <= against
    shown = [row for row in section["by_magnitude"] if (row["label"], row["against"]) == ("teff", "truth")]
    assert sum(row["n_flagged"] for row in shown) <= section["flagged"]
    told = {(row["label"], row["against"]): row for row in acf_run.report["extrapolated"]}
    assert told["teff", "truth"]["n_flagged"] == section["flagged"]
    page = (acf_run.out / "report.html").read_text()
    assert 'id="image_novelty"' in page
    assert (acf_run.out / "evaluation" / "image_novelty.json").is_file()


def test_held_out_stars_of_an_older_run_tell_no_flags(acf_run, tmp_path):
    networks = stored_networks(acf_run.job, acf_run.out)[:1]
    found = held_out_evaluations(acf_run.job, acf_run.out / "models", networks)
    assert all(each.novel.dtype == bool for each in found)
    path = held_out_file(tmp_path, "joint")
    pq.write_table(pq.read_table(held_out_file(acf_run.out / "models", "joint")).drop_columns(["novel"]), path)
    older = held_out_evaluations(acf_run.job, tmp_path, networks)
    assert [each.novel for each in older] == [None] * len(found)


def test_given_networks_bring_their_regions_or_are_refused_before_any_work(acf_run, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(acf_run.out / "models", models, ignore=shutil.ignore_patterns(".stellarscale"))
    job = acf_job(tmp_path / "run", *acf_run.given, f"pretrained={models}")
    acf.plan(job)
    path = novelty_file(models, "joint")
    path.unlink()
    with pytest.raises(ModelError, match=r"novelty_joint\.npz.*older version"):
        acf.plan(job)
    assert not Path(job.out).exists()


def test_a_run_of_an_older_version_gets_its_regions_when_it_goes_on(acf_run, tmp_path, monkeypatch):
    monkeypatch.setattr("stellarscale.products.acf_reporting.report_run", lambda *content: {})
    out = tmp_path / "run"
    shutil.copytree(acf_run.out, out, ignore=shutil.ignore_patterns("novelty_*", "image_comparisons", "external_*"))
    job = acf_job(out, "comparisons=null", "evaluation.external=[]", "truth=null")
    acf.run(job, cluster="threads:2", update=True)
    for name in ("joint", "joint_no_parallax"):
        assert (
            novelty_file(out / "models", name).read_bytes() == novelty_file(acf_run.out / "models", name).read_bytes()
        )
    steps = {step["name"]: step for step in json.loads((out / "steps.json").read_text())}
    assert steps["train"]["resumed"]
    assert steps["calibrate errors"]["extrapolated"].keys() == {"joint", "joint_no_parallax"}


def test_columns_by_which_nothing_is_told_are_refused(tmp_path):
    job = acf_job(tmp_path / "run")
    errors = job.errors.model_copy(update={"novelty": ("g_mag",)})
    with pytest.raises(ConfigError, match=r"errors\.novelty.*g_mag"):
        acf.plan(job.model_copy(update={"errors": errors}))
