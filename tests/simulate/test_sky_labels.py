"""The label catalogues: each in its own layout, off the truth by the offsets that the manifest tells."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from stellarscale.schema import load_survey
from stellarscale.simulate import external, literature, simulate_sky, spectra, stars, systematics
from stellarscale.simulate.files import FitsTable
from stellarscale.simulate.plan import SkyPlan
from stellarscale.simulate.sinks import TABLES, SurveyFiles, TextRows
from stellarscale.simulate.sky import draw_stars
from stellarscale.surveys.read import inspect, read_batches

ROWS = 40_000


@pytest.fixture(scope="module")
def mock(tmp_path_factory):
    out = tmp_path_factory.mktemp("labels")
    return out, simulate_sky(rows=ROWS, seed=5, out=out, workers=2, chunk_rows=20_000)


@pytest.fixture(scope="module")
def truth(mock):
    columns = ["star_id", "teff_k", "logg", "fe_h", "class", "cluster", "source_id"]
    return pq.read_table(mock[0] / "truth" / "truth.parquet", columns=columns).to_pandas()


def canonical(mock, survey: str) -> pd.DataFrame:
    """A label catalogue through its shipped schema."""
    out, summary = mock
    schema, tables = load_survey(survey), []
    for name in summary["surveys"][survey]["files"]:
        path = out / name
        tables += [batch.table for batch in read_batches(path, schema, inspect(path, schema))]
    return pa.concat_tables(tables).to_pandas()


def star_ids(rows: pd.DataFrame, survey: str) -> pd.Series:
    digits = {"pastel": (rows.get("star_id"), 3), "vmp_papers": (rows.get("name"), 3)}
    if survey in digits:
        names, first = digits[survey]
        return names.str[first:].astype("int64")
    return (rows["source_id"].astype("int64") & (2**35 - 1)) // 4


@pytest.mark.parametrize("survey", ["apogee_dr17", "pastel", "vmp_papers", "huang2023", "andrae2023"])
def test_offsets_from_the_truth_are_those_of_the_manifest(mock, truth, survey):
    rows = canonical(mock, survey)
    star = truth.set_index("star_id").loc[star_ids(rows, survey)].reset_index()
    told = json.loads((mock[0] / "manifest.json").read_text())["systematics"][survey]
    names = {"teff_k": "teff", "logg": "logg", "fe_h": "m_h" if survey == "andrae2023" else "fe_h"}
    cool = (star.teff_k < 6000.0).to_numpy()
    for parameter, column in names.items():
        if column not in rows:
            continue
        difference = (rows[column] - star[parameter])[cool].dropna()
        error = difference.std() / np.sqrt(len(difference))
        assert len(difference) > 20
        assert abs(difference.median() - told["offset"][parameter]) < 5 * error + 1e-3
        assert difference.std() < 4 * told["noise"][parameter]


def test_the_scale_of_the_training_labels_is_the_truth():
    assert systematics.SCALES["lamost_lrs_stellar"].offset == (0.0, 0.0, 0.0)
    assert systematics.SCALES["vmp_papers"].offset[2] == -0.427


def test_pastel_has_several_rows_a_star_and_many_empty_cells(mock, truth):
    rows = canonical(mock, "pastel")
    repeats = len(rows) - rows.star_id.nunique()
    assert repeats == mock[1]["surveys"]["pastel"]["duplicate_ids"] > 20
    assert 0.3 < rows.teff_err.isna().mean() < 0.7
    assert 0.03 < rows.fe_h.isna().mean() < 0.2
    assert (rows.fe_h < -1).mean() > 0.15
    assert truth.set_index("star_id").loc[star_ids(rows, "pastel")].cluster.isna().all()


def test_the_nine_papers_hold_very_metal_poor_stars(mock):
    rows = canonical(mock, "vmp_papers")
    assert 0.8 < (rows.fe_h <= -2).mean() <= 1.0
    assert 0.02 < (rows.fe_h <= -3).mean() < 0.4
    assert len(rows) >= 100


def test_at_full_scale_the_nine_papers_have_the_stars_of_the_paper():
    assert SkyPlan(rows=21_071_305, seed=1).vmp_targets == 15_628


def test_hot_stars_pile_up_below_7000_k_in_a23(mock, truth):
    rows = canonical(mock, "andrae2023")
    star = truth.set_index("star_id").loc[star_ids(rows, "andrae2023")]
    hot = (star.teff_k > 7300.0).to_numpy()
    assert hot.sum() > 100
    assert rows.teff[hot].between(6400, 7000).all()
    assert np.median(rows.teff[hot]) > 6850


def test_h23_has_no_gravity(mock):
    rows = canonical(mock, "huang2023")
    assert "logg" not in rows
    assert rows.teff.isna().any()
    assert set(rows.type) == {"dwarf", "giant"}


def test_external_catalogues_never_exceed_a_million_stars():
    assert SkyPlan(rows=21_071_305, seed=1).external_targets == 1_000_000
    assert SkyPlan(rows=1000, seed=1).external_targets == 600


def test_lamost_observes_giants_and_high_latitudes_more_often():
    plan = SkyPlan(rows=2_000_000, seed=4)
    sky = draw_stars(plan, 0)
    _, rows = spectra.observe_lamost(sky, plan, 0)
    bright = spectra.field_stars(sky) & (sky["mag_g"] < 16.0) & (sky["dec"] > -10.0) & (sky["teff_k"] < 6500.0)
    taken = np.isin(np.arange(len(bright)), rows)

    def share(which):
        return taken[bright & which].mean()

    assert share(sky["kind"] == stars.GIANT) > 1.5 * share(sky["kind"] == stars.DWARF)
    assert share(np.abs(sky["b"]) > 50) > 2 * share(np.abs(sky["b"]) < 15)
    assert (sky["cluster"][rows] < 0).all()
    assert len(rows) == pytest.approx(0.072 * len(bright) * (1 + spectra.LAMOST_REPEATS), rel=0.05)


def test_members_of_every_cluster_suffice_at_any_size():
    for rows in (1_000_000, 21_071_305):
        plan = SkyPlan(rows=rows, seed=1)
        assert plan.cluster_members >= 1000
        per_chunk = Counter(draw_stars(plan, 3)["cluster"].tolist())
        shares = [plan.share(plan.cluster_members, 3)] * 4
        assert [per_chunk[index] for index in range(4)] == shares


def test_files_are_closed_when_they_are_full(tmp_path):
    table = SurveyFiles(tmp_path, TABLES["huang2023"], file_rows=25)
    for _ in range(4):
        table.append(np.zeros(10, dtype=external.HUANG_DTYPE))
    table.close()
    assert table.files == ["huang2023/huang2023.fits", "huang2023/huang2023_001.fits"]
    assert table.rows_per_file == [20, 20]
    assert [len(fits.getdata(tmp_path / name, 1)) for name in table.files] == [20, 20]


def test_text_tables_roll_over_with_a_header_each(tmp_path):
    table = SurveyFiles(tmp_path, TABLES["vmp_papers"], file_rows=3)
    columns = {name: pa.array(["1", "2"]) for name in literature.VMP_COLUMNS}
    for _ in range(2):
        table.append(TextRows(columns, 2))
    table.close()
    found = [pd.read_csv(tmp_path / name) for name in table.files]
    assert [list(one.columns) for one in found] == [literature.VMP_COLUMNS] * 2
    assert [len(one) for one in found] == [2, 2]


def test_a_chunk_larger_than_the_limit_is_not_cut(tmp_path):
    table = SurveyFiles(tmp_path, TABLES["huang2023"], file_rows=5)
    table.append(np.zeros(12, dtype=external.HUANG_DTYPE))
    table.append(np.zeros(1, dtype=external.HUANG_DTYPE))
    table.close()
    assert table.rows_per_file == [12, 1]


def test_rolled_fits_files_are_whole_tables(tmp_path):
    with FitsTable(tmp_path / "h.fits", external.HUANG_DTYPE, units=external.HUANG_UNITS) as table:
        table.append(np.zeros(3, dtype=external.HUANG_DTYPE))
    assert str(Table.read(tmp_path / "h.fits")["teff"].unit) == "K"
