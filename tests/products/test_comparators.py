"""Other methods on the split of the forests: one table, receipts, and failures that do not hide."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("dask_ml")
from reference.small_sample import small_job, write_forest, write_sample

from stellarscale.engine.stars import read_stars
from stellarscale.errors import RunError
from stellarscale.kernels.stats import robust_sigma
from stellarscale.products.comparators import compare, raise_failed
from stellarscale.products.steps import session
from stellarscale.report.comparison import comparison_section

POLYNOMIAL = {"name": "poly", "kind": "polynomial", "options": {"degree": 2}}
KNN = {"name": "knn", "kind": "estimator", "estimator": "sklearn.neighbors.KNeighborsRegressor"}
TREES = {"name": "extra", "kind": "extra_trees", "options": {"n_estimators": 5}}
WRONG = {**KNN, "name": "wrong", "options": {"n_neighbors": 100_000}}


@pytest.fixture(scope="module")
def on():
    with session("threads:2") as session_:
        yield session_


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    for seed, name in enumerate(("teff", "fe_h")):
        write_forest(out / "models", name, write_sample(out / "models", name, seed=seed))
    return out


@pytest.fixture(scope="module")
def finished(on, run_directory):
    job = small_job(run_directory, labels=("teff", "fe_h"), comparators=[POLYNOMIAL, WRONG, KNN, TREES])
    return job, compare(on, job, run_directory)


def test_the_forest_leads_and_every_method_has_a_record_per_model(finished, run_directory):
    _, records = finished
    order = ["forest", "poly", "wrong", "knn", "extra"]
    assert [record["method"] for record in records] == order * 2
    assert [record["model"] for record in records] == ["teff"] * 5 + ["fe_h"] * 5
    assert json.loads((run_directory / "comparison.json").read_text()) == json.loads(json.dumps(records))


def test_figures_are_of_each_set_of_test_stars(finished, run_directory):
    _, records = finished
    by_name = {record["method"]: record for record in records[:5]}
    for name in ("forest", "poly", "knn", "extra"):
        against = by_name[name]["against"]
        assert {role: numbers["n"] for role, numbers in against.items()} == {"held_out": 120, "test:apogee": 120}
        assert by_name[name]["predict_rows_per_second"] > 0
    assert by_name["poly"]["against"]["held_out"]["sigma"] == pytest.approx(20, rel=0.3), "the noise of the labels"
    assert by_name["knn"]["n_train"] == 360
    table = read_stars(run_directory / "models" / "teff_sample.parquet", ("u_g_0",), train=False)
    spread = robust_sigma(table.y[table.role == "held_out"])
    assert by_name["forest"]["against"]["held_out"]["sigma"] < 0.5 * spread


def test_a_method_that_fails_is_in_the_table_and_in_the_end_an_error(finished):
    _, records = finished
    failed = [record for record in records if "failed" in record]
    assert [record["method"] for record in failed] == ["wrong", "wrong"]
    assert "wrong on teff" in failed[0]["failed"]
    with pytest.raises(RunError, match="2 of 10 comparisons failed"):
        raise_failed(records)
    raise_failed([record for record in records if "failed" not in record])


def test_what_is_done_stays_done_and_what_failed_is_tried_again(finished, on, run_directory):
    _, records = finished
    mended = [POLYNOMIAL, {**WRONG, "options": {"n_neighbors": 3}}, KNN, {**TREES, "options": {"n_estimators": 6}}]
    job = small_job(run_directory, labels=("teff", "fe_h"), comparators=mended)
    again = compare(on, job, run_directory)
    raise_failed(again)
    assert [record.get("key") for record in again[1:4:2]] == [record.get("key") for record in records[1:4:2]]
    assert again[1]["seconds"] == records[1]["seconds"], "not fitted again"
    assert again[4]["key"] != records[4]["key"], "other options, another fit"


def test_the_section_shows_failures_and_the_best_method(finished):
    section = comparison_section(finished[1])
    assert section.html.count("failed: ") == 2
    assert "<b>" in section.html
    assert "labels of apogee" in section.html
    json.dumps(section.numbers, allow_nan=False)


def test_without_other_methods_nothing_is_done(on, tmp_path):
    assert compare(on, small_job(tmp_path), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_boosted_trees_spread_over_processes_and_give_the_same_twice(run_directory, tmp_path):
    xgboost = pytest.importorskip("xgboost")
    job = small_job(
        tmp_path, comparators=[{"name": "boosted", "kind": "xgboost", "options": {"n_estimators": 20}}, POLYNOMIAL]
    )
    write_forest(tmp_path / "models", "teff", write_sample(tmp_path / "models", "teff"))
    with session("processes:2") as on:
        _, boosted, poly = compare(on, job, tmp_path)
        path = tmp_path / "comparators" / "teff_boosted.ubj"
        first = path.read_bytes()
        for receipt in (tmp_path / "comparators").rglob("*boosted*.json"):
            receipt.unlink()
        compare(on, job, tmp_path)
    assert path.read_bytes() == first
    assert boosted["workers"] == 2
    assert poly["n_train"] == boosted["n_train"] == 360
    stars = read_stars(tmp_path / "models" / "teff_sample.parquet", job.training.inputs, train=False)
    predicted = xgboost.Booster(model_file=path).inplace_predict(stars.x)
    held_out = stars.role == "held_out"
    assert robust_sigma((predicted - stars.y)[held_out]) == pytest.approx(boosted["against"]["held_out"]["sigma"])
    assert np.std(predicted - stars.y) < 0.7 * np.std(stars.y)
