"""The label network: learns smooth labels, drops wrong ones wherever they are, is the same for the same seed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from reference.cool_spectra import SMALL, labels_of, observed, spectra

from stellarscale.errors import ModelError
from stellarscale.kernels.fluxes import medians, scaled, weighted
from stellarscale.models.label_network import LabelNetwork, clean_by_network
from stellarscale.settings.cleaning import NetworkCleaning

QUICK = NetworkCleaning(iterations=600, hidden=(64, 32), batch_size=64, learning_rate=3e-3)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def sample(n, *, snr=80.0, seed=0, masked=0.02):
    """Spectra from 6000 Angstrom on, unit median flux, with their labels."""
    rng = np.random.default_rng(seed)
    labels = labels_of(n, rng)
    window = SMALL.window(6000.0, 8800.0)
    flux, ivar = weighted(*observed(spectra(labels)[:, window], np.full(n, snr), rng, masked=masked))
    return *scaled(flux, ivar, medians(flux, ivar)), labels


@needs_torch
def test_wrong_labels_are_dropped_and_the_rest_kept():
    flux, ivar, labels = sample(600)
    wrong = np.array([5, 77, 140, 201, 333, 402, 555])
    labels[wrong[:4], 0] += np.where(labels[wrong[:4], 0] > 3600, -350.0, 350.0)
    labels[wrong[4:6], 1] += np.where(labels[wrong[4:6], 1] > 4.8, -0.5, 0.5)
    labels[wrong[6], 2] += 0.7 if labels[wrong[6], 2] < 0 else -0.7
    verdict = clean_by_network(flux, ivar, labels, QUICK, seed=1)
    dropped = np.flatnonzero(~verdict.kept)
    assert set(wrong) <= set(dropped)
    assert len(dropped) <= len(wrong) + 6
    last = verdict.sessions[-1]
    sigma = np.std((last.predicted - labels[last.rows])[last.test & ~last.outlier], axis=0)
    assert (sigma < [40.0, 0.08, 0.08]).all()
    assert last.outlier.sum() <= 2


@needs_torch
def test_every_star_is_held_out_once_in_five_sessions():
    flux, ivar, labels = sample(100)
    settings = QUICK.model_copy(update={"iterations": 60, "limits": (1e9, 1e9, 1e9)})
    verdict = clean_by_network(flux, ivar, labels, settings, seed=2)
    tested = np.zeros(100, dtype=int)
    for session in verdict.sessions:
        assert session.test.sum() == 20
        tested[session.rows[session.test]] += 1
    assert (tested == 1).all()
    assert verdict.kept.all()


@needs_torch
def test_dropped_stars_take_no_part_in_later_sessions():
    flux, ivar, labels = sample(200)
    labels[10, 0] = 8000.0
    verdict = clean_by_network(flux, ivar, labels, QUICK.model_copy(update={"sessions": 3}), seed=3)
    gone = np.zeros(200, dtype=bool)
    for session in verdict.sessions:
        assert not gone[session.rows].any()
        gone[session.rows[session.outlier]] = True
    np.testing.assert_array_equal(gone, ~verdict.kept)
    assert gone[10]


@needs_torch
def test_the_seed_decides_everything():
    flux, ivar, labels = sample(120)
    settings = QUICK.model_copy(update={"iterations": 80, "sessions": 2, "most_dropped": 1.0})
    settings = settings.model_copy(update={"limits": (300.0, 0.5, 0.5)})
    first, again, other = (clean_by_network(flux, ivar, labels, settings, seed=seed) for seed in (4, 4, 5))
    for one, two in zip(first.sessions, again.sessions, strict=True):
        np.testing.assert_array_equal(one.predicted, two.predicted)
        np.testing.assert_array_equal(one.curve, two.curve)
    assert not np.array_equal(first.sessions[0].test, other.sessions[0].test)


@needs_torch
def test_the_curve_is_sampled_and_falls():
    flux, ivar, labels = sample(300)
    settings = QUICK.model_copy(update={"iterations": 450})
    network = LabelNetwork(settings, seed=6)
    network.fit(flux[:240], ivar[:240], labels[:240], check=(flux[240:], ivar[240:], labels[240:]))
    assert network.curve[:, 0].tolist() == [100, 200, 300, 400, 450]
    assert (network.curve[-1, 1:] < 0.5 * network.curve[0, 1:]).all()


@needs_torch
def test_pixels_without_weight_say_nothing():
    flux, ivar, labels = sample(200, masked=0.1)
    settings = QUICK.model_copy(update={"iterations": 100})
    wild = np.where(ivar > 0, flux, np.float32(1e6))
    results = []
    for values in (flux, wild):
        network = LabelNetwork(settings, seed=7).fit(values, ivar, labels, check=(values, ivar, labels))
        results.append(network.predict(values, ivar))
    np.testing.assert_array_equal(*results)


@needs_torch
def test_a_network_that_learns_nothing_is_no_judge():
    flux, ivar, labels = sample(200)
    shuffled = np.random.default_rng(8).permutation(labels)
    with pytest.raises(ModelError, match="does not learn the labels well enough"):
        clean_by_network(flux, ivar, shuffled, QUICK.model_copy(update={"iterations": 50}), seed=9)


@needs_torch
def test_too_few_stars_are_refused():
    flux, ivar, labels = sample(40)
    with pytest.raises(ModelError, match="too few stars"):
        clean_by_network(flux, ivar, labels, QUICK, seed=0)


def test_without_torch_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    flux, ivar, labels = sample(60)
    with pytest.raises(ModelError, match=r"stellarscale\[images\]"):
        clean_by_network(flux, ivar, labels, QUICK, seed=0)
