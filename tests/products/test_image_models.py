"""Networks of a job: trained once, taken up again, or those of another run, checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from reference.image_stars import BLIND, NETWORK, labelled_table, write_labelled

from stellarscale.config import Errors, Label, load_job
from stellarscale.engine.image_training_tasks import network_specs
from stellarscale.errors import InputError, ModelError, RunError, SchemaError
from stellarscale.models import image_training
from stellarscale.models.image_store import load_image_model
from stellarscale.products.image_models import given_networks, stored_networks, train_networks, training_set
from stellarscale.products.reporting import step_row
from stellarscale.products.steps import Session, session
from stellarscale.settings.acf import AcfJob, ImageLabels
from stellarscale.settings.image_network import ImageTraining
from stellarscale.settings.stamps import StampSettings

TRAINING = ImageTraining(epochs=2, batch_size=64, learning_rate=2e-3, early_look=1, checkpoint_epochs=1)
LABELS = {"teff": Label(column="galah_teff", unit="K"), "logg": Label(column="galah_logg", unit="dex")}


def job_of(**changes) -> AcfJob:
    job = load_job("acf_mock", ["data=nowhere"])
    stamps = StampSettings(files="none", bands=("g", "r"), size_px=16, softening={"g": 5.0, "r": 5.0})
    labels = ImageLabels(match=job.labels.match, labels=LABELS)
    small = {"stamps": stamps, "labels": labels, "network": NETWORK, "training": TRAINING, "comparisons": None}
    return job.model_copy(update={**small, "errors": Errors(magnitude="g_mag", noise=("galah_teff_err",)), **changes})


def trained_as(**changes) -> ImageTraining:
    return TRAINING.model_copy(update=changes)


@pytest.fixture(scope="module", autouse=True)
def one_core():
    """Networks this small only wait for each other's threads, the more so beside other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stellarscale.engine.gpu.cores", lambda: 1)
        yield


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    return write_labelled(tmp_path_factory.mktemp("stars") / "labelled", labelled_table(300))


@pytest.fixture(scope="module")
def on():
    with session("threads:2") as made:
        yield made


@pytest.fixture(scope="module")
def run(tmp_path_factory, labelled, on) -> Path:
    """A finished run: read it, do not change it."""
    out = tmp_path_factory.mktemp("run")
    train_networks(on, job_of(), labelled, out, [])
    return out


def test_a_job_names_its_networks():
    labels = ("teff", "logg")
    assert [spec.name for spec in network_specs(labels, NETWORK, TRAINING)] == ["teff", "logg"]
    joint = NETWORK.model_copy(update={"joint": True})
    specs = network_specs(labels, joint, trained_as(without_parallax=True))
    assert [(spec.name, spec.labels, spec.network.parallax) for spec in specs] == [
        ("joint", labels, True),
        ("joint_no_parallax", labels, False),
    ]
    assert [spec.name for spec in network_specs(labels, BLIND, trained_as(without_parallax=True))] == ["teff", "logg"]


def test_every_network_is_trained_and_told(run, on, labelled):
    job, steps = job_of(), []
    networks = train_networks(on, job, labelled, run, steps)
    assert [network.name for network in networks] == ["teff", "logg"]
    for network in networks:
        model, _ = load_image_model(network.path, expect_digest=network.digest)
        assert model.labels == network.labels == (network.name,)
        assert model.units == (LABELS[network.name].unit,)
        assert model.stamps == job.stamps.format
        assert [epoch["epoch"] for epoch in network.curve] == [1, 2]
        assert network.summary["validation_loss"] == network.curve[-1]["validation_loss"]
        look = json.loads((run / "models" / f"{network.name}_early_look.json").read_text())
        assert look["labels"][network.name]["n"] == network.numbers["n_validation"]
    table = pq.read_table(run / "training" / "table.parquet", partitioning=None)
    assert {"object_id", "split", "g_mag", "galah_teff_err", "teff", "logg"} <= set(table.column_names)
    assert [step["step"] for step in steps] == ["training set", "train"]
    assert all(step["resumed"] for step in steps)
    assert [network.digest for network in stored_networks(job, run)] == [network.digest for network in networks]


def test_what_is_finished_is_not_trained_again(labelled, on, tmp_path, monkeypatch):
    names = []
    real = image_training.train_network
    active, most = [], []

    def watched(stars, plan, devices, **options):
        names.append(plan.name)
        active.append(plan.name)
        most.append(len(active))
        try:
            return real(stars, plan, devices, **options)
        finally:
            active.remove(plan.name)

    monkeypatch.setattr(image_training, "train_network", watched)
    train_networks(on, job_of(), labelled, tmp_path, [])
    assert sorted(names) == ["logg", "teff"]
    assert max(most) == 1  # two workers, but one training at a time
    names.clear()
    steps: list = []
    train_networks(on, job_of(training=trained_as(devices=1, early_look=0)), labelled, tmp_path, steps)
    assert names == []
    gone = tmp_path / "models" / "teff.safetensors"
    before = gone.read_bytes()
    gone.unlink()
    train_networks(on, job_of(), labelled, tmp_path, steps)
    assert names == ["teff"], "the file of a finished network was removed"
    assert gone.read_bytes() == before
    names.clear()
    train_networks(on, job_of(training=trained_as(without_parallax=True)), labelled, tmp_path, steps)
    assert sorted(names) == ["logg_no_parallax", "teff_no_parallax"]
    assert not load_image_model(tmp_path / "models" / "teff_no_parallax.safetensors")[0].network.parallax

    other = job_of(training=trained_as(learning_rate=1e-3))
    with pytest.raises(RunError, match=r"other settings.*training.learning_rate"):
        train_networks(on, other, labelled, tmp_path, [])
    names.clear()
    train_networks(Session(on.client, on.progress, update=True), other, labelled, tmp_path, [])
    assert sorted(names) == ["logg", "teff"]


