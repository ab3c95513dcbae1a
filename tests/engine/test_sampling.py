"""The sample of a model: which stars train, which are held out, which test, and where each label came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.writer import finish_catalog, write_pixel
from stellarscale.config import Training
from stellarscale.engine.sampling import SampleTask, TrainingSource, build_sample
from stellarscale.errors import InputError
from stellarscale.kernels import healpix
from stellarscale.models.split import held_out

TRAINING = Training(
    labels={"fe_h": {"column": "x"}},
    inputs=("g_0",),
    models=({"label": "fe_h"},),
    min_stars=20,
    test_fraction=0.25,
)
SPEC = TRAINING.models[0]
WIDE = 1000  # stars from this number on pass the cuts of the prediction only


def write_source(
    folder: Path,
    name: str,
    stars: Sequence[int],
    value: float,
    *,
    label: str = "label_fe_h",
    trains: Sequence[bool] | None = None,
) -> Path:
    """A small catalogue of training rows on one pixel; the star's number decides where it is, and if it trains."""
    root = folder / name
    ra, dec = 45.0 + np.array(stars) * 1e-3, np.full(len(stars), 5.0)
    keys = healpix.pixel_of(ra, dec)
    order = np.argsort(keys)
    columns = {
        "_healpix_29": keys,
        "source_id": np.array(stars, dtype=np.int64),
        "ra": ra,
        "dec": dec,
        "g_0": np.array(stars, dtype=np.float32),
        label: np.full(len(stars), value),
        "trains": np.array(stars) < WIDE if trains is None else np.array(trains),
    }
    table = pa.table({key: pa.array(values[order]) for key, values in columns.items()})
    pixel = Pixel(0, int(keys[0] >> 58))
    write_pixel(root, pixel, table)
    finish_catalog(root, CatalogProperties(name), table.schema, [pixel])
    return root


def task_of(folder: Path, *sources: tuple[str, str, Path]) -> SampleTask:
    return SampleTask(
        sources=tuple(TrainingSource(*source) for source in sources),
        out=folder,
        training=TRAINING,
        classes=None,
        seed=4,
        star="source_id",
        position=("ra", "dec"),
    )


@pytest.fixture
def sources(tmp_path) -> list[tuple[str, str, Path]]:
    """LAMOST has the stars 0-99, PASTEL 90-119, APOGEE 50-59 and 200-204."""
    apogee = [*range(50, 60), *range(200, 205)]
    return [
        ("lamost", "train", write_source(tmp_path, "lamost", range(100), 0.0)),
        ("pastel", "extend", write_source(tmp_path, "pastel", range(90, 120), -2.0)),
        ("apogee", "test", write_source(tmp_path, "apogee", apogee, 0.1)),
    ]


def read(folder: Path) -> dict[int, list[tuple[str, str, float]]]:
    """Role, source and label by star; a star may both be left out and test, but never twice train."""
    found: dict[int, list[tuple[str, str, float]]] = {}
    for row in pq.read_table(folder / "fe_h_sample.parquet").to_pylist():
        found.setdefault(row["star"], []).append((row["role"], row["source"], row["label"]))
    return found


def test_each_star_has_one_place_and_tests_do_not_train(sources, tmp_path):
    record = build_sample(task_of(tmp_path, *sources), SPEC)
    found = read(tmp_path)
    assert all(len(rows) == 1 for rows in found.values())
    assert {star for star, [(role, _, _)] in found.items() if role == "test:apogee"} == {
        *range(50, 60),
        *range(200, 205),
    }
    pool = {star: row for star, [row] in found.items() if row[0] in ("train", "held_out")}
    assert set(pool) == {*range(50), *range(60, 120)}
    assert {star for star, row in pool.items() if row[1] == "pastel"} == set(range(100, 120))
    assert all(row[2] == (-2.0 if row[1] == "pastel" else 0.0) for row in pool.values())
    assert record["rejected"] == {"stars that test": 10, "label from an earlier catalogue": 10}
    assert record["rows_in"] == record["rows_out"] + sum(record["rejected"].values())
    assert (record["n_train"], record["n_held_out"], record["n_test"]) == (82, 28, 15)


def test_without_further_catalogues_the_split_is_the_plain_one(sources, tmp_path):
    build_sample(task_of(tmp_path, sources[0]), SPEC)
    table = pq.read_table(tmp_path / "fe_h_sample.parquet")
    held = np.array([role == "held_out" for role in table["role"].to_pylist()])
    np.testing.assert_array_equal(held, held_out(100, test_fraction=0.25, seed=4))


