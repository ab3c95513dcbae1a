"""The jobs of paper I: its numbers, what the two data sets share, and inputs that a mock sky has."""

from __future__ import annotations

import pytest

from stellarscale.catalog.paper_table import load_paper_table
from stellarscale.config import SagesJob, load_job
from stellarscale.products import sages
from stellarscale.schema import load_survey
from stellarscale.simulate import simulate_sky, stars

NAMES = ["sages_set1", "sages_set2"]
# Table 2: training and prediction.
CUTS = {
    "u": (0.1, 0.2), "v": (0.1, 0.2), "g": (0.01, 0.1), "bp": (0.01, 0.1), "rp": (0.01, 0.1), "j": (0.04, 0.1),
    "h": (0.05, 0.1), "k": (0.05, 0.2), "w1": (0.03, 0.1), "w2": (0.05, 0.1), "nuv": (0.1, 0.2),
}  # fmt: skip
SET1 = {"u", "v", "g", "bp", "rp"}


@pytest.fixture(scope="module")
def jobs() -> dict[str, SagesJob]:
    return {name: load_job(name) for name in NAMES}


@pytest.fixture(scope="module")
def mock(tmp_path_factory):
    out = tmp_path_factory.mktemp("sky")
    simulate_sky(rows=1000, seed=1, out=out)
    return out


@pytest.mark.parametrize("name", NAMES)
def test_coefficients_and_cuts_are_those_of_tables_1_and_2(jobs, name):
    features = jobs[name].features
    assert set(features.bands) == (SET1 if name == "sages_set1" else set(CUTS))
    for band, settings in features.bands.items():
        assert settings.extinction == stars.EXTINCTION[band]
        assert (settings.train_err, settings.predict_err) == CUTS[band]
        assert settings.err == f"{settings.mag}_err"
    assert (features.ebv_max_train, features.ebv_max_predict) == (0.05, 0.5)
    assert (features.parallax.train_snr, features.parallax.predict_snr) == (1, 1)
    assert [rule.name for rule in features.classes.rules] == ["white_dwarf", "hot_subdwarf", "giant", "dwarf"]


@pytest.mark.parametrize("name", NAMES)
def test_labels_have_the_roles_and_cuts_of_the_paper(jobs, name):
    training = jobs[name].training
    cuts = {"teff": 200, "logg": 0.3, "fe_h": 0.2}
    assert training.match.catalog == "lamost"
    assert {label: settings.max_error for label, settings in training.labels.items()} == cuts
    roles = {source.match.catalog: source.role for source in training.sources}
    assert roles == {"rave": "extend", "pastel": "extend", "apogee": "test", "vmp": "test"}
    sources = {source.match.catalog: source.labels for source in training.sources}
    assert {label: settings.max_error for label, settings in sources["apogee"].items()} == cuts
    assert all(sources[catalog]["fe_h"].range == (-5, -1) for catalog in ("rave", "pastel"))
    assert sources["vmp"]["fe_h"].offset == 0.427
    forest = training.forest
    assert (forest.n_estimators, forest.max_features, forest.max_depth) == (300, None, 17)
    assert [model.name for model in training.models] == [
        "fe_h_dwarf", "fe_h_giant", "teff_dwarf", "teff_giant", "logg_dwarf_giant",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_magnitudes_colours_parallax_absolute_magnitude_and_reddening(jobs, name):
    job = jobs[name]
    magnitudes = [f"{band}_0" for band in job.features.bands]
    colours = [f"{pair.replace('-', '_')}_0" for pair in job.features.colours]
    assert sorted(job.training.inputs) == sorted([*magnitudes, *colours, "parallax", "m_g_0", "ebv"])
    assert job.training.errors.magnitude == "g_0"
    assert job.training.errors.novelty == (*colours, "m_g_0")


def test_the_two_jobs_share_imports_and_the_first_match(jobs):
    one, two = (jobs[name] for name in NAMES)
    assert one.store == two.store
    assert one.out != two.out
    assert all(two.catalogs[name] == entry for name, entry in one.catalogs.items())
    assert (two.match.primary, two.match.chain[0]) == (one.match.primary, one.match.chain[0])
    assert set(two.catalogs) - set(one.catalogs) == {"galex", "twomass", "allwise"}
    assert [step.catalog for step in two.match.chain] == ["sages", "galex", "twomass", "allwise"]


@pytest.mark.parametrize("name", [*NAMES, "demo"])
def test_the_columns_to_import_are_in_the_schemas(jobs, name):
    for entry in load_job(name).catalogs.values():
        assert set(entry.columns) <= set(load_survey(entry.survey).columns)


@pytest.mark.parametrize("name", [*NAMES, "demo"])
def test_the_catalogue_has_what_the_paper_s_table_needs(name):
    job, paper = load_job(name), load_paper_table()
    written = {*job.output.columns, *job.training.labels}
    optional = name == "sages_set2"
    for column in paper.columns.values():
        if optional or not column.optional:
            assert set(column.sources) <= written


@pytest.mark.parametrize("name", [*NAMES, "demo"])
def test_a_mock_sky_has_every_input(mock, name):
    truth = f"truth={{file: {mock}/truth/truth.parquet, id: source_id, truth_id: source_id, labels: {{teff: teff_k}}}}"
    job = load_job(name, [f"data={mock}", *([truth] if name != "demo" else [])])
    plan = sages.plan(job)
    assert plan["inputs"].keys() == job.catalogs.keys()
    assert all(plan["inputs"].values())


@pytest.mark.parametrize("name", NAMES)
def test_users_without_truth_tuning_or_comparators_need_not_say_so(jobs, name):
    job = jobs[name]
    assert (job.truth, job.training.tuning, job.training.comparators) == (None, None, ())


def test_the_switches_that_the_head_of_the_job_names_work():
    job = load_job(
        "sages_set1",
        [
            "training.tuning={}",
            "training.comparators=[{name: polynomial, kind: polynomial}, {name: network, kind: network},\n"
            "  {name: extra_trees, kind: extra_trees}, {name: xgboost, kind: xgboost}]",
        ],
    )
    assert job.training.tuning.n_estimators == (50, 100, 200, 300, 500, 750)
    assert len(job.training.comparators) == 4
