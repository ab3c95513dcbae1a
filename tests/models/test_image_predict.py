"""Networks on images as predictors: batches, missing values, samples, precision, loading."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from reference.tiny_networks import LAYOUT, save_tiny, tiny_model, tiny_parallaxes, tiny_stamps

from stellarscale.errors import ModelError
from stellarscale.models import image_passes
from stellarscale.models.image_inputs import standard_parallax, standard_stamps
from stellarscale.models.image_network import dropout_masks
from stellarscale.models.image_predict import ImagePredictor, load_predictor, precision_change
from stellarscale.models.image_store import restore_network
from stellarscale.models.streams import stream_seed
from stellarscale.settings.image_network import Head, ImagePrediction

N = 70
TOLERANCE = 2e-5  # of a label's standard deviation: float32 sums in another order
SETTINGS = ImagePrediction(samples=32, batch_size=16, precision="fp32")


@pytest.fixture(scope="module")
def stamps():
    return tiny_stamps(N)


@pytest.fixture(scope="module")
def parallaxes():
    return tiny_parallaxes(N)


@pytest.fixture(scope="module")
def predictor():
    return ImagePredictor([tiny_model()], SETTINGS, threads=1)


def of_size(batch_size, models=None, **changes):
    settings = SETTINGS.model_copy(update={"batch_size": batch_size, **changes})
    return ImagePredictor(models or [tiny_model()], settings, threads=1)


def relative(values, predictor):
    """In units of the labels' standard deviations."""
    return values / np.concatenate([model.scaling.label_std for model in predictor.models])


def test_mean_and_deviation_are_those_of_a_plain_loop_over_samples(predictor, stamps, parallaxes):
    import torch

    mean, std = predictor.estimate(stamps, *parallaxes)
    model, weights = tiny_model()
    network = restore_network(model, weights)
    masks = dropout_masks(stream_seed(model.seed, "samples", *model.labels), 32, network.widths, network.rate)
    inputs = torch.from_numpy(standard_parallax(*parallaxes, model.scaling, model.network.head))
    with torch.inference_mode():
        features = network.features(torch.from_numpy(standard_stamps(stamps, model.scaling)))
        samples = [network.head(features, inputs, [mask[sample] for mask in masks]).numpy() for sample in range(32)]
    labels = model.scaling.restore_labels(np.stack(samples))
    assert np.abs(relative(mean - labels.mean(axis=0), predictor)).max() < TOLERANCE
    assert np.abs(relative(std - labels.std(axis=0, ddof=1), predictor)).max() < TOLERANCE
    assert (std > 0).all()
    assert relative(mean, predictor).std(axis=0).min() > 0.05, "the test's network must tell stars apart"


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_results_do_not_depend_on_the_batch_size(predictor, stamps, parallaxes, batch_size):
    expected = predictor.estimate(stamps, *parallaxes)
    found = of_size(batch_size).estimate(stamps, *parallaxes)
    for one, other in zip(expected, found, strict=True):
        assert np.abs(relative(one - other, predictor)).max() < TOLERANCE


def test_what_fills_a_batch_up_does_not_leak(stamps, parallaxes):
    predictor = of_size(64)
    whole = predictor.estimate(stamps, *parallaxes)
    for n in (1, 5, 63):
        part = predictor.estimate(stamps[:n], *(each[:n] for each in parallaxes))
        assert np.abs(relative(part[0] - whole[0][:n], predictor)).max() < TOLERANCE
        assert np.abs(relative(part[1] - whole[1][:n], predictor)).max() < TOLERANCE
    hidden = stamps[:3].copy()
    hidden[2] = 9.0  # the last star is what fills up: a wild one changes no other
    part = predictor.estimate(hidden, *(each[:3] for each in parallaxes))
    assert np.abs(relative(part[0][:2] - whole[0][:2], predictor)).max() < TOLERANCE


def test_the_same_call_gives_the_same_numbers(predictor, stamps, parallaxes):
    first, second = (predictor.estimate(stamps, *parallaxes) for _ in range(2))
    again = ImagePredictor([tiny_model()], SETTINGS, threads=1).estimate(stamps, *parallaxes)
    for one, two, three in zip(first, second, again, strict=True):
        assert np.array_equal(one, two)
        assert np.array_equal(one, three)


