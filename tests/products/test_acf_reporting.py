"""The report of a run on images: what each section is drawn from, and runs that lack some of it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from reference.mock_acf import LABELS, column, finished_run, one_core, steps_of
from reference.mock_catalog import write_mock

from stellarscale.catalog.reader import open_stored
from stellarscale.config import load_job
from stellarscale.flags import Flag
from stellarscale.products import acf_reporting
from stellarscale.products.acf_reporting import held_out_evaluations, report_run, write_acf_report
from stellarscale.products.acf_sections import (
    calibration_notes,
    curves_of,
    detections_of,
    gallery_of,
    maps_of,
    sample_of,
    uncertainties_of,
)
from stellarscale.products.estimates import evaluation_of, magnitude_title
from stellarscale.products.image_models import given_networks, stored_networks
from stellarscale.products.stamp_steps import stamps_of_run
from stellarscale.report.plots_coverage import axis_name


@pytest.fixture(scope="module")
def run():
    with one_core():
        return finished_run()


@pytest.fixture(scope="module")
def stored(run):
    return open_stored(run.out / "catalog")


@pytest.fixture(scope="module")
def networks(run):
    return stored_networks(run.job, run.out)


def pretrained(run):
    return run.job.model_copy(update={"pretrained": str(run.out / "models"), "comparisons": None})


# ---- sections


def test_the_sample_is_told_by_its_splits(run):
    section = sample_of(run.job, run.out)
    step = run.steps["training"]
    assert section.numbers == {
        "training": step["n_train"], "validation": step["n_validation"], "test": step["n_test"],
    }  # fmt: skip
    assert section.figures
    assert sample_of(pretrained(run), run.out) is None


def test_the_curves_are_those_of_every_network(run, networks):
    section = curves_of(networks, run.out / "models")
    text = json.dumps(section.numbers)
    assert "joint_no_parallax" in text
    assert len(networks[0].curve) == run.job.training.epochs
    assert curves_of(given_networks(pretrained(run)), run.out / "nowhere").numbers


def test_detections_are_counted_by_reason(run):
    section = detections_of(list(run.steps.values()))
    assert [row["step"] for row in section.numbers] == ["stamps of labelled stars", "stamps"]
    for row in section.numbers:
        step = run.steps[row["step"]]
        assert (row["used"], row["unused"]) == (step["used"], step["unused"])
        for reason, count in step["unused"].items():
            assert f"{reason}: {count:,}" in section.html
    assert detections_of([run.steps["predict"]]) is None


def test_uncertainties_are_of_the_samples_and_calibrated(run, stored):
    section = uncertainties_of(run.job, stored)
    assert len(section.figures) == 2
    text = json.dumps(section.numbers)
    assert all(label in text for label in LABELS)


def test_errors_that_few_stars_calibrated_are_told(run):
    steps = [{"step": "import"}, {"step": "held_out", "calibrated": {"teff": 81, "a": 81, "logg": 0, "fe_h": 500}}]
    (note,) = calibration_notes(run.job, steps)
    assert note.startswith("Claimed errors of a, teff: calibrated on 81 stars, fewer than two cells need")
    stars = run.steps["calibrate errors"]["calibrated"]
    few = {name for name, n in stars.items() if 0 < n < 2 * run.job.errors.min_stars}
    assert few, "the run of the tests is one of few stars"
    notes = [note for note in run.report["notes"] if note.startswith("Claimed errors of ")]
    assert {name for note in notes for name in note.partition(":")[0][18:].split(", ")} == few


def test_maps_need_parallaxes_in_the_output(run, stored):
    assert len(maps_of(run.job, stored).figures) >= 2
    columns = {name: source for name, source in run.job.output.columns.items() if name != "parallax"}
    job = run.job.model_copy(update={"output": run.job.output.model_copy(update={"columns": columns})})
    assert maps_of(job, stored) is None


@pytest.mark.parametrize("most", [1, 2, 8, 60])
def test_the_gallery_shows_flagged_and_unflagged_stars_once(run, stored, most):
    job = run.job.model_copy(update={"gallery": most})
    section = gallery_of(job, stored, stamps_of_run(run.job))
    shown = [int(star["star"]) for star in section.numbers]
    assert 0 < len(shown) == len(set(shown)) <= most
    table = column(run.out / "catalog", "object_id", "quality_flags").to_pydict()
    flags = dict(zip(table["object_id"], table["quality_flags"], strict=True))
    if most >= 8:
        assert {bool(flags[star]) for star in shown} == {True, False}
    no_pixels = column(run.out / "catalogs" / "stamps", "object_id", "stamp").to_pylist()
    assert not {row["object_id"] for row in no_pixels if row["stamp"] is None} & set(shown)


def test_no_gallery_without_stars_or_ids(run, stored):
    stamps = stamps_of_run(run.job)
    assert gallery_of(run.job.model_copy(update={"gallery": 0}), stored, stamps) is None
    columns = {"ra": "ra", "dec": "dec", "parallax": "gaia_parallax"}
    job = run.job.model_copy(update={"output": run.job.output.model_copy(update={"columns": columns})})
    assert gallery_of(job, stored, stamps) is None


# ---- evaluations


def test_held_out_stars_are_those_of_the_test(run, networks):
    found = held_out_evaluations(run.job, run.out / "models", networks)
    kinds = ("with parallax (ACF)", "without parallax (ACPF)")
    assert [each.model for each in found] == [f"{label} {kind}" for kind in kinds for label in LABELS]
    for each in found:
        assert len(each.predicted) == run.steps["training"]["n_test"]
        assert each.n_train == run.steps["training"]["trained"][each.label]
        assert np.isfinite(each.error).all()
        assert (each.unit, each.magnitude_name) == (LABELS[each.label], "smss_g_mag")
    assert held_out_evaluations(run.job, run.out / "nowhere", networks) == []


def test_the_axis_of_a_magnitude_names_the_survey_that_it_is_of(run):
    assert axis_name(magnitude_title(run.job, run.job.magnitude)) == "SkyMapper $g$ (mag)"
    assert axis_name(magnitude_title(run.job, "gaia_g_mag")) == "$G$ (mag)"
    assert axis_name(magnitude_title(load_job("demo"), "g_mag")) == "$G$ (mag)"
    known = np.full(3, 5000.0)
    stars = pa.table({"teff": known, "g_mag": known})
    found = evaluation_of(run.job, stars, "teff", known, against="truth", kind="truth", note="")
    assert found.magnitude_name == "smss_g_mag"


def test_the_validation_is_shown_where_no_star_is_kept_for_the_test(run, networks, monkeypatch):
    read = acf_reporting.pq.read_table

    def without_test(path, **options):
        table = read(path, **options)
        return table.filter(table["split"].to_numpy() == 1)

    monkeypatch.setattr(acf_reporting.pq, "read_table", without_test)
    found = held_out_evaluations(run.job, run.out / "models", networks)
    assert {len(each.predicted) for each in found} == {run.steps["training"]["n_validation"]}


# ---- pages of runs that lack something


def test_a_page_of_given_networks_has_no_training(run, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run.out, out, ignore=shutil.ignore_patterns("training", "models", "report.*", "image_comp*"))
    job = pretrained(run).model_copy(update={"out": str(out), "gallery": 0, "truth": None})
    job = job.model_copy(update={"evaluation": job.evaluation.model_copy(update={"external": ()})})
    steps = [step for name, step in run.steps.items() if not name.startswith(("train", "calib", "compare", "labels"))]
    done = report_run(job, out, steps, given_networks(job))
    numbers = json.loads((out / "report.json").read_text())
    assert done["evaluations"] == []
    for name in ("image_sample", "image_residuals", "image_methods", "image_gallery"):
        assert name not in numbers, name
    assert numbers["image_uncertainty"]
    assert numbers["digests"]["network joint"] == run.report["digests"]["network joint"]


def test_a_page_of_a_catalogue_without_parameters(run, networks, tmp_path, monkeypatch):
    """As of a field where every star lacks a band."""
    columns = column(run.out / "catalog", *open_stored(run.out / "catalog").schema.names)
    for name in columns.column_names:
        if name.startswith(tuple(LABELS)):
            place = columns.column_names.index(name)
            empty = np.full(columns.num_rows, np.nan, dtype=np.float32)
            columns = columns.set_column(place, columns.schema.field(name), pa.array(empty, from_pandas=True))
    place = columns.column_names.index("quality_flags")
    flags = pa.array(np.full(columns.num_rows, int(Flag.INCOMPLETE_BANDS), dtype=np.int32))
    columns = columns.set_column(place, columns.schema.field("quality_flags"), flags)
    write_mock(tmp_path / "catalog", columns, max_rows=500)
    job = run.job.model_copy(update={"out": str(tmp_path), "comparisons": None, "gallery": 0})
    page = write_acf_report(
        job, tmp_path, steps=list(run.steps.values()), networks=networks, evaluations=[], held_out={}
    )
    assert page.is_file()
    assert json.loads((tmp_path / "report.json").read_text())["flag_counts"]["INCOMPLETE_BANDS"] == columns.num_rows


def test_steps_in_the_page_have_their_times(run):
    shown = {step["name"]: step for step in run.report["steps"]}
    for name, step in steps_of(run.out).items():
        assert shown[name]["rows_in"] == step["rows_in"]
        assert shown[name]["seconds"] > 0, name