def test_a_training_set_of_other_cuts_is_another_one(run, labelled, on, tmp_path):
    steps: list = []
    folder = training_set(on, job_of(), labelled, tmp_path, steps)
    row = step_row(steps[0])
    assert (row.rows_in, row.left_out, row.partitions) == (300, 300 - row.rows_out, 1)
    assert steps[0]["rows_in"] == 300 == steps[0]["written"] + sum(steps[0]["rejected"].values())
    first = np.load(folder / "stamps.npy", mmap_mode="r", allow_pickle=False)
    assert len(first) == steps[0]["written"]
    with pytest.raises(RunError, match=r"other settings.*seed"):
        training_set(on, job_of(seed=9), labelled, tmp_path, steps)


def test_what_cannot_train_says_why(labelled, on, tmp_path):
    hot = {"teff": LABELS["teff"].model_copy(update={"range": (9000.0, 9100.0)})}
    job = job_of(labels=ImageLabels(match=job_of().labels.match, labels=hot))
    with pytest.raises(RunError, match=r"too few stars to train.*label teff.*Needed: 50"):
        train_networks(on, job, labelled, tmp_path, [])
    with pytest.raises(SchemaError, match=r"lack columns.*Needed: no_such"):
        train_networks(on, job_of(parallax="no_such"), labelled, tmp_path / "other", [])
    with pytest.raises(InputError, match=r"not trained all.*teff, logg"):
        stored_networks(job_of(), tmp_path)


def test_networks_of_another_run_are_checked(run):
    job = job_of(pretrained=str(run / "models"))
    networks = given_networks(job)
    assert [network.name for network in networks] == ["teff", "logg"]
    assert networks[0].digest == stored_networks(job_of(), run)[0].digest
    assert networks[0].numbers["n_train"] > 100

    with pytest.raises(ModelError, match=r"stamps are not of the kind.*size_px"):
        given_networks(job.model_copy(update={"stamps": job.stamps.model_copy(update={"size_px": 20})}))
    kelvin = {"teff": LABELS["teff"], "logg": LABELS["logg"].model_copy(update={"unit": "K"})}
    wrong = job.model_copy(update={"labels": job.labels.model_copy(update={"labels": kelvin})})
    with pytest.raises(ModelError, match=r"other labels than the job.*logg"):
        given_networks(wrong)
    with pytest.raises(ModelError, match=r"another shape.*Seen: parallax True.*Needed: parallax False"):
        given_networks(job.model_copy(update={"network": BLIND}))
    compared = given_networks(job.model_copy(update={"training": trained_as(without_parallax=True)}))
    assert [network.name for network in compared] == ["teff", "logg"], "the others are for the comparison"


def altered(path: Path) -> None:
    """One weight is another one, and the file as long as before."""
    content = path.read_bytes()
    path.write_bytes(content[:-4] + bytes(each ^ 1 for each in content[-4:]))


def test_a_network_that_was_altered_after_its_training_is_refused(run, labelled, on, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    path = out / "models" / "teff.safetensors"
    before = path.read_bytes()
    altered(path)
    load_image_model(path)  # as such it is whole
    given = job_of(pretrained=str(out / "models"))
    told = r"not the one that was trained.*teff\.safetensors.*sha256.*altered or copied incompletely after the training"
    with pytest.raises(ModelError, match=told + r".*copy it again, together with teff\.json"):
        given_networks(given)
    with pytest.raises(ModelError, match=told + ".*remove it: it is trained again"):
        train_networks(on, job_of(), labelled, out, [])
    path.with_suffix(".json").unlink()
    assert given_networks(given)[0].curve == [], "nothing says what it should be"
    path.unlink()
    train_networks(on, job_of(), labelled, out, [])
    assert path.read_bytes() == before
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(ModelError, match=r"record of the network's training cannot be read.*teff\.json.*digest"):
        given_networks(given)


def test_a_killed_run_goes_on_with_the_networks_that_are_missing(labelled, on, tmp_path, monkeypatch):
    real = image_training.train_network

    def fails(stars, plan, devices, **options):
        if plan.name == "logg":
            raise ModelError("the loss of the training is not finite", where="network logg")
        return real(stars, plan, devices, **options)

    monkeypatch.setattr(image_training, "train_network", fails)
    with pytest.raises(RunError, match=r"1 of 2 tasks of the step 'train' failed \(logg\).*not finite"):
        train_networks(on, job_of(), labelled, tmp_path, [])
    monkeypatch.setattr(image_training, "train_network", real)
    steps: list = []
    networks = train_networks(on, job_of(), labelled, tmp_path, steps)
    assert steps[-1]["resumed_partitions"] == 1
    assert step_row(steps[-1]).partitions == len(networks)
    assert [network.name for network in networks] == ["teff", "logg"]