def test_all_rows_of_a_star_are_in_one_place(tmp_path):
    twice = write_source(tmp_path, "twice", [*range(50), *range(50), 50, *range(1000, 1020), *range(1000, 1020)], 0.0)
    record = build_sample(task_of(tmp_path, ("lamost", "train", twice)), SPEC)
    found = read(tmp_path)
    assert sum(map(len, found.values())) == record["rows_out"] == 141
    assert all(len({role for role, _, _ in rows}) == 1 for rows in found.values())
    assert Counter(rows[0][0] for star, rows in found.items() if star < 51) == {"train": 38, "held_out": 13}
    assert {rows[0][0] for star, rows in found.items() if star >= WIDE} == {"calibrate", "held_out_wide"}


def test_without_an_id_the_place_tells_the_star(tmp_path):
    task = task_of(tmp_path, ("lamost", "train", write_source(tmp_path, "twice", [*range(50), *range(50)], 0.0)))
    build_sample(replace(task, star=None), SPEC)
    assert all(len({role for role, _, _ in rows}) == 1 for rows in read(tmp_path).values())


def test_a_star_that_trains_calibrates_not_by_another_observation(tmp_path):
    trains = [True] * 40 + [False] * 40
    twice = write_source(tmp_path, "twice", [*range(40), *range(30, 70)], 0.0, trains=trains)
    record = build_sample(task_of(tmp_path, ("lamost", "train", twice)), SPEC)
    assert all(len(rows) == 1 for rows in read(tmp_path).values())
    assert record["rejected"] == {"another observation of the star passes the cuts of the training": 10}
    assert record["n_calibrate"] + record["n_held_out_wide"] == 30


def test_a_catalogue_without_the_label_gives_no_stars(sources, tmp_path):
    other = ("rave", "extend", write_source(tmp_path, "rave", range(300, 400), 5000.0, label="label_teff"))
    build_sample(task_of(tmp_path, sources[0], other), SPEC)
    assert Counter(pq.read_table(tmp_path / "fe_h_sample.parquet")["source"].to_pylist()) == {"lamost": 100}


def test_stars_beyond_the_training_cuts_calibrate_and_change_nothing_else(sources, tmp_path):
    build_sample(task_of(tmp_path, sources[0]), SPEC)
    before = read(tmp_path)
    both = write_source(tmp_path, "both", [*range(100), *range(1000, 1040)], 0.0)
    more = write_source(tmp_path, "more", range(1030, 1050), -2.0)
    test = write_source(tmp_path, "test", [*range(300, 305), *range(1000, 1010)], 0.1)
    task = task_of(tmp_path, ("lamost", "train", both), ("pastel", "extend", more), ("apogee", "test", test))
    record = build_sample(task, SPEC)
    after = read(tmp_path)
    assert all(len(rows) == 1 for rows in after.values())
    assert {star: row[0][0] for star, row in after.items() if star < 100} == {s: row[0][0] for s, row in before.items()}
    roles = Counter(row[0][0] for star, row in after.items() if star >= WIDE)
    assert roles == {"calibrate": 37, "held_out_wide": 13}
    assert {row[0][1] for star, row in after.items() if star >= 1040} == {"pastel"}
    assert {star for star, row in after.items() if row[0][0] == "test:apogee"} == set(range(300, 305))
    beyond = "test stars beyond the cuts of the training"
    assert record["rejected"] == {beyond: 10, "label from an earlier catalogue": 10}
    assert record["rows_in"] == record["rows_out"] + sum(record["rejected"].values())
    assert (record["n_calibrate"], record["n_held_out_wide"], record["n_test"]) == (37, 13, 5)


def test_stars_that_are_held_out_or_only_calibrate_do_not_count_as_enough(tmp_path):
    enough = ("enough", "train", write_source(tmp_path, "enough", range(27), 0.0))
    assert build_sample(task_of(tmp_path, enough), SPEC)["n_train"] == 20
    wide = ("wide", "train", write_source(tmp_path, "wide", [*range(26), *range(1000, 1100)], 0.0))
    with pytest.raises(InputError, match="too few stars to train") as caught:
        build_sample(task_of(tmp_path, wide), SPEC)
    assert caught.value.seen == 19


def test_a_share_that_leaves_no_star_to_train_holds_none_out(tmp_path):
    training = TRAINING.model_copy(update={"test_fraction": 0.9})
    two = ("two", "train", write_source(tmp_path, "two", range(2), 0.0))
    with pytest.raises(InputError, match="too few stars to train"):
        build_sample(replace(task_of(tmp_path, two), training=training), SPEC)


def test_too_few_stars_name_the_model_and_the_limit(sources, tmp_path):
    few = ("few", "train", write_source(tmp_path, "few", range(5), 0.0))
    with pytest.raises(InputError, match="fe_h") as caught:
        build_sample(task_of(tmp_path, few), SPEC)
    assert caught.value.seen == 3
    assert "min_stars" in str(caught.value)
