"""What a million stars would take, in proportion to what the steps of a run took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reference.mock_acf import acf_job

from stellarscale.engine.image_training_tasks import NetworkSpec
from stellarscale.products.acf_scale import GIB, STARS, planned, planned_section
from stellarscale.products.image_models import TrainedNetwork
from stellarscale.report.labels import duration
from stellarscale.settings.image_network import ImageNetwork

STAMPS = {"step": "stamps", "name": "stamps", "rows_in": 1000, "written": 1000, "seconds": 20.0, "bytes": 28_000_000,
          "peak_memory_mb": 700.0, "resumed_partitions": 0}  # fmt: skip
PREDICT = {**STAMPS, "step": "predict_images", "name": "predict", "seconds": 5.0, "bytes": 200_000}
IMPORT = {**STAMPS, "step": "import", "name": "import master"}


def network(tmp_path: Path, *, epochs: int = 4, **numbers) -> TrainedNetwork:
    spec = NetworkSpec("joint", ("teff",), ImageNetwork())
    (tmp_path / "joint.json").write_text(json.dumps({"curve": [{}] * epochs}))
    return TrainedNetwork(spec, tmp_path / "joint.safetensors", {"digest": "0", **numbers})


def test_time_and_storage_grow_with_the_stars_and_memory_does_not():
    stamps, predict = planned([IMPORT, STAMPS, PREDICT], [])
    assert (stamps["step"], stamps["rows"], stamps["rows_per_s"]) == ("stamps", 1000, 50.0)
    assert (stamps["seconds"], stamps["bytes"], stamps["peak_memory_mb"]) == (20_000.0, 28e9, 700.0)
    assert (predict["rows_per_s"], predict["seconds"], predict["bytes"]) == (200.0, 5000.0, 2e8)
    assert planned([STAMPS], [], stars=10 * STARS)[0]["seconds"] == 10 * stamps["seconds"]


def test_stamps_of_labelled_stars_are_planned_for_as_many_as_there_are_labels():
    (labelled,) = planned([{**STAMPS, "name": "stamps of labelled stars"}], [])
    assert (labelled["seconds"], labelled["bytes"]) == (20.0, 28_000_000)


@pytest.mark.parametrize("part", [{"resumed_partitions": 3}, {"rows_in": 0, "bytes": 0}])
def test_steps_that_tell_no_time_are_left_out(part):
    assert planned([{**STAMPS, **part}], []) == []


def test_a_step_that_was_found_finished_has_the_time_of_its_making():
    assert planned([{**STAMPS, "resumed": True}], []) == planned([STAMPS], [])


def test_a_training_takes_its_own_stars_and_epochs(tmp_path):
    (row,) = planned([], [network(tmp_path, n_train=800, stars_per_s=100.0)])
    assert row["step"] == "training of joint, 4 epochs"
    assert (row["rows"], row["rows_per_s"], row["seconds"]) == (800, 100.0, 32.0)
    assert planned([], [network(tmp_path, n_train=800)]) == [], "a network of another run tells no speed"


def test_the_section_has_the_numbers_and_the_size_of_a_stamp(tmp_path):
    job = acf_job(tmp_path, data=tmp_path)
    section = planned_section([STAMPS, PREDICT], [network(tmp_path, n_train=800, stars_per_s=100.0)], job)
    assert (section.key, section.title) == ("planned", "A million stars")
    assert len(section.numbers) == 3
    for part in (f"{6 * 24 * 24 * 2:,} bytes", f"{28e9 / GIB:.3g}", duration(20_000.0), "training of joint"):
        assert part in section.html
    assert planned_section([IMPORT], [], job) is None
