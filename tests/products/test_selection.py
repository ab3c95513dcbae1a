"""The selection of stars as a step, on a mock of what the match of master table and Gaia gives."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.verify import verify
from stellarscale.config import load_job
from stellarscale.errors import ConfigError, SchemaError
from stellarscale.products.selection import labelled_selection, select_stars
from stellarscale.products.steps import session
from stellarscale.settings.cuts import Cut, Selection, Strata

N = 3000
STRATA = Strata(keep_one_in=9, by={"g_mag": (12.0, 14.0), "g_mag-i_mag": (0.6,)})


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Columns that the shipped job's cuts read, each cut failed by some rows."""
    rng = np.random.default_rng(4)
    columns = {
        "glat": rng.uniform(-90, 90, N),
        "flags": rng.choice([0, 4], N, p=[0.9, 0.1]).astype(np.int32),
        "class_star": rng.choice([0.3, 0.6, 0.98], N, p=[0.1, 0.2, 0.7]).astype(np.float32),
        **{f"{band}_ngood": rng.choice([0, 3], N, p=[0.02, 0.98]).astype(np.int16) for band in "uvgriz"},
        "self_dist_arcsec": rng.choice([np.nan, 5.0, 15.0], N, p=[0.8, 0.1, 0.1]).astype(np.float32),
        "gaia_parallax": rng.normal(1.0, 0.8, N),
        "gaia_parallax_error": rng.uniform(0.01, 0.3, N).astype(np.float32),
        "g_mag": rng.uniform(10, 17, N).astype(np.float32),
        "i_mag": rng.uniform(10, 17, N).astype(np.float32),
        "galah_flag_sp": rng.choice([0, 1], N).astype(np.int32),
        "galah_flag_fe_h": np.zeros(N, np.int32),
        "galah_snr": rng.uniform(10, 100, N).astype(np.float32),
    }
    made = mock_table(N).drop_columns(["feh", "variable"])
    for name, values in columns.items():
        made = made.append_column(name, pa.array(values, from_pandas=True))
    return made


@pytest.fixture(scope="module")
def matched(tmp_path_factory, table) -> Path:
    root = tmp_path_factory.mktemp("matched") / "matched"
    write_mock(root, table, max_rows=500)
    return root


@pytest.fixture(scope="module")
def on():
    with session("threads:2") as made:
        yield made


def shipped(**changes):
    job = load_job("acf")
    return job.model_copy(update={"selection": job.selection.model_copy(update=changes)})


def expected(table, *, relaxed=False, labels=False):
    """The cuts of paper III, section 2.2, written out."""
    t = {name: table[name].to_numpy() for name in table.column_names if name not in ("name",)}
    plx = t["gaia_parallax"]
    good = (t["class_star"] >= np.float32(0.6)) & (plx > 0)
    good &= t["gaia_parallax_error"] / np.where(plx > 0, plx, np.nan) < 0.3
    for band in "uvgriz":
        good &= t[f"{band}_ngood"] >= 1
    strict = (np.abs(t["glat"]) >= 10) & (t["flags"] == 0) & ~(t["self_dist_arcsec"] < 15)
    if labels:
        good &= (t["galah_flag_sp"] == 0) & (t["galah_flag_fe_h"] == 0) & (t["galah_snr"] > 30)
    return good & (~strict if relaxed else strict)


def test_the_shipped_cuts_take_the_papers_stars_and_every_row_is_counted(on, matched, table, tmp_path):
    steps: list = []
    out = select_stars(on, shipped(strata=None), matched, tmp_path / "out", steps)
    assert out == tmp_path / "out"
    found = read_columns(open_stored(out), ["source_id", "sample_quality", "gaia_parallax"])
    ids = table["source_id"].to_numpy()[expected(table)]
    np.testing.assert_array_equal(found["source_id"].to_numpy(), ids)
    assert set(found["sample_quality"].to_pylist()) == {"high"}
    (step,) = steps
    assert step["name"] == "select stars"
    assert step["rows_in"] == N == step["written"] + sum(step["rejected"].values())
    names = ("latitude", "flags", "class_star", "ngood", "neighbour", "parallax")
    assert set(step["rejected"]) == set(names)
    assert verify(out, deep=True).problems == ()


