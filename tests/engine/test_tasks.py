"""What workers do for one partition, called by hand: no Dask anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog.import_plan import ImportConfig, plan_import, prepare_output
from stellarscale.catalog.importer import find_duplicates, finish_import, plan_partitions
from stellarscale.catalog.layout import pixel_path
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.spill import spill_file
from stellarscale.catalog.subset import parse_subset
from stellarscale.catalog.verify import verify
from stellarscale.catalog.writer import WriteOptions, finish_catalog
from stellarscale.config import Band, FeatureConfig, ForestSettings, Label, MatchStep, ModelSpec, SagesOutput, Training
from stellarscale.engine import tasks
from stellarscale.engine.growing import GrowTask, grow_group, plan_groups
from stellarscale.engine.matchplan import match_config, match_margin_arcsec
from stellarscale.engine.sampling import SampleTask, TrainingSource, build_sample
from stellarscale.engine.training import FinishTask, finish_model
from stellarscale.errors import CatalogError, ModelError
from stellarscale.partition.predict import PredictConfig
from stellarscale.products.steps import pixel_record
from stellarscale.schema import load_product, load_survey

FEATURES = FeatureConfig(bands={"g": Band(mag="gmag")})
TRAINING = Training(
    labels={"fe_h": Label(column="feh")},
    inputs=("g_0",),
    models=(ModelSpec(label="fe_h"),),
    forest=ForestSettings(n_estimators=5, backend="sklearn"),
    min_stars=20,
)
OUTPUT = SagesOutput(columns={"id": "source_id", "ra": "ra", "dec": "dec"})
RECORD = {"pixel", "rows_in", "rows_out", "bytes", "checksum"}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return mock_table(1500, seed=6, patch=(0.2, -5.0, 3.0))


@pytest.fixture(scope="module")
def root(tmp_path_factory, table) -> Path:
    path = tmp_path_factory.mktemp("tasks") / "stars"
    write_mock(path, table, max_rows=300, stellarscale_alias="stars")
    return path


def match_task(root: Path, out: Path, **options) -> tasks.MatchTask:
    step = MatchStep(catalog=str(root), prefix="other_", **options)
    stored = open_stored(root)
    config = match_config(stored, stored, step)
    return tasks.MatchTask(root, root, out, config, match_margin_arcsec(stored, stored, config))


def test_a_partition_matched_with_itself_finds_itself(root, tmp_path):
    task = match_task(root, tmp_path, radius_arcsec=1.0)
    rows = 0
    for pixel in open_stored(root).pixels:
        record = tasks.match_pixel(task, pixel)
        assert record.keys() == RECORD | {"matched"}
        assert record["rows_in"] == record["rows_out"] == record["matched"] == open_stored(root).rows_of(pixel)
        written = pq.read_table(pixel_path(tmp_path, pixel), partitioning=None)
        assert written["source_id"].to_pylist() == written["other_source_id"].to_pylist()
        assert max(written["separation_arcsec"].to_pylist()) == 0.0
        assert pixel_record(record).pixel == pixel
        rows += record["rows_out"]
    assert rows == open_stored(root).num_rows


def test_neighbours_beyond_the_border_are_found(root, tmp_path, table):
    task = match_task(root, tmp_path, radius_arcsec=400.0, keep="all")
    found = sum(tasks.match_pixel(task, pixel)["matched"] for pixel in open_stored(root).pixels)
    ra, dec = np.radians(table["ra"].to_numpy()), np.radians(table["dec"].to_numpy())
    xyz = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    distance = np.sqrt(((xyz[:, None] - xyz[None]) ** 2).sum(axis=2))
    assert found == int((np.degrees(2 * np.arcsin(distance / 2)) * 3600.0 <= 400.0).sum())


def test_a_subset_limits_the_left_rows_only(root, tmp_path):
    task = replace(match_task(root, tmp_path, radius_arcsec=1.0), subset=parse_subset("sample:0.5"))
    records = [tasks.match_pixel(task, pixel) for pixel in open_stored(root).pixels]
    assert sum(r["rows_in"] for r in records) == sum(r["matched"] for r in records)
    assert 0.4 < sum(r["rows_in"] for r in records) / open_stored(root).num_rows < 0.6


def test_rows_outside_a_subset_are_rivals_in_a_mutual_match(root, tmp_path):
    whole = match_task(root, tmp_path / "a", radius_arcsec=500.0, keep="mutual")
    part = replace(whole, out=tmp_path / "b", subset=parse_subset("sample:0.5"))
    pixel = open_stored(root).pixels[0]
    tasks.match_pixel(whole, pixel)
    tasks.match_pixel(part, pixel)
    pairs = []
    for folder in ("a", "b"):
        written = pq.read_table(pixel_path(tmp_path / folder, pixel), partitioning=None)
        pairs.append(set(zip(written["source_id"].to_pylist(), written["other_source_id"].to_pylist(), strict=True)))
    assert pairs[1] < pairs[0]


def test_the_same_partition_gives_the_same_bytes(root, tmp_path):
    pixel = open_stored(root).pixels[1]
    options = WriteOptions(row_group_rows=50)
    task = replace(match_task(root, tmp_path, radius_arcsec=1.0), write=options)
    first = tasks.match_pixel(task, pixel)
    assert tasks.match_pixel(task, pixel) == first
    assert pq.ParquetFile(pixel_path(tmp_path, pixel)).metadata.num_row_groups == -(-first["rows_out"] // 50)


def test_a_partition_without_partners_writes_no_file(root, tmp_path):
    far = tmp_path / "far"
    write_mock(far, mock_table(50, patch=(200.0, 40.0, 1.0)), stellarscale_alias="far")
    stored = open_stored(root)
    config = match_config(stored, open_stored(far), MatchStep(catalog="far", radius_arcsec=1.0))
    task = tasks.MatchTask(root, far, tmp_path / "out", config, 1.0)
    record = tasks.match_pixel(task, stored.pixels[0])
    assert (record["rows_out"], record["matched"], record["bytes"], record["checksum"]) == (0, 0, 0, "")
    assert not (tmp_path / "out").exists()


def test_a_missing_partition_is_named(root, tmp_path):
    hurt = Path(shutil.copytree(root, tmp_path / "hurt"))
    pixel = open_stored(hurt).pixels[0]
    pixel_path(hurt, pixel).unlink()
    with pytest.raises(CatalogError, match=f"missing.*{pixel}"):
        tasks.match_pixel(match_task(hurt, tmp_path / "out", radius_arcsec=1.0), pixel)


def test_a_catalogue_that_was_made_anew_is_seen_by_a_worker_that_knew_the_old_one(tmp_path):
    path = tmp_path / "c"
    write_mock(path, mock_table(100, patch=(10, 10, 1)), max_rows=1000)
    before = tasks.stored_catalog(path)
    assert tasks.stored_catalog(path) is before
    shutil.rmtree(path)
    write_mock(path, mock_table(900, patch=(80, -30, 5)), max_rows=100)
    assert tasks.stored_catalog(path).pixels != before.pixels


# ---- import


def test_an_import_by_hand(tmp_path):
    lines = ["0,nan,0,0", *(f"{i},{i * 1.5 % 360},{i % 90},{i}" for i in range(1, 300))]
    for number in range(2):
        part = "\n".join(["source_id,ra,dec,pmra", *lines[number::2]]) + "\n"
        (tmp_path / f"{number}.csv").write_text(part)
    plan = plan_import(sorted(tmp_path.glob("*.csv")), load_survey("gaia_dr3"), ImportConfig(max_rows=60))
    root = tmp_path / "out"
    task = tasks.ImportTask(plan, prepare_output(plan, root), root)
    read = [tasks.spill_one(task, number) for number in range(2)]
    assert [record["rows_in"] for record in read] == [150, 150]
    assert sum(record["rejected"] for record in read) == 1
    assert tasks.spill_one(task, 0) == read[0]
    records = [spill_file(plan.files[n], plan, task.spill, n) for n in range(2)]
    parts = plan_partitions(records, plan, task.spill)
    duplicates = find_duplicates(records, plan, task.spill)
    written = [tasks.reduce_one(task, part) for part in parts]
    assert all(record.keys() == RECORD and record["rows_in"] == record["rows_out"] <= 60 for record in written)
    done = finish_import(
        plan, root, task.spill, records=records, written=[pixel_record(r) for r in written], duplicates=duplicates
    )
    assert (done.rows_in, done.rows_out, done.rejected) == (300, 299, 1)
    assert not verify(root).problems


# ---- training and prediction


@pytest.fixture(scope="module")
def training_root(root, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("training") / "training"
    task = tasks.TrainingTask(root, out, FEATURES, TRAINING.inputs, TRAINING.labels, ("ra", "dec"))
    records = [tasks.training_pixel(task, pixel) for pixel in open_stored(root).pixels]
    for record in records:
        assert record["rows_in"] == record["rows_out"] + sum(record["rejected"].values())
    assert sum(sum(record["rejected"].values()) for record in records) > 0
    pixels = [pixel_record(record).pixel for record in records]
    schema = pq.read_schema(pixel_path(out, pixels[0]))
    finish_catalog(out, CatalogProperties("training"), schema, pixels)
    return out


def test_training_rows_are_those_with_input_and_label(training_root, table):
    stored = open_stored(training_root)
    good = pc.and_(pc.is_valid(table["gmag"]), pc.is_valid(table["feh"]))
    assert stored.num_rows == pc.sum(good).as_py()
    assert set(stored.schema.names) == {"_healpix_29", "ra", "dec", "g_0", "trains", "label_fe_h"}


@pytest.fixture(scope="module")
def model(training_root, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("models")
    spec = TRAINING.models[0]
    sources = (TrainingSource("labels", "train", training_root),)
    sample = build_sample(SampleTask(sources, out, TRAINING, None, 3, None, ("ra", "dec")), spec)
    grown = GrowTask(out, TRAINING, 3)
    groups = plan_groups(grown, spec, sample["n_train"])
    for group in groups:
        grow_group(grown, group)
    return out / "fe_h.npz", finish_model(FinishTask(grown, {spec.name: tuple(groups)}), spec)


def test_a_model_is_trained_by_hand(model, training_root):
    path, record = model
    assert path.is_file()
    assert record["n_train"] + record["n_test"] == record["rows_in"] == open_stored(training_root).num_rows
    evaluated = pq.read_table(path.with_name("fe_h_evaluated.parquet"))
    assert evaluated.num_rows == record["n_test"]
    assert np.isfinite(evaluated["prediction"].to_numpy()).all()
    assert record["importances"] == [1.0]


def predict_task(root: Path, out: Path, path: Path, digest: str) -> tasks.PredictTask:
    config = PredictConfig(FEATURES, TRAINING.inputs, TRAINING.models, OUTPUT, load_product("sages"))
    return tasks.PredictTask(root, out, config, (("fe_h", path, digest),))


def test_a_partition_is_predicted_by_hand(root, model, tmp_path, table):
    path, record = model
    task = predict_task(root, tmp_path, path, record["digest"])
    records = [tasks.predict_pixel(task, pixel) for pixel in open_stored(root).pixels]
    assert all(r["rows_in"] == r["rows_out"] for r in records)
    parts = [pq.read_table(pixel_path(tmp_path, pixel_record(r).pixel), partitioning=None) for r in records]
    whole = pa.concat_tables(parts)
    assert whole.num_rows == table.num_rows
    assert whole["fe_h"].null_count == table["gmag"].null_count
    known = dict(zip(table["source_id"].to_pylist(), table["gmag"].to_pylist(), strict=True))
    for star, value, flags in zip(*(whole[n].to_pylist() for n in ("id", "fe_h", "quality_flags")), strict=True):
        assert (value is None) == (known[star] is None)
        assert value is not None or flags != 0
    part = replace(task, out=tmp_path / "part", subset=parse_subset("sample:0.3"))
    some = [tasks.predict_pixel(part, pixel) for pixel in open_stored(root).pixels]
    assert 0 < sum(r["rows_out"] for r in some) < table.num_rows / 2


def test_another_model_than_the_receipt_names_is_refused(root, model, tmp_path):
    task = predict_task(root, tmp_path, model[0], "0" * 64)
    with pytest.raises(ModelError, match=r"fe_h\.npz"):
        tasks.predict_pixel(task, open_stored(root).pixels[0])
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_other_inputs_is_refused(root, model, tmp_path):
    task = predict_task(root, tmp_path, model[0], model[1]["digest"])
    features = FeatureConfig(bands={"g": Band(mag="gmag"), "h": Band(mag="pmra")})
    task = replace(task, config=replace(task.config, inputs=("g_0", "h_0"), features=features))
    with pytest.raises(ModelError, match="h_0"):
        tasks.predict_pixel(task, open_stored(root).pixels[0])


def test_tasks_need_no_dask():
    code = "import sys, stellarscale.engine.tasks, stellarscale.engine.training; print('dask' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_columns_read_whole_are_those_of_the_table(root, table):
    assert read_columns(open_stored(root), ["gmag"])["gmag"].to_pylist() == table["gmag"].to_pylist()
