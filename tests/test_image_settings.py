"""Settings of the product acf: the paper's defaults, and contradictions that are told when the job is read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stellarscale.config import load_job
from stellarscale.errors import ConfigError
from stellarscale.settings.acf import LIMITS, AcfJob
from stellarscale.settings.cuts import Cut, Selection, Strata
from stellarscale.settings.image_network import Backbone, Head, ImageNetwork, ImagePrediction, ImageTraining
from stellarscale.settings.stamps import BANDS, EXTINCTION, StampSettings

BY = ("r", "y")
FILES = "cutouts/{object_id}.fits"
CUT = {"name": "flags", "columns": ["flags"], "equals": 0}


def stamps(**settings) -> StampSettings:
    return StampSettings.model_validate({"files": FILES, **settings})


# ---- defaults


def test_the_network_is_the_paper_s():
    backbone, head = Backbone(), Head()
    assert (backbone.stem_kernel, backbone.mlp_ratio) == (7, 4.0)
    assert backbone.depths == (2, 4, 32, 2)
    assert backbone.channels == (64, 128, 256, 512)
    assert backbone.heads == (2, 4, 8, 16)
    assert backbone.stripes == (1, 2, 3, 3)
    assert (head.parallax_units, head.hidden, head.dropout) == (128, (256, 64), 0.2)
    assert (ImageNetwork().parallax, ImageNetwork().joint) == (True, False)


def test_the_training_is_the_paper_s():
    training = ImageTraining()
    assert (training.epochs, training.batch_size, training.learning_rate) == (300, 128, 1e-4)
    assert (training.betas, training.weight_decay) == ((0.99, 0.999), 5e-5)
    assert (training.decay, training.decay_epochs, training.schedule) == (0.8, 50, "step")
    assert (training.augment, training.split) == (True, (0.8, 0.1, 0.1))
    assert ImagePrediction().samples == 256


def test_the_stamps_are_the_paper_s():
    made = stamps()
    assert made.format.shape == (6, 48, 48)
    assert made.bands == BANDS == tuple("uvgriz")
    assert made.extinction == EXTINCTION
    assert (made.reference_band, made.dtype, made.format.dereddened) == ("r", "float16", False)
    assert made.zero_points == (10.0, 40.0)


# ---- what contradicts itself


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"depths": (1, 1, 1)}, "one value for each stage"),
        ({"depths": (1,), "channels": (16,), "heads": (3,), "stripes": (1,)}, "16 channels"),
        ({"depths": (1,), "channels": (18,), "heads": (3,), "stripes": (1,)}, "two directions"),
        ({"depths": ()}, "depths"),
        ({"mlp_ratio": 0}, "mlp_ratio"),
        ({"depths": (0,), "channels": (16,), "heads": (2,), "stripes": (1,)}, "depths"),
        ({"depths": (1,), "channels": (16,), "heads": (2,), "stripes": (0,)}, "stripes"),
        ({"depths": (1,), "channels": (16,), "heads": (0,), "stripes": (1,)}, "heads"),
        ({"depths": (1,), "channels": (-16,), "heads": (2,), "stripes": (1,)}, "channels"),
    ],
)
def test_a_backbone_that_cannot_be_built_is_refused(settings, part):
    with pytest.raises(ValidationError, match=part):
        Backbone.model_validate(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"hidden": ()},
        {"hidden": (8, 0)},
        {"parallax_units": 0},
        {"parallax_input": "sqrt"},
    ],
)
def test_a_head_that_cannot_be_built_is_refused(settings):
    with pytest.raises(ValidationError):
        Head.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"split": (0.8, 0.1, 0.2)}, "three shares that make 1"),
        ({"split": (0.0, 0.5, 0.5)}, "some stars to train on"),
        ({"split": (1.2, -0.1, -0.1)}, "three shares"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"betas": (-0.1, 0.9)}, "betas"),
        ({"devices": 0}, "devices"),
        ({"devices": -2}, "devices"),
        ({"weight_decay": -1e-5}, "weight_decay"),
        ({"batch_size": 1}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"epochs": 0}, "epochs"),
        ({"epoch": 3}, "epoch"),
    ],
)
def test_a_training_that_cannot_be_is_refused(settings, part):
    with pytest.raises(ValidationError, match=part):
        ImageTraining.model_validate(settings)


@pytest.mark.parametrize("value", [1, 0])
def test_a_spread_needs_two_samples(value):
    with pytest.raises(ValidationError, match="samples"):
        ImagePrediction(samples=value)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"reference_band": "y"}, "none of the bands"),
        ({"bands": ("g", "r", "y")}, "`softening` has no value for y"),
        ({"bands": BY, "softening": dict.fromkeys(BY, 1), "reddening": {"column": "ebv"}}, "`extinction` .* y"),
        ({"softening": dict.fromkeys(BANDS, 0.0)}, "above 0"),
        ({"size_px": 4}, "size_px"),
        ({"bands": ()}, "bands"),
        ({"bands": ("r", "g", "r")}, "twice"),
        ({"saturation": 0}, "saturation"),
        ({"max_missing": 1.5}, "max_missing"),
        ({"zero_points": (40, 10)}, "40 to 10 holds no magnitude"),
        ({"zero_points": (float("nan"), 10)}, "zero_points"),
        ({"zero_points": (10,)}, "zero_points"),
        ({"max_distortion_px": 0}, "max_distortion_px"),
        ({"dtype": "float64"}, "dtype"),
    ],
)
def test_stamps_that_cannot_be_made_are_refused(settings, part):
    with pytest.raises(ValidationError, match=part):
        stamps(**settings)


def test_bands_without_dust_need_no_extinction():
    made = stamps(bands=("g", "r", "y"), softening={"g": 1.0, "r": 2.0, "y": 3.0})
    assert made.format.softening == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("cut", "part"),
    [
        ({"name": "a", "columns": ["b"]}, "compares with nothing"),
        ({"name": "a", "columns": [], "min": 1}, "columns"),
        ({"name": "a b", "columns": ["b"], "min": 1}, "name"),
        ({"name": "a", "columns": ["b"], "min": 1, "null": "maybe"}, "null"),
    ],
)
def test_a_cut_that_says_nothing_is_refused(cut, part):
    with pytest.raises(ValidationError, match=part):
        Cut.model_validate(cut)


def test_the_tests_of_a_cut_are_those_that_are_given():
    cut = Cut(name="a", columns=("b",), min=0, below=3)
    assert cut.tests == {"min": 0, "below": 3}


@pytest.mark.parametrize(
    ("selection", "part"),
    [
        ({"cuts": [CUT, CUT]}, "two cuts have one name"),
        ({"cuts": [CUT], "relaxed": ["latitude"]}, "latitude"),
        ({"cuts": [CUT], "quality": "low"}, "needs `relaxed`"),
        ({"cuts": [CUT], "quality": "best"}, "quality"),
    ],
)
def test_a_selection_that_contradicts_itself_is_refused(selection, part):
    with pytest.raises(ValidationError, match=part):
        Selection.model_validate(selection)


def test_strata_keep_one_or_more():
    with pytest.raises(ValidationError, match="keep_one_in"):
        Strata(keep_one_in=0)


# ---- the job


def job(*overrides: str) -> AcfJob:
    made = load_job("acf", overrides)
    assert isinstance(made, AcfJob)
    return made


def test_limits_of_a_parameter_that_is_not_learned_are_refused():
    with pytest.raises(ConfigError, match=r"limits.*alpha"):
        job("limits={alpha: [0, 1]}")
    assert job().limits == LIMITS


@pytest.mark.parametrize("limits", ["{teff: [8000, 4000]}", "{teff: [4000]}", "{teff: 4000}"])
def test_limits_that_are_no_range_are_refused(limits):
    with pytest.raises(ConfigError, match=r"limits|teff"):
        job(f"limits={limits}")


def test_one_label_needs_no_limits_of_the_others():
    made = job("labels.labels={teff: {column: galah_teff, unit: K}}")
    assert made.units == {"teff": "K"}


def test_catalogues_that_steps_read_are_declared():
    assert job().used_catalogs == ("master", "gaia", "detections", "exposures", "galah", "apogee", "lsp3")
    assert job("stamps.images=null", "pretrained=models", "evaluation.external=[]").used_catalogs == (
        "master", "gaia", "detections",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="shots"):
        job("stamps.images=shots")


def test_columns_of_the_output_are_found_by_their_source():
    made = job()
    assert made.column_of("gaia_parallax") == "parallax"
    assert made.column_of("u_mag") is None
    assert made.errors_by == ("g_mag", "g_mag")
    assert job("magnitude=null", "errors.magnitude=null").errors_by == (None, "")
    assert job("errors.magnitude=null", "magnitude=g_mag").errors_by == ("g_mag", "g_mag")
    assert job("errors.magnitude=r_mag", "output.columns.r=r_mag").errors_by == ("r", "r_mag")
    assert job("errors.magnitude=r_mag").errors_by == (None, "")  # not the other magnitude under its name
