"""Errors from stars held out, and the value-added catalogue of stamps: files, records, resuming, precision."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.mock_catalog import write_mock
from reference.tiny_networks import BACKBONE, HEAD, LABELS, LAYOUT, save_tiny, stamp_table, tiny_parallaxes, tiny_stamps

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.config import AcfJob
from stellarscale.engine import gpu, image_tasks
from stellarscale.engine.image_scoring import held_out_file
from stellarscale.engine.image_training_tasks import NetworkSpec
from stellarscale.errors import ModelError, RunError, SchemaError
from stellarscale.flags import Flag
from stellarscale.kernels.stats import ONE_SIGMA
from stellarscale.models import image_passes
from stellarscale.models.image_errors import read_errors
from stellarscale.models.image_predict import ImagePredictor
from stellarscale.models.image_store import load_image_model
from stellarscale.products import image_held_out, image_prediction
from stellarscale.products.image_held_out import errors_file, settled_prediction
from stellarscale.products.image_models import TrainedNetwork
from stellarscale.products.image_novelty import learn_novelties, novelty_beside, novelty_file
from stellarscale.products.image_prediction import calibrate_image_errors, predict_images
from stellarscale.products.reporting import step_row
from stellarscale.products.steps import session
from stellarscale.settings.image_network import ImageNetwork, ImagePrediction
from stellarscale.stamp_columns import binary_array, stamps_of

N_TRAINING, N_STARS = 600, 240
NETWORK = ImageNetwork(backbone=BACKBONE, head=HEAD, joint=True)


def job_of(out: Path, **changes) -> AcfJob:
    about = {
        "product": "acf",
        "name": "test",
        "out": str(out),
        "catalogs": {name: {"path": "nowhere"} for name in ("master", "detections", "galah")},
        "match": {"primary": "master"},
        "stamps": {"files": "{object_id}.fits", "bands": list(LAYOUT.bands), "reference_band": "r", "size_px": 16},
        "labels": {
            "match": {"catalog": "galah", "radius_arcsec": 1.0},
            "labels": {label: {"column": f"galah_{label}", "unit": unit} for label, (unit, _, _) in LABELS.items()},
        },
        "network": NETWORK.model_dump(),
        "training": {"without_parallax": True},
        "prediction": {"samples": 16, "batch_size": 32, "precision": "fp32"},
        "errors": {"noise": ["gaia_parallax_error/gaia_parallax"], "min_stars": 50},
        "output": {"name": "catalog", "columns": {"object_id": "object_id", "ra": "ra", "dec": "dec"}},
    }
    return AcfJob.model_validate(about | changes)


@pytest.fixture(autouse=True)
def _one_core(monkeypatch):
    """Passes of one thread: networks this small gain nothing from more, and other tests want the cores."""
    monkeypatch.setattr(gpu, "cores", lambda: 1)


@pytest.fixture(scope="module")
def on():
    with session("threads:2") as on:
        yield on


@pytest.fixture(scope="module")
def stamps(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("stamps") / "stamps"
    write_mock(root, stamp_table(N_STARS, null=[3]), max_rows=60, row_group_rows=25, stellarscale_id="object_id")
    return root


def networks_in(folder: Path) -> list[TrainedNetwork]:
    """A joint network, and the same without parallax."""
    made = []
    for name, parallax in (("joint", True), ("joint_no_parallax", False)):
        path, digest = save_tiny(folder, name=name, parallax=parallax)
        spec = NetworkSpec(name, tuple(LABELS), NETWORK.model_copy(update={"parallax": parallax}))
        made.append(TrainedNetwork(spec, path, {"digest": digest}))
    return made


@pytest.fixture
def run(tmp_path) -> tuple[AcfJob, list[TrainedNetwork], Path]:
    """A job, its networks, and a training set whose labels are what the joint network says, with errors."""
    networks, folder = networks_in(tmp_path / "models"), tmp_path / "training"
    folder.mkdir()
    images, (parallax, error) = tiny_stamps(N_TRAINING, seed=9), tiny_parallaxes(N_TRAINING, seed=9)
    np.save(folder / "stamps.npy", images)
    plain = ImagePredictor(
        [load_image_model(networks[0].path)], ImagePrediction(samples=16, precision="fp32"), threads=1
    )
    mean, _ = plain.estimate(images, parallax, error)
    rng = np.random.default_rng(2)
    labels = mean + rng.normal(size=mean.shape) * [100.0, 0.1, 0.1]
    columns = {label: pa.array(labels[:, number]) for number, label in enumerate(LABELS)}
    columns["logg"] = pa.array(labels[:, 1], mask=np.arange(N_TRAINING) % 50 == 1)
    split = (np.arange(N_TRAINING) % 4).clip(0, 2).astype(np.int8)  # a quarter trains, a quarter validates
    table = {"object_id": np.arange(N_TRAINING) + 77, "parallax": parallax, "parallax_error": error, **columns}
    table |= {"g_mag": rng.uniform(12, 17, N_TRAINING).astype(np.float32), "split": split}
    pq.write_table(pa.table(table), folder / "table.parquet")
    learn_novelties(networks, folder, tmp_path / "models", quantile=0.999)
    return job_of(tmp_path), networks, folder


def test_held_out_stars_calibrate_errors_and_are_kept(on, run, tmp_path):
    job, networks, training = run
    steps: list = []
    summary = calibrate_image_errors(on, job, networks, training, tmp_path, steps)
    assert steps == [summary]
    row = step_row(summary)
    assert (row.rows_out, row.partitions) == (2 * 450, 2)
    assert row.seconds > 0
    assert row.peak_memory_mb > 0
    assert summary["rows_in"] == summary["written"] == 2 * 450
    assert summary["calibrated"]["teff"] == 150
    assert summary["calibrated"]["logg"] < 150, "stars without the label do not count"
    assert {"teff_no_parallax", "logg_no_parallax", "fe_h_no_parallax"} < summary["calibrated"].keys()
    assert (summary["device"], summary["precision"], summary["change"]) == ("cpu", "fp32", {})
    found = pq.read_table(held_out_file(tmp_path / "models", "joint"))
    assert found.num_rows == 3 * 450
    assert set(found["split"].to_pylist()) == {1, 2}
    assert found.schema.field("std").metadata
    test = found.filter(pa.array((found["split"].to_numpy() == 2) & (np.array(found["label"].to_pylist()) == "teff")))
    off = np.abs(test["truth"].to_numpy() - test["prediction"].to_numpy())
    assert (off < test["err"].to_numpy()).mean() == pytest.approx(ONE_SIGMA, abs=0.09)
    assert (off < test["err95"].to_numpy()).mean() == pytest.approx(0.95, abs=0.05)
    assert np.median(test["err"].to_numpy()) == pytest.approx(100, rel=0.3)
    errors = read_errors(errors_file(tmp_path / "models", "teff"), "teff")
    assert errors.magnitude == "g_mag", "the job's, since its errors name none"
    assert errors.noise == ("gaia_parallax_error/gaia_parallax",)
    assert summary["extrapolated"]["joint"] == found["novel"].to_numpy().sum() / 3 < 0.1 * 450
    blind = pq.read_table(held_out_file(tmp_path / "models", "joint_no_parallax"))
    assert not np.array_equal(blind["prediction"].to_numpy(), found["prediction"].to_numpy())


def test_a_finished_calibration_is_not_redone_and_a_changed_one_is_told(on, run, tmp_path, monkeypatch):
    job, networks, training = run
    calibrate_image_errors(on, job, networks, training, tmp_path, [])
    for path in (held_out_file(tmp_path / "models", "joint"), novelty_file(tmp_path / "models", "joint")):
        before = path.read_bytes()
        path.unlink()
        calibrate_image_errors(on, job, networks, training, tmp_path, [])
        assert path.read_bytes() == before, "files that are missing, as of an older run, are made again"
    monkeypatch.setattr(image_held_out, "run_stage", None)
    steps: list = []
    assert calibrate_image_errors(on, job, networks, training, tmp_path, steps)["resumed"]
    monkeypatch.undo()
    other = job.model_copy(update={"prediction": ImagePrediction(samples=8, batch_size=64, precision="fp32")})
    with pytest.raises(RunError, match=r"prediction\.samples was 16, now 8"):
        calibrate_image_errors(on, other, networks, training, tmp_path, [])
    calibrate_image_errors(replace(on, update=True), other, networks, training, tmp_path, [])


def test_too_few_stars_leave_errors_null_which_is_said(on, run, stamps, tmp_path, caplog):
    job, networks, training = run
    errors_file(tmp_path / "models", "fe_h").write_bytes(b"of an earlier training")
    table = pq.read_table(training / "table.parquet")
    few = pa.array(table["fe_h"].to_numpy(), mask=np.arange(N_TRAINING) > 60)
    pq.write_table(table.set_column(table.column_names.index("fe_h"), "fe_h", few), training / "table.parquet")
    steps: list = []
    with caplog.at_level(logging.WARNING):
        summary = calibrate_image_errors(on, job, networks, training, tmp_path, steps)
        catalog = predict_images(on, job, stamps, networks, tmp_path, steps)
    assert summary["calibrated"]["fe_h"] == 0
    assert "its errors are not calibrated" in caplog.text
    assert "fe_h has no calibrated errors" in caplog.text
    rows = read_columns(open_stored(catalog), ["fe_h", "fe_h_std", "fe_h_err", "teff_err"])
    assert rows["fe_h_err"].null_count == N_STARS
    assert rows["fe_h"].null_count == rows["teff_err"].null_count == 1


def test_the_catalogue_has_every_star_its_parameters_and_errors(on, run, stamps, tmp_path, caplog):
    job, networks, training = run
    steps: list = []
    calibrate_image_errors(on, job, networks, training, tmp_path, steps)
    catalog = predict_images(on, job, stamps, networks, tmp_path, steps)
    stored = open_stored(catalog)
    assert stored.properties.rows == N_STARS
    assert "stamp" not in stored.schema.names
    assert stored.properties.extra["stellarscale_model_digest_joint"] == networks[0].digest
    assert "stellarscale_model_digest_joint_no_parallax" not in stored.properties.extra
    rows = read_columns(stored, ["object_id", "teff", "teff_std", "teff_err", "teff_err95", "quality_flags"])
    assert sorted(rows["object_id"].to_pylist()) == list(range(10**9, 10**9 + N_STARS))
    assert [rows[name].null_count for name in rows.column_names[1:]] == [0, 1, 1, 1, 1, 0]
    err, err95 = (rows[name].drop_null().to_numpy() for name in ("teff_err", "teff_err95"))
    assert (err95 >= err).all()
    assert steps[-1]["step"] == "predict_images"
    assert steps[-1]["device"] == ["cpu"]
    assert steps[-1]["rows_in"] == steps[-1]["written"] == N_STARS
    assert steps[-1]["without_parameters"] == 1
    assert "has parameters" not in caplog.text
    again: list = []
    predict_images(on, job, stamps, networks, tmp_path, again)
    assert again[-1]["resumed"]


def test_a_catalogue_without_any_parameters_is_told_with_the_flags(on, run, tmp_path, caplog):
    job, networks, _ = run
    table = stamp_table(60, null=range(60))
    write_mock(tmp_path / "stamps", table, max_rows=30, row_group_rows=25, stellarscale_id="object_id")
    told = "none of the 60 stars of the catalogue has parameters; flags of these stars: INCOMPLETE_BANDS 60"
    for _ in ("made", "resumed"):
        steps: list = []
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            predict_images(on, job, tmp_path / "stamps", networks, tmp_path, steps)
        assert steps[-1]["without_parameters"] == steps[-1]["written"] == 60
        assert told in caplog.text


def unlike(table: pa.Table) -> pa.Table:
    """The same stars, every third one fainter by far: its pixels are noise."""
    stamps = stamps_of(table).copy()
    stamps[::3] = np.float16(0.01) * stamps[::3]
    place = table.column_names.index("stamp")
    null = table["stamp"].is_null().to_numpy()
    return table.set_column(place, table.schema.field(place), binary_array(stamps, table.field(place).type, null=null))


def test_stars_unlike_the_training_stars_are_flagged_whatever_the_batches_and_the_network(on, run, tmp_path):
    job, networks, training = run
    table = unlike(stamp_table(N_STARS, null=[3]))
    write_mock(tmp_path / "stamps", table, max_rows=60, row_group_rows=25, stellarscale_id="object_id")
    calibrate_image_errors(on, job, networks, training, tmp_path, [])
    found = {}
    for batch in (32, 7):
        changed = job.model_copy(update={"prediction": job.prediction.model_copy(update={"batch_size": batch})})
        catalog = predict_images(on, changed, tmp_path / "stamps", networks, tmp_path / f"of_{batch}", [])
        rows = read_columns(open_stored(catalog), ["object_id", "teff", "quality_flags"]).sort_by("object_id")
        found[batch] = (rows["quality_flags"].to_numpy() & int(Flag.EXTRAPOLATED)) != 0
    faint = np.arange(N_STARS) % 3 == 0
    assert np.array_equal(found[32], found[7])
    assert found[32][faint & (np.arange(N_STARS) != 3)].mean() > 0.95
    assert found[32][~faint].mean() < 0.1
    assert not found[32][3], "a star without parameters is not said to be extrapolated"
    assert rows["teff"].null_count == 1


def test_networks_without_their_region_are_refused(on, run, stamps, tmp_path):
    job, networks, _ = run
    folder = tmp_path / "models"
    known = novelty_file(folder, "joint").read_bytes()
    novelty_file(folder, "joint").unlink()
    with pytest.raises(ModelError, match=r"novelty_joint\.npz.*older version"):
        predict_images(on, job, stamps, networks, tmp_path, [])
    novelty_file(folder, "joint").write_bytes(novelty_file(folder, "joint_no_parallax").read_bytes())
    with pytest.raises(ModelError, match="region of the training stars is that of another network"):
        predict_images(on, job, stamps, networks, tmp_path, [])
    novelty_file(folder, "joint").write_bytes(known)
    assert list(novelty_beside(job, networks[:1])) == ["joint"]
    novelty_file(folder, "joint_no_parallax").unlink()  # it serves no star
    assert predict_images(on, job, stamps, networks, tmp_path, []).is_dir()


def test_another_region_is_another_catalogue(on, run, stamps, tmp_path):
    job, networks, training = run
    predict_images(on, job, stamps, networks, tmp_path, [])
    learn_novelties(networks, training, tmp_path / "models", quantile=0.9)
    with pytest.raises(RunError, match=r"novelty\.joint was"):
        predict_images(on, job, stamps, networks, tmp_path, [])


def breaks_after_two(task, pixel):
    """As the worker's function, until two partitions are written."""
    if len(list(task.out.rglob("Npix=*.parquet"))) >= 2:
        raise SchemaError("a broken disk")
    return image_tasks.predict_image_pixel(task, pixel)


