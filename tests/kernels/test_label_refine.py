"""Refined labels: pieces against plain loops, recovery on mock spectra, noise, masks and bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.refine_loop import predict_one, scores_of_one

from stellarscale.kernels.components import find_components, likeliest_scores
from stellarscale.kernels.flatten import flatten
from stellarscale.kernels.gaussian_process import fit_process, predict
from stellarscale.kernels.label_refine import RefineConfig, prepare_refiner, refine
from stellarscale.kernels.template_match import match_spectra, prepare

N_PIX = 300
X = np.linspace(-1, 1, N_PIX)


def mock(n, seed):
    """Spectra with lines whose depths depend on three labels."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform([3000, 4.0, -1.0], [4000, 5.2, 0.5], (n, 3))
    hot, high, rich = ((labels - [3500, 4.6, -0.25]) / [500, 0.6, 0.75]).T[:, :, None]
    lines = np.exp(-0.5 * ((X - np.linspace(-0.9, 0.9, 12)[:, None]) / 0.02) ** 2)
    depth = (
        0.3
        + 0.1 * hot * np.cos(np.arange(12))
        + 0.1 * high * np.sin(np.arange(12))
        + 0.05 * rich * (-1) ** np.arange(12)
    )
    depth = depth + 0.05 * hot**2 * np.cos(2 * np.arange(12))
    return (1.0 + 0.2 * hot * X) * (1.0 - depth @ lines), labels


def observed(spectra, snr, seed=0):
    rng = np.random.default_rng(seed)
    noisy = (spectra + rng.normal(0, 1 / snr, spectra.shape)).astype(np.float32)
    return noisy, np.full(spectra.shape, snr**2, np.float32)


def errors(order, snr, spoil=None, scale=1.0):
    flux, labels = mock(150, 1)
    target, truth = mock(60, 2)
    noisy, ivar = observed(target, snr)
    if spoil is not None:
        spoil(noisy, ivar)
    noisy, ivar = (noisy * scale).astype(np.float32), (ivar / scale**2).astype(np.float32)
    reference = flux.astype(np.float32)
    matches = match_spectra(noisy, ivar, prepare(reference, order=order))
    refined = refine(noisy, ivar, matches, prepare_refiner(reference, labels, order=order, config=RefineConfig(12)))
    plain = np.einsum("nk,nkc->nc", matches.weights, labels[matches.index])
    unit = [500, 0.6, 0.75]
    return (
        np.sqrt(np.mean(((refined.labels - truth) / unit) ** 2)),
        np.sqrt(np.mean(((plain - truth) / unit) ** 2)),
        refined,
    )


@pytest.mark.parametrize("order", [0, 2])
def test_refined_labels_beat_the_average_of_neighbours(order):
    refined, plain, result = errors(order, 200.0)
    assert refined < 0.7 * plain
    assert np.all(np.isfinite(result.spread))
    assert np.all(result.spread > 0)


@pytest.mark.parametrize("snr", [5.0, 20.0])
def test_noise_leaves_them_no_worse(snr):
    refined, plain, _ = errors(0, snr)
    assert refined < 1.05 * plain


def test_masked_pixels_hold_anything():
    def garbage(flux, ivar):
        flux[:, 40:60], ivar[:, 40:60] = np.nan, 0.0
        flux[:, 100:110], ivar[:, 100:110] = 1e6, 0.0

    masked, plain, result = errors(0, 200.0, garbage)
    assert masked < 0.8 * plain
    assert np.all(np.isfinite(result.labels))


def test_the_unit_of_flux_does_not_matter():
    assert errors(2, 50.0, scale=1e-3)[0] == pytest.approx(errors(2, 50.0)[0], rel=1e-2)


def test_a_spectrum_without_a_match_has_no_labels():
    flux, labels = mock(60, 1)
    reference = flux.astype(np.float32)
    noisy, ivar = observed(flux[:3], 50.0)
    matches = match_spectra(noisy, ivar, prepare(reference, order=0))
    index, weights = matches.index.copy(), matches.weights.copy()
    index[1], weights[1] = -1, np.nan
    refiner = prepare_refiner(reference, labels, order=0, config=RefineConfig(8))
    result = refine(noisy, ivar, replace(matches, index=index, weights=weights), refiner)
    assert np.isnan(result.labels[1]).all()
    assert np.isnan(result.spread[1]).all()
    assert np.isfinite(result.labels[[0, 2]]).all()


def test_labels_stay_within_those_of_the_references():
    flux, labels = mock(80, 1)
    reference = flux.astype(np.float32)
    odd = np.where(X > 0, 3.0, 0.1)[None].astype(np.float32)
    ivar = np.full(odd.shape, 1e6, np.float32)
    matches = match_spectra(odd, ivar, prepare(reference, order=0))
    found = refine(odd, ivar, matches, prepare_refiner(reference, labels, order=0, config=RefineConfig(8))).labels
    assert np.all(found >= labels.min(axis=0))
    assert np.all(found <= labels.max(axis=0))


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_scores_equal_those_of_a_plain_loop(seed, k):
    rng = np.random.default_rng(seed)
    components, _ = find_components(rng.normal(size=(12, 30)), k)
    residual = rng.normal(size=(3, 30)).astype(np.float32)
    weight = (rng.random((3, 30)) * (rng.random((3, 30)) > 0.3)).astype(np.float32)
    root = rng.normal(size=(k, k))
    precision = root @ root.T + np.eye(k)
    found = likeliest_scores(residual, weight, components, precision)
    for s in range(3):
        plain = scores_of_one(residual[s], weight[s], components.vectors, precision)
        assert found[s] == pytest.approx(plain, rel=1e-3, abs=1e-4)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_predictions_equal_those_of_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(30, 3))
    process = fit_process(points - points.mean(axis=0), rng.normal(size=(30, 2)))
    inputs = rng.normal(size=(4, 3))
    values, spread = predict(process, inputs)
    for s in range(4):
        assert values[s] == pytest.approx(predict_one(process, inputs[s]), rel=1e-3, abs=2e-3)
    assert np.all(spread >= 0)


def test_a_wrong_label_bends_its_neighbours_little():
    points = np.linspace(-1, 1, 60)[:, None]
    values = points.copy()
    values[30] += 20.0
    found, _ = predict(fit_process(points, values), points[[25, 30, 35]])
    assert found == pytest.approx(points[[25, 30, 35]], abs=0.2)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_flattening_takes_the_scale_off(order):
    spectra, _ = mock(5, 3)
    scale = np.exp(sum(c * X**i for i, c in enumerate([2.0, 0.5, -0.3][: order + 1])))
    assert flatten(spectra * scale, order=order) == pytest.approx(flatten(spectra, order=order), rel=5e-3)
    assert flatten(spectra, order=order).mean(axis=1) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda flux, labels: (flux[:10], labels[:10]), "too few"),
        (lambda flux, labels: (flux, labels[:-1]), "do not belong together"),
        (lambda flux, labels: (flux, np.where(labels == labels[3, 1], np.nan, labels)), "reference 3"),
        (lambda flux, labels: (flux, -labels), "no logarithm"),
        (lambda flux, labels: (-flux, labels), "no positive mean"),
        (lambda flux, labels: (flux * np.nan, labels), "finite"),
    ],
)
def test_bad_references_are_refused(change, message):
    flux, labels = mock(40, 1)
    with pytest.raises(ValueError, match=message):
        prepare_refiner(*change(flux, labels), order=0)
