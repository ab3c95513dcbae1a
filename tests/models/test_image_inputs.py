"""Standardised stamps, parallaxes and labels."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.errors import ModelError
from stellarscale.models.image_inputs import ImageScaling, standard_parallax, standard_stamps, standard_tensor
from stellarscale.settings.image_network import Head, ImageNetwork

LINEAR, LOG = Head(), Head(parallax_input="log")


def network(head=LINEAR, parallax=True):
    return ImageNetwork(head=head, parallax=parallax)


def sample(n=300, bands=2, seed=0):
    rng = np.random.default_rng(seed)
    stamps = (rng.normal(size=(n, bands, 6, 6)) * [[[2.0]], [[0.5]]] + [[[1.0]], [[-3.0]]]).astype(np.float16)
    parallax = np.column_stack([rng.uniform(0.5, 5, n), rng.uniform(0.01, 0.1, n)])
    labels = np.column_stack([rng.normal(5500, 600, n), rng.normal(4, 0.5, n)])
    return stamps, parallax, labels


def test_bands_labels_and_parallaxes_become_alike():
    stamps, parallax, labels = sample()
    scaling = ImageScaling.of(stamps, parallax, labels, network())
    standard = standard_stamps(stamps, scaling)
    assert standard.dtype == np.float32
    np.testing.assert_allclose(standard.mean(axis=(0, 2, 3)), 0.0, atol=0.01)
    np.testing.assert_allclose(standard.std(axis=(0, 2, 3)), 1.0, rtol=0.01)
    distance = standard_parallax(parallax[:, 0], parallax[:, 1], scaling, LINEAR)
    np.testing.assert_allclose(distance.std(axis=0), 1.0, rtol=0.01)
    learned = scaling.standard_labels(labels)
    np.testing.assert_allclose(learned.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(scaling.restore_labels(learned), labels, rtol=1e-6)
    np.testing.assert_allclose(scaling.restore_spread(np.ones(2)), scaling.label_std)


def test_a_missing_pixel_is_the_mean_and_spoils_no_scaling():
    stamps, parallax, labels = sample()
    holes = stamps.copy()
    holes[::7, 0, :2] = np.nan
    scaling = ImageScaling.of(holes, parallax, labels, network())
    whole = ImageScaling.of(stamps, parallax, labels, network())
    np.testing.assert_allclose(scaling.band_mean, whole.band_mean, atol=0.05)
    standard = standard_stamps(holes, scaling)
    assert (standard[::7, 0, :2] == 0).all()
    assert (standard[1:7] == standard_stamps(stamps, scaling)[1:7]).all()
    assert np.isnan(holes[0, 0, 0, 0]), "the stored stamps stay as they are"


def test_a_few_wild_pixels_and_parallaxes_do_not_decide():
    stamps, parallax, labels = sample()
    stamps = stamps.astype(np.float32)
    wild, strange = stamps.copy(), parallax.copy()
    wild[0, 0, 0, :3] = 1e6
    whole = ImageScaling.of(stamps, parallax, labels, network())
    scaling = ImageScaling.of(wild, strange, labels, network())
    np.testing.assert_allclose(scaling.band_std, whole.band_std, rtol=0.01)


def test_no_more_than_two_thousand_stamps_are_looked_at():
    class Counting(np.ndarray):
        taken: list[int] = []  # noqa: RUF012

        def __getitem__(self, key):
            result = super().__getitem__(key)
            if isinstance(key, slice):
                Counting.taken.append(len(result))
            return result

    stamps = np.random.default_rng(0).normal(size=(4100, 1, 2, 2)).view(Counting)
    ImageScaling.of(stamps, None, np.arange(4100.0)[:, None], network(parallax=False))
    assert max(Counting.taken[:1]) == 1367


def test_the_same_on_tensors():
    torch = pytest.importorskip("torch")
    stamps, parallax, labels = sample()
    stamps[0, 1, 2] = np.nan
    scaling = ImageScaling.of(stamps, parallax, labels, network())
    tensor = standard_tensor(torch.from_numpy(stamps), scaling)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), standard_stamps(stamps, scaling), rtol=0, atol=1e-6)


def bands_alike(n=300, seed=1):
    """Three bands with the same brightness and small colours, one of them the sum of the others."""
    rng = np.random.default_rng(seed)
    brightness = rng.normal(size=(n, 1, 6, 6)) * 3.0
    colours = rng.normal(size=(n, 2, 6, 6)) * [[[0.05]], [[0.1]]]
    two = brightness + colours + [[[4.0]], [[-1.0]]]
    return np.concatenate([two, two.mean(axis=1, keepdims=True)], axis=1)


def test_components_have_variance_one_and_are_uncorrelated():
    stamps, (_, parallax, labels) = bands_alike()[:, :2], sample()
    scaling = ImageScaling.of(stamps, parallax, labels, network().model_copy(update={"bands": "components"}))
    pixels = standard_stamps(stamps, scaling).transpose(1, 0, 2, 3).reshape(2, -1)
    np.testing.assert_allclose(np.cov(pixels), np.eye(2), atol=0.01)
    first, second = np.array(scaling.components)
    assert (first > 0).all(), "brightness first"
    assert np.abs(second).max() > 10 * first.max(), "the colour is amplified"
    whole = ImageScaling.of(stamps, parallax, labels, network())
    assert whole.components is None
    assert (whole.band_mean, whole.band_std) == (scaling.band_mean, scaling.band_std)


def test_components_of_bands_that_depend_on_each_other_stay_finite():
    stamps, (_, parallax, labels) = bands_alike(), sample()
    scaling = ImageScaling.of(stamps, parallax, labels, network().model_copy(update={"bands": "components"}))
    seen = standard_stamps(stamps, scaling)
    assert np.isfinite(seen).all()
    assert np.abs(seen).max() < 20


def test_components_on_tensors_and_with_missing_pixels():
    torch = pytest.importorskip("torch")
    stamps, (_, parallax, labels) = bands_alike()[:, :2], sample()
    stamps[0, 1, 2] = np.nan
    stamps[3] = np.nan
    scaling = ImageScaling.of(stamps, parallax, labels, network().model_copy(update={"bands": "components"}))
    wanted = standard_stamps(stamps, scaling)
    assert (wanted[3] == 0).all(), "nothing is known: the mean of all"
    known = (stamps[0, 0, 2] - scaling.band_mean[0]) / scaling.band_std[0]
    alike = np.array(scaling.components).sum(axis=1)[:, None] * known
    np.testing.assert_allclose(wanted[0, :, 2], alike, rtol=0, atol=2e-5)
    assert np.abs(wanted[0, 1, 2]).max() < 5, "the band that is missing is as the other one, and makes no colour"
    seen = standard_tensor(torch.from_numpy(stamps), scaling)
    np.testing.assert_allclose(seen.numpy(), wanted, rtol=0, atol=2e-5)
    # A star's pixels do not depend on which others are with it.
    alone = standard_tensor(torch.from_numpy(stamps[7:8]), scaling)
    assert torch.equal(alone[0], seen[7])


def test_logarithms_of_parallax_and_relative_error():
    stamps, parallax, labels = sample()
    scaling = ImageScaling.of(stamps, parallax, labels, network(LOG))
    raw = np.column_stack([np.log10(parallax[:, 0]), np.log10(parallax[:, 1] / parallax[:, 0])])
    seen = standard_parallax(parallax[:, 0], parallax[:, 1], scaling, LOG)
    np.testing.assert_allclose(seen, (raw - scaling.parallax_mean) / scaling.parallax_std, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("head", "parallax", "error", "usable"),
    [
        (LINEAR, -0.5, 0.1, True),
        (LINEAR, np.nan, 0.1, False),
        (LINEAR, 1.0, np.nan, False),
        (LINEAR, 1.0, 0.0, False),
        (LINEAR, np.inf, 0.1, False),
        (LOG, -0.5, 0.1, False),
        (LOG, 0.0, 0.1, False),
        (LOG, 1.0, -1.0, False),
        (LOG, 1.0, 0.1, True),
    ],
)
def test_unusable_parallaxes_are_missing_not_numbers(head, parallax, error, usable):
    scaling = ImageScaling.of(*sample(), network(head))
    seen = standard_parallax(np.array([parallax, 1.0]), np.array([error, 0.1]), scaling, head)
    assert np.isfinite(seen[0]).all() == usable
    assert np.isnan(seen[0]).all() != usable
    assert np.isfinite(seen[1]).all()


def test_what_cannot_be_scaled_is_refused():
    stamps, parallax, labels = sample()
    missing = labels.copy()
    missing[:3, 1] = np.nan
    with pytest.raises(ModelError, match=r"without labels.*3 of 300"):
        ImageScaling.of(stamps, parallax, missing, network())
    empty = stamps.copy()
    empty[:, 1] = np.nan
    with pytest.raises(ModelError, match="band 1"):
        ImageScaling.of(empty, parallax, labels, network())
    with pytest.raises(ModelError, match="needs parallaxes"):
        ImageScaling.of(stamps, None, labels, network())
    with pytest.raises(ModelError, match="no training star has the parallax"):
        ImageScaling.of(stamps, np.full((300, 2), np.nan), labels, network())


def test_a_label_or_band_that_does_not_vary_is_only_shifted():
    stamps, parallax, labels = sample()
    stamps[:, 1] = 4.0
    labels[:, 0] = 5000.0
    scaling = ImageScaling.of(stamps, parallax, labels, network())
    assert scaling.band_std[1] == 1.0
    assert (standard_stamps(stamps, scaling)[:, 1] == 0).all()
    assert (scaling.standard_labels(labels)[:, 0] == 0).all()


def test_a_network_without_parallax_scales_none():
    stamps, _, labels = sample()
    scaling = ImageScaling.of(stamps, None, labels, network(parallax=False))
    assert scaling.parallax_mean == (0.0, 0.0)
    assert scaling.parallax_std == (1.0, 1.0)