def test_a_run_that_broke_goes_on_and_gives_the_same_catalogue(on, run, stamps, tmp_path, monkeypatch):
    job, networks, _ = run
    whole = predict_images(on, job, stamps, networks, tmp_path / "whole", [])
    monkeypatch.setattr(image_prediction, "predict_image_pixel", breaks_after_two)
    with pytest.raises(RunError, match="a broken disk"):
        predict_images(on, job, stamps, networks, tmp_path / "broken", [])
    monkeypatch.undo()
    steps: list = []
    mended = predict_images(on, job, stamps, networks, tmp_path / "broken", steps)
    assert 0 < steps[-1]["resumed_partitions"] < steps[-1]["partitions"]
    names = open_stored(whole).schema.names
    one, other = (read_columns(open_stored(path), names) for path in (whole, mended))
    assert one.equals(other)


def test_another_network_or_other_errors_are_another_catalogue(on, run, stamps, tmp_path):
    job, networks, training = run
    predict_images(on, job, stamps, networks, tmp_path, [])
    calibrate_image_errors(on, job, networks, training, tmp_path, [])
    with pytest.raises(RunError, match=r"errors\.\w+ was not given"):
        predict_images(on, job, stamps, networks, tmp_path, [])
    changed = replace(networks[0], numbers={"digest": "0" * 64})
    with pytest.raises(ModelError, match="not the one that was asked for"):
        predict_images(on, job, stamps, [changed], tmp_path, [])


