"""Networks beside other methods: one table, receipts, and failures that do not hide."""

from __future__ import annotations

import csv
import json

import pytest

pytest.importorskip("optuna")
pytest.importorskip("lightgbm")
pytest.importorskip("torch")
from reference.compared_images import compared_job, write_networks, write_training

from stellarscale.errors import ConfigError, RunError
from stellarscale.products.comparators import raise_failed
from stellarscale.products.image_comparisons import compare_methods
from stellarscale.products.reporting import step_row
from stellarscale.products.steps import session
from stellarscale.report.image_sections import comparison_section

SMALL = {"algorithms": ["random_forest", "lightgbm"], "trials": 1}


@pytest.fixture(scope="module")
def on():
    with session("threads:2") as session_:
        yield session_


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("compared")
    write_networks(root / "models", write_training(root / "training", 300))
    return root


def compare(on, folder, out, steps=None, *, labels=("teff", "logg"), **comparisons):
    job = compared_job(out, labels, **{**SMALL, **comparisons})
    return compare_methods(on, job, folder / "training", folder / "models", out, steps if steps is not None else [])


@pytest.fixture(scope="module")
def finished(on, folder):
    steps = []
    return compare(on, folder, folder, steps, labels=("logg",)), steps


def test_a_label_has_its_networks_and_every_method_with_and_without_parallax(finished):
    records, steps = finished
    raise_failed(records)
    assert [(record["method"], record["parallax"]) for record in records[:2]] == [("ACF", True), ("ACPF", False)]
    assert len({(record["method"], record["parallax"]) for record in records}) == len(records) == 2 + 2 * 4 * 2
    assert len({record["groups"]["all"]["n"] for record in records}) == 1
    assert steps[0]["step"] == "compare"
    assert step_row(steps[0]).partitions == 16
    assert not steps[0]["failed"]


def test_the_files_hold_the_records_and_the_table(finished, folder):
    records, _ = finished
    assert json.loads((folder / "image_comparison.json").read_text()) == json.loads(json.dumps(records))
    with open(folder / "image_comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["group"] for row in rows} == {"all", "high", "low", "neighbours", "isolated"}
    whole = {row["method"]: row for row in rows if row["group"] == "all"}
    assert set(whole) == {"ACF", "ACPF"} | {
        f"{name}_{kind}" for name in ("RF", "LightGBM") for kind in ("mag", "color", "mag&color", "image")
    }
    acf = next(record for record in records if record["method"] == "ACF")
    assert float(whole["ACF"]["logg_sigma_with"]) == acf["groups"]["all"]["sigma"]
    assert whole["ACF"]["logg_sigma_without"] == ""
    assert float(whole["RF_mag"]["logg_std_with"]) < 0.5 * float(whole["RF_mag"]["logg_std_without"])


def test_the_section_has_a_table_for_each_group(finished):
    section = comparison_section(finished[0])
    for text in ("Low-quality sample", "neighbour within 15 arcsec", "LightGBM_mag&amp;color", "with parallax"):
        assert text in section.html
    assert "Failed" not in section.html
    assert section.numbers["tables"]["low"][0]["method"] == "ACF"


def test_what_is_done_is_not_done_again(finished, on, folder):
    records, _ = finished
    steps = []
    again = compare(on, folder, folder, steps, labels=("logg",))
    assert [record.get("seconds") for record in again] == [record.get("seconds") for record in records]
    assert steps[0]["resumed"]


def test_a_method_that_fails_does_not_stop_the_others(on, folder, tmp_path, monkeypatch):
    from stellarscale.models import bayes_search

    def broken(params, seed, n_jobs):
        raise RuntimeError("out of leaves")

    monkeypatch.setitem(bayes_search._MAKERS, "lightgbm", broken)
    steps = []
    records = compare(on, folder, tmp_path, steps, features=["colours"])
    failed = [record for record in records if "failed" in record]
    assert {record["method"] for record in failed} == {"lightgbm_colours"}
    assert len(failed) == 4
    assert "out of leaves" in failed[0]["failed"]
    assert len([record for record in records if "groups" in record]) == 8, "the forests and the networks"
    assert [record["label"] for record in records] == ["teff"] * 6 + ["logg"] * 6
    assert len(steps[0]["failed"]) == 4
    section = comparison_section(records)
    assert "out of leaves" in section.html
    with pytest.raises(RunError, match="4 of 12 comparisons failed"):
        raise_failed(records)
    monkeypatch.undo()
    raise_failed(compare(on, folder, tmp_path, features=["colours"]))


def test_a_damaged_network_fails_what_needs_its_features_alone(on, folder, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    for path in (folder / "models").iterdir():
        (models / path.name).write_bytes(path.read_bytes())
    (models / "teff.safetensors").write_bytes((models / "teff.safetensors").read_bytes()[:3000])
    job = compared_job(tmp_path, **{**SMALL, "features": ["colours", "image"], "algorithms": ["random_forest"]})
    records = compare_methods(on, job, folder / "training", models, tmp_path, [])
    assert {(record["label"], record["method"]) for record in records if "failed" in record} == {
        ("teff", "random_forest_image")
    }


def test_without_comparisons_nothing_is_done(on, folder, tmp_path):
    job = compared_job(tmp_path).model_copy(update={"comparisons": None})
    assert compare_methods(on, job, folder / "training", folder / "models", tmp_path, []) == []
    assert list(tmp_path.iterdir()) == []


def test_a_magnitude_without_extinction_is_refused(on, folder, tmp_path):
    with pytest.raises(ConfigError, match=r"bands without extinction.*Seen: y"):
        compare(on, folder, tmp_path, magnitudes={"g": "g_mag", "r": "r_mag", "i": "i_mag", "y": "y_mag"})


def test_a_colour_of_bands_without_magnitudes_is_refused(on, folder, tmp_path):
    with pytest.raises(ConfigError, match=r"a colour needs two bands.*Seen: u-g"):
        compare(on, folder, tmp_path, colours=["g-r", "u-g"])
    assert list(tmp_path.iterdir()) == []
