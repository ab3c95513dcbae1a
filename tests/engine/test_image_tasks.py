"""Partitions of stamps on disk: predicted by row groups, on one and on two workers; what is read ahead."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.mock_catalog import write_mock
from reference.tiny_networks import LABELS, LAYOUT, save_tiny, stamp_table, tiny_stamps

from stellarscale.catalog.layout import pixel_path
from stellarscale.catalog.reader import open_stored
from stellarscale.engine.client import connect
from stellarscale.engine.gpu import Share, share_of_machine
from stellarscale.engine.image_tasks import (
    HeldOutPart,
    HeldOutTask,
    Networks,
    PredictImagesTask,
    check_images,
    in_parts,
    measure_precision,
    predict_held_out,
    predict_image_pixel,
)
from stellarscale.engine.ledger import open_ledger
from stellarscale.engine.stage import run_stage
from stellarscale.errors import ModelError, SchemaError
from stellarscale.flags import Flag
from stellarscale.partition.image_predict import PredictStampsConfig, predict_stamps
from stellarscale.schema import load_product
from stellarscale.settings.image_network import ImagePrediction

N = 300
SETTINGS = ImagePrediction(samples=16, batch_size=32, precision="fp32")
CONFIG = PredictStampsConfig(
    labels=tuple(LABELS),
    columns={"object_id": "object_id", "ra": "ra", "dec": "dec"},
    parallax="gaia_parallax",
    parallax_error="gaia_parallax_error",
    limits={},
    product=load_product("acf"),
)
TOLERANCE = 2e-5  # of a label's standard deviation: float32 sums in another order


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return stamp_table(N, null=[4, 5, 200])


@pytest.fixture(scope="module")
def root(tmp_path_factory, table) -> Path:
    path = tmp_path_factory.mktemp("stamps") / "stamps"
    write_mock(path, table, max_rows=120, row_group_rows=25, stellarscale_id="object_id")
    return path


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Networks:
    # So many processes share the cores that each pass has one thread: waiting for others is no part of the tests.
    return Networks((save_tiny(tmp_path_factory.mktemp("models")),), SETTINGS, Share(processes=1000))


def written(out: Path, root: Path) -> pa.Table:
    paths = [pixel_path(out, pixel) for pixel in open_stored(root).pixels]
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths if path.exists()])


def check_same(one: pa.Table, other: pa.Table) -> None:
    """Ids and flags to the bit, numbers within the tolerance and the last bit of a float32."""
    assert one.column_names == other.column_names
    for name in ("object_id", "quality_flags"):
        assert one[name].to_pylist() == other[name].to_pylist()
    for label, (_, _, deviation) in LABELS.items():
        for column in (label, f"{label}_std"):
            first, second = (each[column].to_numpy(zero_copy_only=False) for each in (one, other))
            assert np.allclose(first, second, rtol=1e-6, atol=TOLERANCE * deviation, equal_nan=True), column


def test_partitions_are_predicted_as_the_whole_table_is(root, networks, table, tmp_path):
    task = PredictImagesTask(root, tmp_path, CONFIG, networks)
    assert "stamp" not in check_images(task).names
    pixels = open_stored(root).pixels
    records = [predict_image_pixel(task, pixel) for pixel in pixels]
    assert len(records) > 2
    assert all(record["rows_in"] == record["rows_out"] > 0 for record in records)
    assert all((record["device"], record["precision"]) == ("cpu", "fp32") for record in records)
    assert sum(record["without"] for record in records) == 3
    assert sum(record["why"].get("INCOMPLETE_BANDS", 0) for record in records) == 3
    result = written(tmp_path, root)
    assert result.num_rows == N
    check_same(result.select(result.column_names), predict_stamps(table, CONFIG, networks.load()))
    assert result["teff"].null_count == 3
    assert result["quality_flags"].to_numpy()[[4, 5, 200]].tolist() == [int(Flag.INCOMPLETE_BANDS)] * 3
    again = [predict_image_pixel(replace(task, out=tmp_path / "again"), pixel) for pixel in pixels]
    assert [each["checksum"] for each in again] == [each["checksum"] for each in records], "the same bytes"


def test_one_and_two_workers_give_the_same_numbers(root, networks, tmp_path):
    results = {}
    for cluster in ("threads:1", "processes:2"):
        out = tmp_path / cluster.replace(":", "-")
        with connect(cluster) as client:
            assert share_of_machine(client) == (Share(2) if cluster == "processes:2" else Share(1, most=1))
            task = PredictImagesTask(root, out, CONFIG, networks)
            tasks = {str(pixel): pixel for pixel in open_stored(root).pixels}
            ledger = open_ledger(out, step="predict", digest="d", about={})
            run_stage(client, partial(predict_image_pixel, task), tasks, ledger=ledger, stage="predict")
        results[cluster] = written(out, root)
    check_same(*results.values())


def test_what_cannot_work_is_told_before_any_work(root, networks, tmp_path):
    task = PredictImagesTask(root, tmp_path, CONFIG, networks)
    with pytest.raises(SchemaError, match="Needed: plx"):
        check_images(replace(task, config=replace(CONFIG, parallax="plx")))
    only = Networks((save_tiny(tmp_path, ("teff",), name="teff"),), SETTINGS)
    with pytest.raises(ModelError, match=r"do not give every parameter.*teff\.safetensors"):
        check_images(replace(task, networks=only))
    layout = replace(LAYOUT, bands=("g", "r", "z"))
    other = Networks((save_tiny(tmp_path, name="other", layout=layout),), SETTINGS)
    with pytest.raises(ModelError, match=r"not of the kind.*other\.safetensors.*bands"):
        check_images(replace(task, networks=other))
    stampless = tmp_path / "plain"
    write_mock(stampless, stamp_table(20).drop_columns(["stamp"]), stellarscale_id="object_id")
    with pytest.raises(SchemaError, match="holds no stamps"):
        check_images(replace(task, source=stampless))
    gone = Networks(((tmp_path / "gone.safetensors", "0" * 64),), SETTINGS)
    with pytest.raises(ModelError, match="cannot be read"):
        check_images(replace(task, networks=gone))


@pytest.fixture
def training(tmp_path) -> Path:
    folder = tmp_path / "training"
    folder.mkdir()
    np.save(folder / "stamps.npy", tiny_stamps(100))
    rng = np.random.default_rng(1)
    columns = {label: rng.normal(mean, deviation, 100) for label, (_, mean, deviation) in LABELS.items()}
    columns |= {"parallax": rng.uniform(0.5, 2, 100), "parallax_error": rng.uniform(0.02, 0.1, 100)}
    table = pa.table({"object_id": np.arange(100), **columns, "split": (np.arange(100) % 3).astype(np.int8)})
    pq.write_table(table, folder / "table.parquet")
    return folder


def test_held_out_stars_are_predicted_in_parts(training, networks, tmp_path):
    task = HeldOutTask(training, tmp_path / "parts", {"joint": networks})
    parts = [HeldOutPart("joint", 0, 40), HeldOutPart("joint", 40, 66)]
    assert [predict_held_out(task, part)["rows_out"] for part in parts] == [40, 26]
    found = pa.concat_tables([pq.read_table(tmp_path / "parts" / f"{part.name}.parquet") for part in parts])
    assert found["row"].to_pylist() == [row for row in range(100) if row % 3]
    table = pq.read_table(training / "table.parquet").take(found["row"])
    stamps = tiny_stamps(100)[found["row"].to_numpy()]
    mean, std = networks.load().estimate(stamps, table["parallax"].to_numpy(), table["parallax_error"].to_numpy())
    for number, (label, (_, _, deviation)) in enumerate(LABELS.items()):
        assert found[label].to_numpy() == pytest.approx(mean[:, number], abs=TOLERANCE * deviation)
        assert found[f"{label}_std"].to_numpy() == pytest.approx(std[:, number], abs=TOLERANCE * deviation)


def test_the_change_by_the_precision_is_measured_where_there_is_one(training, networks, tmp_path):
    lower = replace(networks, settings=SETTINGS.model_copy(update={"precision": "bf16"}))
    task = HeldOutTask(training, tmp_path / "parts", {"plain": networks, "lower": lower})
    assert measure_precision(task, "plain")["change"] == {}
    record = measure_precision(task, "lower")
    assert record["precision"] == "bf16"
    assert record["change"].keys() == LABELS.keys()
    assert all(0 < value < 0.1 for value in record["change"].values())


def test_row_groups_of_any_size_make_full_parts():
    table = pa.table({"x": np.arange(100)})
    for sizes in ([100], [1] * 100, [30, 70], [0, 64, 36], [7] * 14 + [2]):
        starts = np.cumsum([0, *sizes])
        parts = list(in_parts((table.slice(a, n) for a, n in zip(starts, sizes, strict=False)), 32))
        assert [part.num_rows for part in parts] == [32, 32, 32, 4]
        assert pa.concat_tables(parts) == table
    assert list(in_parts([], 32)) == []
