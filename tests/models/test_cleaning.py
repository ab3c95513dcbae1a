"""Clustering of a bin: what eps means, masked pixels, outliers, the largest cluster and its best members."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from reference.cool_spectra import GRID, SMALL, observed, spectra

from stellarscale.kernels.fluxes import medians, scaled, weighted
from stellarscale.models.cleaning import OUTLIER, cluster_bin, min_points, noise_distances, spectral_distances
from stellarscale.settings.cleaning import Clustering, NetworkCleaning, Recalibration, SampleCleaning

STAR = np.array([[3525.0, 4.75, -0.35]])


def copies(n, snr, *, seed=0, grid=SMALL, masked=0.0, flux=None):
    """Noisy copies of one spectrum, unit median flux."""
    rng = np.random.default_rng(seed)
    clean = spectra(STAR, grid) if flux is None else flux
    flux, ivar = weighted(*observed(np.repeat(clean, n, axis=0), np.broadcast_to(snr, n), rng, masked=masked))
    return scaled(flux, ivar, medians(flux, ivar))


def plain_distance(a, b, a_ivar, b_ivar):
    both = (a_ivar > 0) & (b_ivar > 0)
    return np.sqrt(len(a) / both.sum() * sum((float(x) - float(y)) ** 2 for x, y in zip(a[both], b[both], strict=True)))


@pytest.mark.parametrize("snr", [20.0, 84.0, 300.0])
def test_two_noisy_copies_are_root_of_twice_the_pixels_over_snr_apart(snr):
    flux, ivar = copies(30, snr, grid=GRID)
    expected = np.sqrt(2.0 * GRID.n_pix) / snr
    distance = spectral_distances(flux, ivar)[np.triu_indices(30, 1)]
    # The median, which is the unit, has noise of its own; at high S/N few pixels lie near it.
    assert np.median(distance) == pytest.approx(expected, rel=0.02 if snr < 100 else 0.07)
    np.testing.assert_allclose(noise_distances(ivar), expected, rtol=0.02)


@pytest.mark.parametrize("snr, joined", [(70.0, False), (100.0, True)])
def test_an_eps_of_one_joins_equal_spectra_above_a_snr_of_84_only(snr, joined):
    flux, ivar = copies(10, snr, grid=GRID)
    clusters = cluster_bin(flux, ivar, np.full(10, snr), Clustering())
    assert clusters.largest.all() if joined else not clusters.largest.any()
    assert cluster_bin(flux, ivar, np.full(10, snr), Clustering(eps=2.0)).largest.all()


def test_without_its_noise_an_eps_of_one_joins_equal_spectra_of_any_snr_and_no_others():
    same, other = copies(10, 30.0, grid=GRID), copies(10, 30.0, grid=GRID, flux=spectra([[3575.0, 4.75, -0.35]], GRID))
    flux, ivar = (np.concatenate(each) for each in zip(same, other, strict=True))
    settings = Clustering(noise="subtracted")
    clusters = cluster_bin(flux, ivar, np.arange(20.0), settings)
    assert clusters.cluster.tolist() == [0] * 10 + [1] * 10
    assert (clusters.nearest < 1.0).all()
    assert (clusters.noise > 2.5).all()


def test_distances_are_those_of_a_plain_loop_over_shared_pixels():
    flux, ivar = copies(6, 50.0, masked=0.2)
    distance = spectral_distances(flux, ivar)
    for i in range(6):
        for j in range(6):
            assert distance[i, j] == pytest.approx(plain_distance(flux[i], flux[j], ivar[i], ivar[j]), abs=1e-5)


def test_masks_change_neither_distances_nor_noise_on_average():
    whole, holes = (copies(30, 100.0, masked=masked, seed=1) for masked in (0.0, 0.2))
    pairs = np.triu_indices(30, 1)
    middle = [np.median(spectral_distances(*each)[pairs]) for each in (whole, holes)]
    assert middle[1] == pytest.approx(middle[0], rel=0.03)
    assert np.median(noise_distances(holes[1])) == pytest.approx(np.median(noise_distances(whole[1])), rel=0.03)


def test_a_masked_stretch_does_not_part_equal_spectra():
    rng = np.random.default_rng(8)
    flux, ivar = observed(np.repeat(spectra(STAR, GRID), 8, axis=0), np.full(8, 150.0), rng)
    for row, start in enumerate(range(0, 3200, 400)):
        ivar[row, start : start + 150] = 0.0
    flux, ivar = weighted(flux, ivar)
    clusters = cluster_bin(*scaled(flux, ivar, medians(flux, ivar)), np.full(8, 150.0), Clustering())
    assert clusters.largest.all()


def test_spectra_that_share_too_few_pixels_are_out_of_reach():
    flux, ivar = copies(3, 200.0)
    half = SMALL.n_pix // 2
    flux[0, :half], ivar[0, :half] = 0.0, 0.0
    flux[1, half:], ivar[1, half:] = 0.0, 0.0
    clusters = cluster_bin(flux, ivar, np.full(3, 200.0), Clustering())
    assert spectral_distances(flux, ivar)[0, 1] > 1e20
    assert np.isinf(cluster_bin(flux[:2], ivar[:2], np.ones(2), Clustering()).nearest).all()
    assert np.isfinite(clusters.nearest).any()


def test_wrong_labels_bad_flux_and_noise_are_outliers():
    other, _ = copies(1, 300.0, flux=spectra([[3700.0, 4.75, -0.35]]))
    flux, ivar = copies(20, 150.0, seed=2)
    flux[3] = other[0]
    flux[8] *= 1.0 + 0.3 * np.sin(np.arange(SMALL.n_pix) / 20.0)
    noisy, noisy_ivar = copies(1, 12.0, seed=3)
    flux[15], ivar[15] = noisy[0], noisy_ivar[0]
    clusters = cluster_bin(flux, ivar, np.full(20, 150.0), Clustering(eps=0.4))
    assert np.flatnonzero(clusters.cluster == OUTLIER).tolist() == [3, 8, 15]
    assert clusters.largest.sum() == 17
    assert (clusters.nearest[[3, 8, 15]] > 0.4).all()


def test_the_largest_cluster_counts_and_its_best_seven_are_kept():
    first, first_ivar = copies(9, 200.0, seed=4)
    second, second_ivar = copies(12, 200.0, seed=5, flux=spectra([[3800.0, 4.75, -0.35]]))
    flux, ivar = np.concatenate([first, second]), np.concatenate([first_ivar, second_ivar])
    snr = np.arange(21.0)[::-1].copy()
    snr[20] = np.nan
    clusters = cluster_bin(flux, ivar, snr, Clustering())
    assert np.flatnonzero(clusters.largest).tolist() == list(range(9, 21))
    assert np.flatnonzero(clusters.chosen).tolist() == list(range(9, 16))
    assert cluster_bin(flux, ivar, snr, Clustering(most=20)).chosen.sum() == 12


def test_of_two_equal_clusters_the_better_one_counts():
    first, second = copies(4, 200.0, seed=6), copies(4, 200.0, seed=7, flux=spectra([[3800.0, 4.75, -0.35]]))
    flux, ivar = (np.concatenate(each) for each in zip(first, second, strict=True))
    for better in (0, 1):
        snr = np.repeat([100.0, 50.0] if better == 0 else [50.0, 100.0], 4)
        assert cluster_bin(flux, ivar, snr, Clustering()).largest.tolist() == [better == 0] * 4 + [better == 1] * 4


def test_one_spectrum_makes_no_cluster():
    flux, ivar = copies(1, 100.0)
    clusters = cluster_bin(flux, ivar, np.array([100.0]), Clustering())
    assert clusters.cluster.tolist() == [OUTLIER]
    assert not clusters.chosen.any()
    assert np.isinf(clusters.nearest).all()


def test_min_points_grow_with_the_population():
    populations = [1, 2, 5, 6, 15, 16, 40, 41, 150]
    assert [min_points(n, Clustering()) for n in populations] == [2, 2, 2, 3, 3, 4, 4, 5, 5]


@pytest.mark.parametrize(
    "step, wrong",
    [
        (Clustering, {"wave_aa": (8800.0, 3900.0)}),
        (NetworkCleaning, {"limits": (100.0, 0.2, 0.0)}),
        (NetworkCleaning, {"hidden": (512, 0)}),
        (Recalibration, {"label_scales": (100.0, -0.5, 0.5)}),
        (SampleCleaning, {"sead": 1}),
    ],
)
def test_settings_that_mean_nothing_are_refused(step, wrong):
    with pytest.raises(ValidationError):
        step(**wrong)


@pytest.mark.parametrize("steps", [((2, 2),), ((0, 2), (0, 3)), ((0, 2), (9, 3), (6, 4)), ((0, 1),)])
def test_min_points_that_leave_a_population_open_are_refused(steps):
    with pytest.raises(ValidationError):
        Clustering(min_points=steps)