def test_a_star_without_what_is_needed_gets_nan_and_the_others_do_not(predictor, stamps, parallaxes):
    parallax, error = (each.copy() for each in parallaxes)
    stamps = stamps.copy()
    parallax[3], error[20], error[40] = np.nan, np.nan, 0.0
    stamps[7, 1] = np.nan
    mean, std = predictor.estimate(stamps, parallax, error)
    without = np.isin(np.arange(N), [3, 7, 20, 40])
    assert np.array_equal(np.isnan(mean).all(axis=1), without)
    assert np.array_equal(np.isnan(std).any(axis=1), without)
    expected, _ = predictor.estimate(tiny_stamps(N), *parallaxes)
    assert np.abs(relative(mean - expected, predictor)[~without]).max() < TOLERANCE
    assert np.array_equal(predictor.knows(parallax, error), ~np.isin(np.arange(N), [3, 20, 40]))
    features = predictor.features(stamps)
    assert np.array_equal(np.isnan(features).all(axis=1), np.arange(N) == 7)


def test_no_rows_are_fine(predictor, stamps):
    nothing = np.empty(0)
    mean, std = predictor.estimate(stamps[:0], nothing, nothing)
    assert mean.shape == std.shape == (0, 3)
    assert predictor.features(stamps[:0]).shape == (0, 32)


def test_features_are_the_backbones_and_networks_without_parallax_need_none(stamps, parallaxes):
    import torch

    model, weights = tiny_model(parallax=False)
    predictor = of_size(16, [(model, weights)])
    nothing = np.full(N, np.nan)
    assert predictor.knows(nothing, nothing).all()
    assert np.isfinite(predictor.estimate(stamps, nothing, nothing)[0]).all()
    with torch.inference_mode():
        expected = restore_network(model, weights).features(torch.from_numpy(standard_stamps(stamps, model.scaling)))
    assert predictor.features(stamps) == pytest.approx(expected.numpy(), abs=1e-5)


def test_the_logarithm_of_a_negative_parallax_is_not_known(stamps, parallaxes):
    predictor = of_size(16, [tiny_model(head=Head(hidden=(16, 8), parallax_units=8, parallax_input="log"))])
    parallax, error = parallaxes[0].copy(), parallaxes[1]
    parallax[5] = -0.2
    assert np.array_equal(np.isnan(predictor.estimate(stamps, parallax, error)[0]).all(axis=1), np.arange(N) == 5)


def test_a_network_for_each_label_gives_the_columns_side_by_side(stamps, parallaxes):
    models = [tiny_model((label,), seed=seed) for seed, label in enumerate(("logg", "teff"))]
    both = of_size(16, models)
    assert both.labels == ("logg", "teff")
    mean, std = both.estimate(stamps, *parallaxes)
    for column, model in enumerate(models):
        alone = of_size(16, [model]).estimate(stamps, *parallaxes)
        assert np.array_equal(mean[:, column], alone[0][:, 0])
        assert np.array_equal(std[:, column], alone[1][:, 0])
    assert both.features(stamps).shape == (N, 64)
    assert not np.array_equal(both.features(stamps)[:, :32], both.features(stamps)[:, 32:])


def test_networks_that_do_not_go_together_are_refused():
    with pytest.raises(ModelError, match="no network"):
        ImagePredictor([], SETTINGS)
    with pytest.raises(ModelError, match=r"two networks give one parameter.*teff, teff"):
        ImagePredictor([tiny_model(("teff",)), tiny_model(("teff",))], SETTINGS)
    other = tiny_model(("teff",), layout=LAYOUT.__class__(("g", "r", "z"), 16, "float16", (5.0,) * 3, 25.0, True))
    with pytest.raises(ModelError, match=r"not of the kind.*bands"):
        ImagePredictor([tiny_model(("logg",)), other], SETTINGS)


