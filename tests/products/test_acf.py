"""The product acf from cut-outs to report, on a small mock survey: every star accounted for, every column described."""

from __future__ import annotations

import json
import logging
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.command_line import call, summary
from reference.mock_acf import LABELS, acf_job, acf_mock, column, digests, receipts, steps_of

from stellarscale.catalog.reader import open_stored
from stellarscale.catalog.verify import verify
from stellarscale.engine.stamp_tasks import stamp_rejects_file
from stellarscale.errors import RunError
from stellarscale.flags import Flag
from stellarscale.models.image_store import load_image_model
from stellarscale.products import acf
from stellarscale.schema import load_product
from stellarscale.stamp_columns import STAMP, format_of

ENDINGS = ("", "_std", "_err", "_err95")
SECTIONS = (
    "image_stamps", "image_sample", "image_training", "image_residuals", "image_uncertainty", "image_methods",
    "image_maps", "image_gallery", "planned",
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("acf_one_core")


@pytest.fixture(scope="module")
def catalog(acf_run) -> pa.Table:
    return column(acf_run.out / "catalog", *open_stored(acf_run.out / "catalog").schema.names)


def numbers(table, name):
    return table[name].to_numpy(zero_copy_only=False).astype(float)


# ---- rows


def test_every_row_of_a_step_is_written_or_rejected(acf_run):
    steps = acf_run.steps
    for name, step in steps.items():
        lost = step.get("rejected") or 0
        if name != "compare methods" and "crossmatch" not in step["step"]:
            assert step["rows_in"] == step["written"] + (sum(lost.values()) if isinstance(lost, dict) else lost), name
    for before, after in (
        ("import master", "match master x gaia"),
        ("match master x gaia", "select stars"),
        ("select stars", "stamps"),
        ("stamps", "predict"),
        ("labels from galah", "select stars with labels"),
        ("select stars with labels", "stamps of labelled stars"),
        ("stamps of labelled stars", "training"),
    ):
        assert steps[after]["rows_in"] == steps[before]["written"], after
    assert acf_run.done["rows_in"] == steps["select stars"]["rows_in"]
    assert acf_run.done["written"] == steps["predict"]["written"] == open_stored(acf_run.out / "catalog").num_rows


def test_the_stars_of_the_catalogue_are_those_selected(acf_run, catalog):
    selected = column(acf_run.out / "catalogs" / "selected", "object_id", "sample_quality")
    assert catalog["object_id"].equals(selected["object_id"])
    assert catalog["sample_quality"].equals(selected["sample_quality"])
    assert set(catalog["sample_quality"].to_pylist()) == {"high", "low"}
    assert not verify(acf_run.out / "catalog").problems


def test_every_detection_is_in_a_stamp_or_has_a_reason_not_to_be(acf_run):
    step, stamps = acf_run.steps["stamps"], acf_run.out / "catalogs" / "stamps"
    counts = column(stamps, *(f"n_detections_{band}" for band in "uvgriz"))
    assert sum(int(numbers(counts, name).sum()) for name in counts.column_names) == step["used"]
    folder = stamps.with_name("stamps_rejects")
    rejects = pa.concat_tables([pq.read_table(stamp_rejects_file(folder, p)) for p in open_stored(stamps).pixels])
    assert rejects.num_rows == sum(step["unused"].values())
    reasons = dict(zip(*np.unique(rejects["reason"].to_numpy(zero_copy_only=False), return_counts=True), strict=True))
    assert reasons == step["unused"]
    ids = set(column(stamps, "object_id")["object_id"].to_pylist())
    detections = column(acf_run.out / "catalogs" / "detections", "object_id")["object_id"].to_pylist()
    assert sum(each in ids for each in detections) == step["used"] + rejects.num_rows


def test_the_training_set_is_split_as_the_job_says(acf_run):
    table = pq.read_table(acf_run.out / "training" / "table.parquet")
    step = acf_run.steps["training"]
    assert np.bincount(table["split"].to_numpy()).tolist() == [step["n_train"], step["n_validation"], step["n_test"]]
    stamps = np.load(acf_run.out / "training" / "stamps.npy", mmap_mode="r")
    assert stamps.shape == (step["written"], 6, 24, 24)
    assert acf_run.steps["train"]["models"] == ["joint", "joint_no_parallax"]


# ---- the value-added catalogue


def test_columns_have_the_units_and_descriptions_of_the_product(acf_run, catalog):
    described = load_product("acf").columns
    predicted = [f"{label}{ending}" for label in LABELS for ending in ENDINGS]
    assert catalog.schema.names == ["_healpix_29", *acf_run.job.output.columns, *predicted, "quality_flags"]
    for name in (*predicted, "quality_flags"):
        field, about = catalog.schema.field(name), described[name]
        metadata = {key.decode(): value.decode() for key, value in field.metadata.items()}
        assert field.type == pa.type_for_alias(about.dtype), name
        assert (metadata.get("unit", ""), metadata["ucd"], metadata["description"]) == (
            about.unit or "", about.ucd, about.description,
        )  # fmt: skip
    assert catalog.schema.field("parallax").metadata[b"unit"] == b"mas"
    assert STAMP not in catalog.schema.names


def test_astropy_reads_units_and_ucds_from_the_parquet_files(acf_run):
    votable = pytest.importorskip("astropy.io.votable")
    path = next(iter((acf_run.out / "catalog" / "dataset").rglob("Npix=*.parquet")))
    text = pq.read_schema(path).metadata[b"IVOA.VOTable-Parquet.content"]
    fields = {field.name: field for field in votable.parse(BytesIO(text)).get_first_table().fields}
    assert str(fields["teff"].unit) == str(fields["teff_err95"].unit) == "K"
    assert fields["logg"].ucd == "phys.gravity"
    assert fields["fe_h_err"].ucd == "stat.error;phys.abund.Fe"
    assert "68.27 %" in fields["teff_err"].description
    assert str(fields["parallax"].unit) == "mas"


def test_hats_calls_the_catalogue_valid(acf_run):
    validation = pytest.importorskip("hats.io.validation")
    for path in (acf_run.out / "catalog", acf_run.out / "catalogs" / "stamps"):
        assert validation.is_valid_catalog(path, strict=True)


def test_stars_with_a_stamp_have_parameters_and_others_a_flag(catalog):
    flags = catalog["quality_flags"].to_numpy()
    without = (flags & int(Flag.INCOMPLETE_BANDS)) != 0
    assert 0 < without.sum() < 20
    for name in (f"{label}{ending}" for label in LABELS for ending in ENDINGS):
        assert np.array_equal(np.isnan(numbers(catalog, name)), without), name
    for label in LABELS:
        spread, err, err95 = (numbers(catalog, f"{label}{end}")[~without] for end in ("_std", "_err", "_err95"))
        assert (spread > 0).all()
        assert (err > 0).all()
        assert (err95 > err).all()


def test_flags_are_those_of_the_stamps_and_of_the_limits(acf_run, catalog):
    stamps = column(acf_run.out / "catalogs" / "stamps", "quality_flags")["quality_flags"].to_numpy()
    flags = catalog["quality_flags"].to_numpy()
    assert ((flags & stamps) == stamps).all()
    for label, (low, high) in acf_run.job.limits.items():
        value = numbers(catalog, label)
        outside = (value < (low if low is not None else -np.inf)) | (value > (high if high is not None else np.inf))
        assert np.array_equal((flags & int(Flag[f"OUTSIDE_{label.upper()}_RANGE"])) != 0, outside)


def test_the_catalogue_says_which_networks_and_settings_made_it(acf_run):
    extra = open_stored(acf_run.out / "catalog").properties.extra
    told = {key.removeprefix("stellarscale_"): value for key, value in extra.items()}
    model, _ = load_image_model(acf_run.out / "models" / "joint.safetensors", expect_digest=told["model_digest_joint"])
    assert model.labels == tuple(LABELS)
    assert model.stamps == format_of(open_stored(acf_run.out / "catalogs" / "stamps").schema)
    assert "model_digest_joint_no_parallax" not in told, "it is there for the comparison"
    assert (told["product"], told["id"]) == ("acf", "object_id")
    assert acf_run.report["digests"]["job"] == told["job_digest"]
    assert acf_run.report["digests"]["network joint"] == told["model_digest_joint"]


def test_no_pickle_is_left_by_a_run(acf_run):
    assert not [path for path in acf_run.out.rglob("*") if path.suffix in {".pkl", ".pt", ".pth", ".joblib"}]
    assert not [
        path for path in acf_run.out.rglob("*") if "stellarscale-part" in path.name or "checkpoint" in path.name
    ]


# ---- the report


def test_the_report_has_every_section(acf_run):
    report, page = acf_run.report, (acf_run.out / "report.html").read_text()
    for section in SECTIONS:
        assert report[section], section
        assert f'id="{section}"' in page, section
    assert page.count("<img") >= 20
    assert "No model tells" not in page
    assert [step["name"] for step in report["steps"]] == list(acf_run.steps)


def test_evaluations_are_with_held_out_stars_truth_and_other_catalogues(acf_run):
    told = {(each["model"], each["against"]): each["n"] for each in acf_run.done["evaluations"]}
    n_test, known = acf_run.steps["training"]["n_test"], sum(acf_run.steps["predict"][key] for key in ("written",))
    for label in LABELS:
        assert told[f"{label} with parallax (ACF)", "held-out labels"] == n_test
        assert told[f"{label} without parallax (ACPF)", "held-out labels"] == n_test
        assert 0.9 * known < told[f"{label} catalogue", "truth"] <= known
        for survey in ("apogee", "lsp3"):
            matched = acf_run.steps[f"compare with {survey}"]["written"]
            assert 0.8 * matched < told[label, survey] <= matched, "but for stars without a parameter"


def test_the_report_is_written_again_from_what_is_there(acf_run, tmp_path):
    before = acf_run.report
    copy = tmp_path / "run"
    shutil.copytree(acf_run.out, copy)
    (copy / "report.json").unlink()
    told = summary("report", copy)
    assert Path(told["report"]) == copy / "report.html"
    after = json.loads((copy / "report.json").read_text())
    assert after.keys() == before.keys()
    same = set(before) - {"digests"}  # the job's digest is of the directory too
    assert {name: after[name] for name in same} == {name: before[name] for name in same}


# ---- again, and parts


@pytest.fixture
def put_back(acf_run):
    """What another run writes again, as it was."""
    files = {
        acf_run.out / name: (acf_run.out / name).read_bytes() for name in ("steps.json", "report.json", "report.html")
    }
    yield
    for path, content in files.items():
        path.write_bytes(content)


@pytest.mark.usefixtures("put_back")
def test_a_second_run_does_nothing_anew(acf_run):
    before, bytes_before, steps = receipts(acf_run.out), digests(acf_run.out / "catalog"), acf_run.steps
    planned = acf_run.report["planned"]
    done = acf.run(acf_run.job, cluster="threads:2")
    again = steps_of(acf_run.out)
    assert list(again) == list(steps)
    assert {name: step.get("resumed") for name, step in again.items()} == dict.fromkeys(steps, True)
    assert receipts(acf_run.out) == before
    assert digests(acf_run.out / "catalog") == bytes_before
    assert done["evaluations"] == acf_run.done["evaluations"]
    assert acf_run.report["planned"] == planned, "times of an earlier run are told by its receipts"


def test_a_subset_is_that_part_of_the_whole(acf_run, catalog, tmp_path, monkeypatch):
    monkeypatch.setattr("stellarscale.products.acf_reporting.report_run", lambda *content: {})
    job = acf_job(tmp_path / "part", *acf_run.given)
    ra, dec = (float(catalog[name][catalog.num_rows // 2].as_py()) for name in ("ra", "dec"))
    subset = f"cone:{ra:.4f},{dec:.4f},2"
    done = acf.run(job, cluster="threads:2", subset=subset)
    part = column(tmp_path / "part" / "catalog", "object_id", "teff", "logg_std").to_pylist()
    assert 0 < done["written"] == len(part) < catalog.num_rows
    whole = {row["object_id"]: row for row in catalog.select(["object_id", "teff", "logg_std"]).to_pylist()}
    assert all(whole[row["object_id"]] == row for row in part)
    steps = steps_of(tmp_path / "part")
    assert steps["select stars"]["rows_in"] < acf_run.steps["select stars"]["rows_in"]
    with pytest.raises(RunError, match="subset"):
        acf.run(job, cluster="threads:1")


def test_a_dry_run_says_what_would_be_done_and_does_nothing(acf_run, tmp_path):
    told = summary("run", "acf_mock", "--dry-run", "--set", f"data={acf_mock().folder}", "--set", f"out={tmp_path}/out")
    assert (told["job"], told["match"], told["labels"]) == ("acf_mock", "master x gaia", "galah")
    assert set(told["inputs"]) == set(acf_run.job.used_catalogs)
    assert "px, bands u v g r i z" in told["stamps"]
    assert not (tmp_path / "out").exists()


def test_the_status_of_the_run_lists_its_steps(acf_run):
    result = call("status", acf_run.out)
    assert result.exit_code == 0
    for name in (
        "catalogs/stamps",
        "catalogs/stamps_labelled",
        "training",
        "models",
        "held_out",
        "catalog",
        "finished",
    ):
        assert name in result.output


def test_keys_of_the_product_say_what_they_mean():
    text = call("keys", "--product", "acf").output
    for name in (
        "network.backbone.stripes",
        "stamps.max_missing",
        "selection.strata.keep_one_in",
        "prediction.samples",
    ):
        assert name in text


def test_the_plan_of_a_job_without_faults_warns_of_nothing(acf_run, caplog):
    with caplog.at_level(logging.WARNING):
        acf.plan(acf_run.job)
    assert not caplog.records