def test_a_precision_that_changes_labels_too_much_is_not_used_if_it_is_left_open(
    on, run, tmp_path, monkeypatch, caplog
):
    job, networks, training = run
    job = job.model_copy(update={"prediction": ImagePrediction(samples=16, batch_size=32)})
    monkeypatch.setattr(
        image_passes, "_precision", lambda settings, _: {"auto": "bf16"}.get(settings.precision, settings.precision)
    )
    monkeypatch.setattr(image_held_out, "MOST_CHANGE", 1e-9)
    with caplog.at_level(logging.WARNING):
        summary = calibrate_image_errors(on, job, networks, training, tmp_path, [])
    assert summary["precision"] == "fp32"
    assert summary["change"].keys() == {
        f"{name} {label}" for name in ("joint", "joint_no_parallax") for label in LABELS
    }
    assert "fp32 is used" in caplog.text
    assert json.loads((tmp_path / "models" / "precision.json").read_text())["precision"] == "fp32"
    assert settled_prediction(job, tmp_path / "models").precision == "fp32"
    monkeypatch.setattr(image_held_out, "MOST_CHANGE", 1.0)
    caplog.clear()
    summary = calibrate_image_errors(on, job, networks, training, tmp_path / "other", [])
    assert summary["precision"] == "bf16"
    assert "fp32 is used" not in caplog.text
    assert settled_prediction(job, tmp_path / "other" / "models").precision == "bf16"