def test_the_console_is_told_which_cuts_left_stars_out(on, matched, tmp_path, caplog):
    steps: list = []
    with caplog.at_level(logging.INFO, "stellarscale.products.selection"):
        select_stars(on, shipped(strata=None), matched, tmp_path / "out", steps)
    (told,) = [record.message for record in caplog.records]
    lost = steps[0]["rejected"]
    assert told.startswith(f"select stars: {steps[0]['written']:,} of {N:,} stars; left out by cuts")
    counts = dict(part.split(" ") for part in told.rpartition(": ")[2].split(", "))
    assert {name: int(number) for name, number in counts.items()} == lost
    assert list(counts.values()) == [str(n) for n in sorted(lost.values(), reverse=True)]


def test_the_low_quality_sample_of_section_5_4(on, matched, table, tmp_path):
    out = select_stars(on, shipped(strata=None, quality="low"), matched, tmp_path / "out", [])
    found = read_columns(open_stored(out), ["source_id", "sample_quality"])
    np.testing.assert_array_equal(
        found["source_id"].to_numpy(), table["source_id"].to_numpy()[expected(table, relaxed=True)]
    )
    assert set(found["sample_quality"].to_pylist()) == {"low"}


def test_stars_with_labels_pass_the_cuts_of_the_labels_and_are_not_thinned(on, matched, table, tmp_path):
    steps: list = []
    out = select_stars(on, shipped(strata=STRATA), matched, tmp_path / "out", steps, labels=True)
    found = read_columns(open_stored(out), ["source_id"])
    np.testing.assert_array_equal(
        found["source_id"].to_numpy(), table["source_id"].to_numpy()[expected(table, labels=True)]
    )
    assert steps[0]["name"] == "select stars with labels"
    assert "strata" not in steps[0]["rejected"]
    assert steps[0]["rejected"]["flag_sp"] > 0


def test_the_stratified_sample_does_not_depend_on_workers_or_on_other_partitions(on, matched, tmp_path):
    job = shipped(strata=STRATA)
    steps: list = []
    whole = select_stars(on, job, matched, tmp_path / "two", steps)
    with session("threads:1") as one:
        alone = select_stars(one, job, matched, tmp_path / "one", [])
    ids = read_columns(open_stored(whole), ["source_id"])["source_id"]
    assert ids.equals(read_columns(open_stored(alone), ["source_id"])["source_id"])
    pixel = open_stored(matched).pixels[3]
    part = select_stars(on, job, matched, tmp_path / "part", [], subset=f"pixels:{pixel}")
    kept = read_columns(open_stored(whole), ["_healpix_29", "source_id"])
    place = kept["_healpix_29"].to_numpy()
    inside = kept["source_id"].to_numpy()[(place >= pixel.first) & (place < pixel.last)]
    np.testing.assert_array_equal(read_columns(open_stored(part), ["source_id"])["source_id"].to_numpy(), inside)
    passing = steps[0]["written"] + steps[0]["rejected"]["strata"]
    assert abs(steps[0]["written"] - passing / 9) < 4 * np.sqrt(passing / 9)


def test_another_seed_matters_only_where_something_is_drawn(on, matched, tmp_path):
    job = shipped(strata=None)
    select_stars(on, job, matched, tmp_path / "out", [])
    steps: list = []
    select_stars(on, job.model_copy(update={"seed": 99}), matched, tmp_path / "out", steps)
    assert steps[0]["resumed"]


def test_a_missing_column_is_told_before_any_work(on, matched, tmp_path):
    cut = Cut(name="c", columns=("class_stars",), min=0)
    with pytest.raises(SchemaError, match="did you mean 'class_star'"):
        select_stars(on, shipped(cuts=(cut,), relaxed=(), strata=None), matched, tmp_path / "out", [])
    assert not (tmp_path / "out").exists()


def test_cuts_of_labels_must_have_names_of_their_own():
    job = load_job("acf")
    cuts = (*job.labels.cuts, Cut(name="flags", columns=("galah_flag_sp",), equals=0))
    job = job.model_copy(update={"labels": job.labels.model_copy(update={"cuts": cuts})})
    with pytest.raises(ConfigError, match=r"labels\.cuts.*flags"):
        labelled_selection(job)
    assert isinstance(labelled_selection(load_job("acf")), Selection)
