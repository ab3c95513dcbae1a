"""Models of another run: the same catalogue without any label, and a refusal of what does not fit."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from stellarscale.config import load_job
from stellarscale.errors import ModelError
from stellarscale.products import dispatch, sages


@pytest.fixture(scope="module")
def trained(small_job, tmp_path_factory):
    """A finished run, whose models others may use."""
    out = tmp_path_factory.mktemp("pretrained") / "first"
    return sages.run(small_job(out, "evaluation.clusters=null"), cluster="threads:2"), out


def given(small_job, first, out, *overrides: str):
    store = f"store={first / 'catalogs'}"
    models = f"training.pretrained.directory={first / 'models'}"
    return small_job(out, store, models, "evaluation.clusters=null", *overrides)


def test_given_models_make_the_same_catalogue_and_train_nothing(trained, small_job, tmp_path):
    summary, first = trained
    job = given(small_job, first, tmp_path / "second")
    second = sages.run(job, cluster="threads:2")
    assert second["written"] == summary["written"]
    names = [step["name"] for step in json.loads((tmp_path / "second" / "steps.json").read_text())]
    assert not [name for name in names if "label" in name or "training" in name or name == "train"]
    ours, theirs = (
        sorted((root / "catalog" / "dataset").rglob("Npix=*.parquet")) for root in (first, tmp_path / "second")
    )
    assert [pq.read_table(path) for path in ours] == [pq.read_table(path) for path in theirs]
    assert dispatch.rebuild_report(tmp_path / "second")["report"].endswith("report.html")


def test_a_model_with_another_digest_is_refused_before_any_work(trained, small_job, tmp_path):
    _, first = trained
    job = given(small_job, first, tmp_path / "x", "training.pretrained.digests={teff_dwarf: '00'}")
    with pytest.raises(ModelError, match="not the one that was asked for"):
        sages.run(job)
    assert not (tmp_path / "x").exists()


def test_a_model_of_other_features_is_refused(trained, small_job, tmp_path):
    _, first = trained
    inputs = [*load_job("demo").training.inputs][1:]
    job = given(
        small_job, first, tmp_path / "x", f"training.inputs=[{', '.join(inputs)}]", "training.errors.novelty=[]"
    )
    with pytest.raises(ModelError, match="u_0"):
        sages.run(job)


def test_a_model_that_is_not_there_is_named(trained, small_job, tmp_path):
    _, first = trained
    job = given(small_job, first, tmp_path / "x", f"training.pretrained.directory={tmp_path}")
    with pytest.raises(ModelError, match=r"\.npz"):
        sages.run(job)


def test_a_digest_of_no_model_and_one_for_another_label_are_refused(trained, small_job, tmp_path):
    _, first = trained
    with pytest.raises(ModelError, match="teff_all"):
        sages.run(given(small_job, first, tmp_path / "x", "training.pretrained.digests={teff_all: '00'}"))
    models = tmp_path / "models"
    models.mkdir()
    for path in (first / "models").glob("*.npz"):
        (models / path.name).write_bytes(path.read_bytes())
    (models / "teff_dwarf.npz").write_bytes((first / "models" / "fe_h_dwarf.npz").read_bytes())
    with pytest.raises(ModelError, match="trained for something else"):
        sages.run(given(small_job, first, tmp_path / "x", f"training.pretrained.directory={models}"))


def test_features_that_mean_something_else_are_refused(trained, small_job, tmp_path):
    _, first = trained
    job = given(small_job, first, tmp_path / "x", "features.bands.u.extinction=4.0")
    with pytest.raises(ModelError, match="something else"):
        sages.plan(job)
