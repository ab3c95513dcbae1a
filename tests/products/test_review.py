"""Faults that a review found, each by what a user would have seen."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest
from click.testing import CliRunner

import stellarscale
from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.cli import main
from stellarscale.config import load_job
from stellarscale.engine.client import connect
from stellarscale.engine.ledger import open_ledger
from stellarscale.engine.stage import run_stage
from stellarscale.errors import CatalogError, ConfigError, InputError, RunError, SchemaError
from stellarscale.products import importing, sages, steps

SCHEMA = """
name: small
alias: small
title: small
id: id
columns:
  id: {native: [id], dtype: int64, required: true}
  ra: {native: [ra], dtype: float64, unit: deg, required: true}
  dec: {native: [dec], dtype: float64, unit: deg, required: true}
  n: {native: [n], dtype: int16}
"""


def write_stars(path, rows=200, seed=1, **columns):
    rng = np.random.default_rng(seed)
    table = {"id": np.arange(rows), "ra": rng.uniform(10, 11, rows), "dec": rng.uniform(-1, 0, rows), **columns}
    csv.write_csv(pa.table(table), path)
    return path


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SCHEMA)
    return str(path)


def test_an_integer_that_does_not_fit_is_refused_not_wrapped(tmp_path, schema):
    stars = write_stars(tmp_path / "a.csv", n=np.full(200, 99_999))
    with steps.session("threads:1") as on, pytest.raises((RunError, SchemaError), match="99999"):
        importing.import_survey(on, [stars], schema, tmp_path / "out")


def test_rows_of_a_file_that_was_replaced_twice_are_not_kept(tmp_path, schema):
    first, second = write_stars(tmp_path / "1.csv", seed=1), tmp_path / "2.csv"
    second.write_text("id,ra,dec\nx,y,z\n")
    with steps.session("threads:1") as on:
        with pytest.raises(RunError):
            importing.import_survey(on, [first, second], schema, tmp_path / "out")
        first.write_text("id,ra,dec\nx,y,z\n")
        with pytest.raises(RunError):
            importing.import_survey(on, [first, second], schema, tmp_path / "out")
        write_stars(second, seed=2)
        with pytest.raises(RunError, match=r"1\.csv"):
            importing.import_survey(on, [first, second], schema, tmp_path / "out")


@pytest.fixture
def catalog(tmp_path, schema):
    with steps.session("threads:1") as on:
        for name, seed in (("a", 1), ("b", 2)):
            stars = write_stars(tmp_path / f"{name}.csv", rows=3000, seed=seed)
            importing.import_survey(on, [stars], schema, tmp_path / name, max_rows=500)
    return tmp_path


def test_a_region_after_a_mutual_match_takes_no_pair_away_or_in(catalog):
    left = stellarscale.open_catalog(catalog / "a")
    match = {"radius_arcsec": 60.0, "keep": "mutual", "prefix": "b_"}
    whole = left.crossmatch(catalog / "b", **match)
    after = whole.sample(0.3).compute()
    before = left.sample(0.3).crossmatch(catalog / "b", **match).compute()
    assert after.num_rows == before.num_rows > 50
    pairs = set(zip(whole.compute()["id"].to_pylist(), whole.compute()["b_id"].to_pylist(), strict=True))
    assert set(zip(after["id"].to_pylist(), after["b_id"].to_pylist(), strict=True)) < pairs


def test_a_mutual_match_of_changed_rows_is_refused(catalog):
    view = stellarscale.open_catalog(catalog / "a").map_partitions(lambda table: table)
    with pytest.raises(CatalogError, match="write the view first"):
        view.crossmatch(catalog / "b", radius_arcsec=60.0, keep="mutual", prefix="b_")


def test_regions_take_numpy_numbers(catalog):
    view = stellarscale.open_catalog(catalog / "a")
    centre = np.array([10.5, -0.5])
    assert view.cone(centre[0], centre[1], np.float32(0.2)).compute().num_rows > 10


def slow(rows, item):
    time.sleep(0.3)
    return {"rows_out": rows}


def test_two_runs_on_one_scheduler_do_not_mix(tmp_path):
    ledgers = [open_ledger(tmp_path / name, step="s", digest=name, about={}) for name in ("one", "two")]

    def one_run(number):
        return run_stage(client, partial(slow, number), {"0/1": 0}, ledger=ledgers[number], stage="s")

    with connect("threads:2") as client, ThreadPoolExecutor(2) as pool:
        results = list(pool.map(one_run, range(2)))
    assert [result.total("rows_out") for result in results] == [0, 1]
    assert [ledger.receipts("s")["0/1"]["rows_out"] for ledger in ledgers] == [0, 1]


def test_a_margin_never_takes_the_place_of_a_catalogue(tmp_path, schema):
    stars = str(write_stars(tmp_path / "s.csv"))
    call = CliRunner().invoke
    common = ["--survey", schema, "--cluster", "threads:1"]
    assert call(main, ["import", stars, *common, "--out", str(tmp_path / "b_margin")]).exit_code == 0
    refused = call(main, ["import", stars, *common, "--out", str(tmp_path / "b"), "--margin-arcsec", "10"])
    assert refused.exit_code == 1
    assert "place is taken" in refused.output
    assert open_stored(tmp_path / "b_margin").num_rows == 200
    again = ["import", stars, *common, "--out", str(tmp_path / "c"), "--margin-arcsec", "10"]
    assert [call(main, again).exit_code, call(main, again).exit_code] == [0, 0]


def test_models_of_one_label_may_not_share_a_class():
    with pytest.raises(ConfigError, match="two models give logg"):
        load_job("demo", ["training.models=[{label: logg, classes: [dwarf, giant]}, {label: logg}]"])


def test_a_misspelt_label_column_is_told(small_job, tmp_path):
    alone = ("training.sources=[]", "evaluation={}", "training.models=[{label: teff}]")
    job = small_job(tmp_path / "run", "training.labels={teff: {column: lamost_tef}}", *alone)
    with pytest.raises(SchemaError, match="lamost_tef"):
        sages.run(job, cluster="threads:2")


def test_a_job_without_a_match_runs_on_the_subset(shared_data, tmp_path):
    overrides = ["training.forest.n_estimators=5", "training.compare_with_sklearn=false"]
    job = load_job("segue", [f"data={shared_data / 'forest'}", f"out={tmp_path / 'run'}", *overrides])
    summary = sages.run(job, cluster="threads:2", subset="sample:0.1")
    assert 2000 < summary["written"] < 3600
    assert read_columns(open_stored(tmp_path / "run" / "catalog"), ["fe_h"]).num_rows == summary["written"]


@pytest.mark.parametrize(
    "override, message",
    [
        ("truth.file=nowhere.parquet", "truth table of the job does not exist.*nowhere.parquet"),
        ("features.ebv={sfd98: nodust}", "dust map of the job"),
        ("catalogs.gaia.survey=gaia_dr33", "gaia_dr3"),
    ],
)
def test_a_dry_run_looks_at_every_name_it_can(small_job, tmp_path, override, message):
    with pytest.raises((InputError, ConfigError), match=message):
        sages.plan(small_job(tmp_path / "run", override))
