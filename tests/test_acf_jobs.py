"""The jobs of paper III: every number of the paper, and what the mock's job shares with it."""

from __future__ import annotations

import pytest
from reference.mock_smss import small_mock

from stellarscale.config import AcfJob, load_job
from stellarscale.products import acf
from stellarscale.schema import load_product, load_survey

NAMES = ["acf", "acf_mock"]


@pytest.fixture(scope="module")
def jobs() -> dict[str, AcfJob]:
    return {name: load_job(name) for name in NAMES}


@pytest.fixture(scope="module")
def paper(jobs) -> AcfJob:
    return jobs["acf"]


# ---- section 2.2


@pytest.mark.parametrize("name", NAMES)
def test_the_cuts_of_the_stars(jobs, name):
    selection = jobs[name].selection
    cuts = {cut.name: cut for cut in selection.cuts}
    assert list(cuts) == ["latitude", "flags", "class_star", "ngood", "neighbour", "parallax"]
    assert (cuts["latitude"].columns, cuts["latitude"].absolute, cuts["latitude"].tests) == (
        ("glat",),
        True,
        {"min": 10},
    )
    assert (cuts["flags"].columns, cuts["flags"].tests) == (("flags",), {"equals": 0})
    assert (cuts["class_star"].columns, cuts["class_star"].tests) == (("class_star",), {"min": 0.6})
    assert (cuts["ngood"].columns, cuts["ngood"].tests) == (tuple(f"{b}_ngood" for b in "uvgriz"), {"min": 1})
    assert (cuts["neighbour"].columns, cuts["neighbour"].tests) == (("self_dist_arcsec",), {"min": 15})
    assert cuts["neighbour"].null == "pass", "a star alone has no distance"
    parallax = cuts["parallax"]
    assert (parallax.columns, parallax.over, parallax.tests) == (
        ("gaia_parallax_error",), "gaia_parallax", {"below": 0.3},
    )  # fmt: skip
    assert selection.relaxed == ("latitude", "flags", "neighbour")
    assert {cut.null for name, cut in cuts.items() if name != "neighbour"} == {"fail"}


