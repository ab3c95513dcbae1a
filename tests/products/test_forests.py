"""Training on a Dask client: what is finished is kept, and the result does not depend on the cluster."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog.layout import pixel_path
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import open_stored
from stellarscale.catalog.writer import finish_catalog
from stellarscale.config import Band, SagesJob
from stellarscale.engine import growing
from stellarscale.engine.growing import TREES
from stellarscale.engine.sampling import SampleTask, TrainingSource
from stellarscale.engine.tasks import TrainingTask, training_pixel
from stellarscale.errors import InputError, RunError
from stellarscale.models.store import digest
from stellarscale.products import forests
from stellarscale.products.inspect import run_status
from stellarscale.products.steps import session

TREES_EACH = 12


def broken(task, spec):
    raise InputError("the disk has gone")


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> SagesJob:
    root = tmp_path_factory.mktemp("stars") / "stars"
    write_mock(root, mock_table(1500, seed=6, patch=(0.2, -5.0, 3.0)), max_rows=300, stellarscale_alias="stars")
    return SagesJob(
        product="sages",
        name="test",
        out="unused",
        catalogs={"stars": {"path": str(root)}},
        match={"primary": "stars"},
        features={"bands": {"g": Band(mag="gmag"), "h": Band(mag="pmra")}},
        training={
            "labels": {"fe_h": {"column": "feh"}, "pm": {"column": "pmra"}},
            "inputs": ("g_0", "h_0"),
            "models": ({"label": "fe_h"}, {"label": "pm"}),
            "forest": {"n_estimators": TREES_EACH},
        },
        output={"columns": {"source_id": "source_id"}},
    )


@pytest.fixture(scope="module")
def rows(job, tmp_path_factory):
    source, out = Path(job.catalogs["stars"].path), tmp_path_factory.mktemp("training") / "training"
    training = job.training
    task = TrainingTask(source, out, job.features, training.inputs, training.labels, ("source_id", "ra", "dec"))
    pixels = [pixel for pixel in open_stored(source).pixels if training_pixel(task, pixel)["rows_out"]]
    schema = pq.read_schema(pixel_path(out, pixels[0]))
    finish_catalog(out, CatalogProperties("training"), schema, pixels)
    return out


def samples(job, rows, out) -> SampleTask:
    source = TrainingSource("stars", "train", rows)
    return SampleTask((source,), out, job.training, None, 1, "source_id", ("ra", "dec"))


def test_a_training_that_failed_goes_on_with_its_trees(job, rows, tmp_path, monkeypatch):
    monkeypatch.setitem(growing._GROUP_ROWS, "histogram", 5000)
    task = samples(job, rows, tmp_path / "models")
    with session("threads:2") as on:
        with monkeypatch.context() as patch:
            patch.setattr(forests, "finish_model", broken)
            with pytest.raises(RunError, match="the disk has gone"):
                forests.train_models(on, job, task, [])
        kept = {path: path.stat().st_mtime_ns for path in (task.out / TREES).iterdir()}
        receipts = {path: path.stat().st_mtime_ns for path in task.out.rglob("receipts/grow/*.json")}
        assert len(kept) == len(receipts) > 4
        status = run_status(task.out)["steps"][0]
        assert (status["state"], status["tasks_done"]) == ("failed or killed", 2 + len(kept))
        steps: list = []
        models = forests.train_models(on, job, task, steps)
        again = forests.train_models(on, job, task, [])
    assert {path: path.stat().st_mtime_ns for path in receipts} == receipts, "trees were grown again"
    assert not (task.out / TREES).exists()
    assert [model.spec.name for model in models] == ["fe_h", "pm"]
    assert [model.digest for model in again] == [model.digest for model in models]
    assert steps[0]["rows_in"] == sum(m.numbers["n_train"] + m.numbers["n_test"] for m in models)
    assert run_status(task.out)["steps"][0]["state"] == "finished"
    assert all(model.held_out.is_file() and digest(model.path) == model.digest for model in models)


def test_models_do_not_depend_on_the_cluster_nor_on_the_groups(job, rows, tmp_path, monkeypatch):
    digests = []
    for number, cluster in enumerate(("threads:1", "threads:3")):
        monkeypatch.setitem(growing._GROUP_ROWS, "histogram", (2000, 10**9)[number])
        with session(cluster) as on:
            models = forests.train_models(on, job, samples(job, rows, tmp_path / str(number)), [])
        digests.append([model.digest for model in models])
    assert digests[0] == digests[1]


def test_a_class_with_too_few_stars_is_told_before_any_tree_is_grown(job, rows, tmp_path):
    strict = job.model_copy(update={"training": job.training.model_copy(update={"min_stars": 100_000})})
    task = samples(strict, rows, tmp_path / "models")
    with session("threads:1") as on, pytest.raises(RunError, match=r"too few stars.*model fe_h.*min_stars"):
        forests.train_models(on, strict, task, [])
    assert not (task.out / TREES).exists()
    assert not list(task.out.glob("*.npz"))
