"""One method beside the networks: its inputs, its stars, its figures, and what it says when something is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("optuna")
pytest.importorskip("torch")

from reference.compared_images import EXTINCTION, NOISE_K, compared_job, write_networks, write_training

from stellarscale.engine.gpu import Share
from stellarscale.engine.image_comparing import (
    CompareImagesTask,
    FeatureTask,
    ImageFit,
    compare_images_one,
    features_path,
    image_features,
    network_record,
)
from stellarscale.engine.image_scoring import group_figures, groups_of, held_out, read_stars, scored
from stellarscale.engine.image_tasks import Networks
from stellarscale.errors import InputError, ModelError, SchemaError
from stellarscale.models.store import digest
from stellarscale.settings.features import Reddening


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    root = tmp_path_factory.mktemp("compared")
    table = write_training(root / "training")
    write_networks(root / "models", table)
    job = compared_job(root)
    return CompareImagesTask(
        root / "training", root / "models", root / "out", job.comparisons, job.stamps.reddening, EXTINCTION, 3, 1
    )


@pytest.fixture(scope="module")
def featured(task):
    job = compared_job(task.out)
    path = task.models / "teff.safetensors"
    work = FeatureTask(task.training, task.out, job.prediction, Share(1))
    return image_features(work, (path, digest(path)))


def forest(features, *, parallax, label="logg"):
    return ImageFit(label, label, "random_forest", features, parallax)


def test_the_stars_that_score_are_of_the_test_with_label_and_prediction(task):
    table = read_stars(task.training)
    chosen = scored(task.models, table, "teff", "teff")
    split, rows = table["split"].to_numpy(), np.arange(table.num_rows)
    expected = (split == 2) & (rows % 50 != 7) & (rows % 9 != 4)
    np.testing.assert_array_equal(chosen, expected)


def test_validation_scores_where_there_is_no_test(task, tmp_path):
    table = read_stars(task.training)
    split = np.minimum(table["split"].to_numpy(), 1)
    merged = table.set_column(table.column_names.index("split"), "split", pa.array(split))
    assert (merged["split"].to_numpy()[scored(task.models, merged, "logg", "logg")] == 1).all()


def test_a_parallax_tells_dwarfs_from_giants_and_apparent_magnitudes_do_not(task):
    with_, without = (compare_images_one(task, forest("both", parallax=parallax)) for parallax in (True, False))
    assert with_["inputs"] == ["m_g_0", "m_r_0", "m_i_0", "g_r_0", "r_i_0", "parallax", "parallax_error"]
    assert without["inputs"] == ["g_0", "r_0", "i_0", "g_r_0", "r_i_0"]
    assert with_["groups"]["all"]["std"] < 0.3 * without["groups"]["all"]["std"]
    assert with_["n_train"] == int((read_stars(task.training)["split"].to_numpy() == 0).sum())
    assert len(with_["search_history"]) == 2


def test_dust_is_taken_off_and_neighbours_spoil_magnitudes(task):
    fit = forest("colours", parallax=False, label="teff")
    found = compare_images_one(task, fit)["groups"]
    assert found["neighbours"]["n"] + found["isolated"]["n"] == found["all"]["n"]
    assert found["low"] == found["neighbours"]
    assert found["neighbours"]["sigma"] > 2 * found["isolated"]["sigma"]
    reddened = compare_images_one(replace(task, reddening=None), fit)["groups"]
    assert found["isolated"]["sigma"] < 0.8 * reddened["isolated"]["sigma"]
    constant = compare_images_one(replace(task, reddening=Reddening(value=0.1)), fit)["groups"]
    assert constant["all"] != found["all"]


def test_image_features_are_the_backbones_of_every_star(task, featured):
    features = np.load(features_path(task.out, "teff"), allow_pickle=False)
    assert features.shape == (400, 32)
    assert featured["rows_out"] == 400
    path = task.models / "teff.safetensors"
    stamps = np.load(task.training / "stamps.npy")[:64]
    direct = Networks(((path, digest(path)),), compared_job(task.out).prediction).load().features(stamps)
    np.testing.assert_allclose(features[:64], direct, rtol=1e-5, atol=1e-6)


def test_their_components_are_inputs(task, featured):
    found = compare_images_one(task, forest("image", parallax=True, label="teff"))
    assert found["inputs"] == [*(f"pc_{number}" for number in range(1, 17)), "parallax", "parallax_error"]
    assert 0.5 < found["components_share"] <= 1.0
    assert found["method"] == "random_forest_image"


def test_the_same_task_gives_the_same_record(task):
    fit = forest("magnitudes", parallax=True)
    first, again = (compare_images_one(task, fit) for _ in range(2))
    assert {**first, "fit_seconds": 0} == {**again, "fit_seconds": 0}


def test_networks_are_measured_on_the_same_stars(task):
    with_ = network_record(task, "teff", "teff", parallax=True, stars_of="teff")
    without = network_record(task, "teff", "teff_no_parallax", parallax=False, stars_of="teff")
    assert (with_["method"], without["method"]) == ("ACF", "ACPF")
    assert with_["groups"]["all"]["n"] == without["groups"]["all"]["n"] == with_["rows_out"]
    assert with_["groups"]["all"]["std"] == pytest.approx(NOISE_K, rel=0.3)
    assert without["groups"]["all"]["std"] == pytest.approx(3 * NOISE_K, rel=0.3)


def test_figures_of_groups():
    table = pa.table({"self_dist_arcsec": pa.array([3.0, None, 20.0, 14.9])})
    groups = groups_of(table)
    assert groups["neighbours"].tolist() == [True, False, False, True]
    found = group_figures(np.array([1.0, 5.0, 5.0, 3.0]), groups)
    assert found["neighbours"] == {"n": 2, "bias": 2.0, "sigma": 1.4826, "std": 1.0}
    assert found["isolated"] == {"n": 2, "bias": 5.0, "sigma": 0.0, "std": 0.0}
    alone = group_figures(np.array([1.0]), {"all": np.array([True])})
    assert alone["all"] == {"n": 1, "bias": None, "sigma": None, "std": None}


def test_what_is_missing_is_told(task, tmp_path):
    with pytest.raises(InputError, match="image features are not there"):
        compare_images_one(replace(task, out=tmp_path), forest("image", parallax=True))
    with pytest.raises(InputError, match="predictions are not there"):
        compare_images_one(replace(task, models=tmp_path), forest("colours", parallax=True))
    with pytest.raises(InputError, match="stars of the networks are not there"):
        read_stars(tmp_path)
    bare = read_stars(task.training).drop_columns(["ebv", "r_mag"])
    pq.write_table(bare, tmp_path / "table.parquet")
    with pytest.raises(SchemaError, match="r_mag, ebv"):
        compare_images_one(replace(task, training=tmp_path), forest("colours", parallax=True))


def test_predictions_of_other_stars_are_refused(task):
    table = read_stars(task.training)
    with pytest.raises(InputError, match="another training set"):
        held_out(task.models, table.slice(0, 100), "teff", "teff")


def test_features_of_other_stars_are_refused(task, tmp_path):
    np.save(features_path(tmp_path, "logg"), np.zeros((3, 32), np.float32))
    with pytest.raises(InputError, match="other stars"):
        compare_images_one(replace(task, out=tmp_path), forest("image", parallax=True))


def test_an_error_of_a_package_is_told_in_our_words(task, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("no tree grew")

    monkeypatch.setattr("stellarscale.engine.image_comparing.search_fit", broken)
    with pytest.raises(ModelError, match=r"logg random_forest_colours with parallax.*no tree grew"):
        compare_images_one(task, forest("colours", parallax=True))