@pytest.mark.parametrize("name", NAMES)
def test_the_labels_are_those_of_galah(jobs, name):
    labels = jobs[name].labels
    assert (labels.match.catalog, labels.match.radius_arcsec) == ("galah", 1.0)
    cuts = {cut.name: (cut.columns, cut.tests) for cut in labels.cuts}
    assert cuts == {
        "flag_sp": (("galah_flag_sp",), {"equals": 0}),
        "flag_fe_h": (("galah_flag_fe_h",), {"equals": 0}),
        "snr": (("galah_snr",), {"above": 30}),
    }
    assert {label: (each.column, each.unit) for label, each in labels.labels.items()} == {
        "teff": ("galah_teff", "K"), "logg": ("galah_logg", "dex"), "fe_h": ("galah_fe_h", "dex"),
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_gaia_within_an_arcsecond_at_the_epoch_of_the_image(jobs, name):
    (step,) = jobs[name].match.chain
    assert (jobs[name].match.primary, step.catalog, step.radius_arcsec) == ("master", "gaia", 1.0)
    assert (step.keep, step.epoch) == ("nearest", "rows")


def test_one_star_in_nine_of_each_kind(paper, jobs):
    assert paper.selection.quality == "high"
    assert paper.selection.strata.keep_one_in == 9
    assert set(paper.selection.strata.by) == {"g_mag", "g_mag-i_mag"}
    assert (jobs["acf_mock"].selection.quality, jobs["acf_mock"].selection.strata) == ("all", None)


# ---- section 2.3


@pytest.mark.parametrize("name", NAMES)
def test_the_stamps(jobs, name):
    stamps = jobs[name].stamps
    assert name != "acf" or stamps.format.shape == (6, 48, 48)
    assert stamps.bands == tuple("uvgriz")
    assert stamps.reference_band == "r"
    assert stamps.extinction == {"u": 4.294, "v": 4.026, "g": 2.986, "r": 2.288, "i": 1.588, "z": 1.206}
    assert stamps.reddening.column == "ebv"
    assert stamps.format.dereddened
    (use,) = stamps.use
    assert (use.columns, use.tests) == (("use_in_clipped",), {"equals": 1})


# ---- sections 3.1 to 3.4


def test_the_network(paper):
    backbone, head = paper.network.backbone, paper.network.head
    assert (backbone.stem_kernel, backbone.mlp_ratio) == (7, 4.0)
    assert backbone.depths == (2, 4, 32, 2)
    assert backbone.channels == (64, 128, 256, 512)
    assert backbone.heads == (2, 4, 8, 16)
    assert backbone.stripes == (1, 2, 3, 3)
    assert (head.parallax_units, head.parallax_input, head.hidden, head.dropout) == (128, "linear", (256, 64), 0.2)
    assert (paper.network.parallax, paper.network.joint) == (True, False)


def test_the_training(paper):
    training = paper.training
    assert (training.epochs, training.batch_size) == (300, 128)
    assert (training.learning_rate, training.decay, training.decay_epochs) == (1e-4, 0.8, 50)
    assert (training.schedule, training.betas, training.weight_decay) == ("step", (0.99, 0.999), 5e-5)
    assert (training.augment, training.split) == (True, (0.8, 0.1, 0.1))
    assert training.without_parallax, "the comparison of logg with and without parallax"


# ---- sections 5 and 6


def test_the_comparisons(paper):
    comparisons = paper.comparisons
    assert comparisons.algorithms == ("random_forest", "xgboost", "lightgbm", "catboost")
    assert comparisons.features == ("magnitudes", "colours", "both", "image")
    assert comparisons.colours == ("u-v", "v-g", "g-r", "r-i", "i-z")
    assert comparisons.components == 16
    assert comparisons.magnitudes == {band: f"{band}_mag" for band in "uvgriz"}


@pytest.mark.parametrize("name", NAMES)
def test_other_catalogues(jobs, name):
    external = {each.name: each for each in jobs[name].evaluation.external}
    assert set(external) == {"apogee", "lsp3"}
    for survey, each in external.items():
        assert (each.match.catalog, each.match.radius_arcsec, each.match.prefix) == (survey, 1.0, f"{survey}_")
        assert each.labels == {label: f"{survey}_{label}" for label in ("teff", "logg", "fe_h")}


@pytest.mark.parametrize("name", NAMES)
def test_flags_and_columns_of_the_catalogue(jobs, name):
    job = jobs[name]
    assert job.limits == {"teff": (4000.0, 8000.0), "logg": (1.0, None), "fe_h": (-1.0, None)}
    assert set(job.output.columns) >= {
        "object_id", "gaia_source_id", "ra", "dec", "l", "b", "parallax", "parallax_error", "g_mag", "sample_quality",
    }  # fmt: skip
    endings = ("", "_std", "_err", "_err95")
    described = load_product("acf").columns
    assert {f"{label}{ending}" for label in job.units for ending in endings} < set(described)
    assert not set(described) & set(job.output.columns)


@pytest.mark.parametrize("name", NAMES)
def test_the_columns_to_import_are_in_the_schemas(jobs, name):
    for entry in jobs[name].catalogs.values():
        assert set(entry.columns) <= set(load_survey(entry.survey).columns)


@pytest.mark.parametrize("name", NAMES)
def test_a_mock_has_every_input(name):
    job = load_job(name, [f"data={small_mock().folder}"])
    plan = acf.plan(job)
    assert plan["inputs"].keys() == set(job.used_catalogs) == set(job.catalogs)
    assert all(plan["inputs"].values())
    assert (plan["match"], plan["labels"]) == ("master x gaia", "galah")
    assert plan["stamps"].startswith(f"{job.stamps.size_px} px, bands u v g r i z")
