"""The scan of a run: every score is kept, the choice is stated, a killed scan goes on."""

from __future__ import annotations

import json

import pytest
from reference.small_sample import small_job, write_sample

from stellarscale.errors import InputError, RunError
from stellarscale.products import tuning as product
from stellarscale.products.steps import session
from stellarscale.report.plots_style import png
from stellarscale.report.plots_tuning import plot_tuning

SCAN = {"n_estimators": [5, 20], "max_features": [0.4, None], "max_depth": [2, 7], "repeats": 2, "max_stars": 300}


@pytest.fixture(scope="module")
def on():
    with session("threads:2") as session_:
        yield session_


@pytest.fixture(scope="module")
def finished(on, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned")
    for name in ("teff", "fe_h"):
        write_sample(out / "models", name)
    job = small_job(out, labels=("teff", "fe_h"), tuning={**SCAN, "models": ["teff"]})
    return job, out, product.scan(on, job, out)


def test_every_score_is_kept_with_its_time(finished):
    _, out, _ = finished
    record = json.loads((out / "tuning" / "teff.json").read_text())
    assert record["stars"] == 300
    trees = {(score["max_features"], score["n_estimators"]) for score in record["trees"]}
    assert trees == {(share, count) for share in (0.4, None) for count in (5, 20)}
    assert {(score["max_depth"], score["repeat"]) for score in record["depths"]} == {
        (d, r) for d in (2, 7) for r in (0, 1)
    }
    assert all(0 < score["error"] < 1 and score["seconds"] > 0 for score in record["trees"] + record["depths"])


def test_the_choice_and_the_jobs_setting_are_stated(finished):
    _, _, (summary,) = finished
    assert summary["name"] == "tune teff"
    assert summary["used"] == {"n_estimators": 20, "max_features": None, "max_depth": 17}
    assert summary["chosen"]["max_depth"] == 7
    assert summary["chosen"]["n_estimators"] == 20
    assert summary["rows_in"] == summary["written"] == 300


def test_a_scan_that_was_killed_repeats_only_what_is_missing(finished, on):
    job, out, _ = finished
    receipts = sorted((out / "tuning" / "teff").rglob("receipts/*/*.json"))
    assert len(receipts) == 6
    before = json.loads((out / "tuning" / "teff.json").read_text())
    receipts[0].unlink()
    (summary,) = product.scan(on, job, out)
    assert summary["resumed_partitions"] == 5
    after = json.loads((out / "tuning" / "teff.json").read_text())
    assert [score["error"] for score in after["trees"]] == [score["error"] for score in before["trees"]]


def test_the_report_reads_what_the_run_wrote(finished):
    job, out, _ = finished
    (scan,) = product.read_scans(job, out)
    assert scan.model == "teff"
    assert png(plot_tuning(scan), 40).startswith(b"\x89PNG")


def test_a_model_that_fails_does_not_stop_the_next(on, tmp_path):
    table = write_sample(tmp_path / "models", "teff")
    import pyarrow.parquet as pq

    flat = table.set_column(table.schema.get_field_index("label"), "label", [[1.0] * table.num_rows])
    pq.write_table(flat, tmp_path / "models" / "teff_sample.parquet")
    write_sample(tmp_path / "models", "fe_h")
    brief = {**SCAN, "n_estimators": [5], "max_depth": [3], "repeats": 1}
    with pytest.raises(RunError, match=r"teff.*no out-of-bag score"):
        product.scan(on, small_job(tmp_path, labels=("teff", "fe_h"), tuning=brief), tmp_path)
    assert (tmp_path / "tuning" / "fe_h.json").is_file()
    assert not (tmp_path / "tuning" / "teff.json").exists()


def test_a_scan_before_the_training_is_told(on, tmp_path):
    with pytest.raises(InputError, match="not been trained"):
        product.scan(on, small_job(tmp_path, tuning=SCAN), tmp_path)


def test_without_settings_nothing_is_scanned(on, tmp_path):
    assert product.scan(on, small_job(tmp_path), tmp_path) == []
    assert not (tmp_path / "tuning").exists()
