"""Cells of a scan: which there are, and that a cell's figures are its own."""

from __future__ import annotations

import dataclasses

import pytest
from reference.small_sample import INPUTS, write_sample

from stellarscale.config import ForestSettings, Tuning
from stellarscale.engine.tuning import Cell, TuneTask, plan_cells, tune_one
from stellarscale.errors import InputError


@pytest.fixture
def task(tmp_path):
    write_sample(tmp_path, "teff")
    sample = tmp_path / "teff_sample.parquet"
    return TuneTask("teff", sample, INPUTS, ForestSettings(), max_stars=50_000, seed=1, n_jobs=1)


def test_the_two_panels_of_the_figure():
    tuning = Tuning(n_estimators=(200, 50), max_features=(0.5, None, 0.5), max_depth=(9, 5), repeats=2)
    left, right = plan_cells(tuning, ForestSettings(n_estimators=30, max_features=0.7, max_depth=11))
    assert left == [Cell((50, 200), 0.5, 11), Cell((50, 200), None, 11)]
    assert right == [Cell((30,), 0.7, depth, repeat) for depth in (5, 9) for repeat in (0, 1)]
    assert len({cell.key for cell in left + right}) == 6


def test_a_cell_gives_a_score_per_number_of_trees_from_training_stars_only(task):
    record = tune_one(task, Cell((10, 30), None, 8))
    assert record["rows_in"] == 360
    few, many = record["scores"]
    assert (few["n_estimators"], many["n_estimators"]) == (10, 30)
    assert 0 < many["error"] < few["error"] < 1


def test_repeats_differ_and_one_repeat_is_always_the_same(task):
    cells = [Cell((10,), None, 8, repeat) for repeat in (0, 1, 0)]
    first, second, again = (tune_one(task, cell)["scores"][0]["error"] for cell in cells)
    assert first == again
    assert first != second


def test_threads_do_not_change_the_score(task):
    cell = Cell((12,), 0.5, 8)
    scores = [tune_one(dataclasses.replace(task, n_jobs=n), cell)["scores"][0]["error"] for n in (1, 2)]
    assert scores[0] == scores[1]


def test_a_large_sample_is_drawn_from_once_for_all_cells(task):
    fewer = dataclasses.replace(task, max_stars=100)
    records = [tune_one(fewer, Cell((10,), None, depth)) for depth in (4, 4)]
    assert [record["rows_in"] for record in records] == [100, 100]
    assert records[0]["scores"][0]["error"] == records[1]["scores"][0]["error"]


def test_a_sample_without_training_stars_is_told(task, tmp_path):
    import pyarrow.parquet as pq

    table = pq.read_table(task.sample)
    pq.write_table(table.filter([role != "train" for role in table["role"].to_pylist()]), task.sample)
    with pytest.raises(InputError, match="no stars of the kind needed"):
        tune_one(task, Cell((10,), None, 4))


@pytest.mark.parametrize("wrong", [{"max_features": [0.5, 1.5]}, {"n_estimators": [0, 10]}, {"max_depth": []}])
def test_a_scan_outside_of_what_forests_can_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Tuning(**wrong)