def test_fewer_samples_are_the_first_of_more(stamps, parallaxes):
    few, many = of_size(16, samples=2), of_size(16, samples=400)
    (mean_few, _), (mean_many, std) = (each.estimate(stamps, *parallaxes) for each in (few, many))
    assert np.abs(mean_few - mean_many).max() < 6 * std.max(), "a mean of two samples is near, but not the same"
    assert not np.array_equal(mean_few, mean_many)


def test_the_change_by_bf16_is_measured_and_small(stamps, parallaxes):
    plain, fast = of_size(16), of_size(16, precision="bf16")
    assert fast.about == {"device": "cpu", "precision": "bf16"}
    change = precision_change(fast, plain, stamps, parallaxes)
    assert change.shape == (3,)
    assert (change > 0).all()
    assert (change < 0.1).all()
    assert precision_change(plain, plain, stamps, parallaxes).tolist() == [0.0, 0.0, 0.0]
    nothing = np.full(N, np.nan)
    assert np.isnan(precision_change(fast, plain, stamps, (nothing, nothing))).all()


def test_the_change_is_measured_by_the_error_where_labels_are_known(stamps, parallaxes):
    plain, fast = of_size(16), of_size(16, precision="bf16")
    mean, std = plain.estimate(stamps, *parallaxes)
    off = np.random.default_rng(1).normal(size=mean.shape) * 7 * std.mean(axis=0)
    off[::5] = np.nan
    by_error = precision_change(fast, plain, stamps, parallaxes, mean + off)
    changed = fast.estimate(stamps, *parallaxes)[0] - mean
    expected = np.sqrt((changed**2).mean(axis=0)) / (7 * std.mean(axis=0))
    assert by_error == pytest.approx(expected, rel=0.5)
    off[10:] = np.nan
    few = precision_change(fast, plain, stamps, parallaxes, mean + off)
    assert few == pytest.approx(precision_change(fast, plain, stamps, parallaxes)), "too few to tell an error"


def test_with_bf16_a_batch_of_another_size_changes_no_more_than_the_rounding_does(stamps, parallaxes):
    one, other = (of_size(size, precision="bf16").estimate(stamps, *parallaxes)[0] for size in (7, 64))
    assert np.abs(relative(one - other, of_size(7))).max() < 0.01


def test_the_precision_that_is_left_open_follows_the_device(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    for has, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        assert of_size(4, precision="auto").about == {"device": "cpu", "precision": precision}


def test_a_file_is_loaded_once_and_only_if_it_is_the_same(tmp_path):
    file = save_tiny(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: load_predictor((file,), SETTINGS, threads=1), range(4)))
    assert all(each is loaded[0] for each in loaded)
    with pytest.raises(ModelError, match="not the one that was asked for"):
        load_predictor(((file[0], "0" * 64),), SETTINGS, threads=1)
    file[0].write_bytes(file[0].read_bytes()[:500])
    assert load_predictor((file,), SETTINGS, threads=1) is loaded[0], "what is in memory stays"
    with pytest.raises(ModelError, match="not the one that was asked for"):
        load_predictor((file,), SETTINGS.model_copy(update={"samples": 5}), threads=1)


def test_threads_that_predict_together_get_their_own_numbers(predictor, stamps, parallaxes):
    expected = [predictor.estimate(stamps[i:], *(each[i:] for each in parallaxes))[0] for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda i: predictor.estimate(stamps[i:], *(each[i:] for each in parallaxes))[0], range(8))
        )
    assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))


def test_without_a_gpu_it_is_said_once(caplog, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    image_passes.say_no_gpu.cache_clear()
    with caplog.at_level(logging.WARNING):
        of_size(4)
        of_size(8)
    assert [record.message for record in caplog.records] == ["torch finds no GPU: networks on images run on the CPU"]


def test_a_gpu_gives_the_numbers_of_the_cpu(stamps, parallaxes, monkeypatch):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    found = of_size(16)
    assert found.about["device"] == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expected = of_size(16).estimate(stamps, *parallaxes)
    for one, other in zip(expected, found.estimate(stamps, *parallaxes), strict=True):
        assert np.abs(relative(one - other, found)).max() < 1e-3
