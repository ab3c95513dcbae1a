"""Draws of a training: orientations, splits, orders and masks depend on the star alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.models.image_augment import (
    epoch_order,
    keep_masks,
    orientations,
    split_of,
    star_draws,
    turned,
)


def turned_by_loops(stamp: np.ndarray, which: int) -> np.ndarray:
    """One stamp, pixel by pixel: columns reversed first, then quarter turns against the clock."""
    result = stamp.copy()
    size = stamp.shape[-1]
    if which >= 4:
        for column in range(size):
            result[:, :, column] = stamp[:, :, size - 1 - column]
    for _ in range(which % 4):
        before = result.copy()
        for row in range(size):
            for column in range(size):
                result[:, row, column] = before[:, column, size - 1 - row]
    return result


@given(st.lists(st.integers(0, 7), min_size=1, max_size=12), st.integers(2, 7))
def test_stamps_are_turned_as_pixel_by_pixel(which, size):
    stamps = np.random.default_rng(0).normal(size=(len(which), 2, size, size)).astype(np.float16)
    stamps[0, 0, 0, 0] = np.nan
    result = turned(stamps, np.array(which))
    assert result.dtype == stamps.dtype
    for stamp, orientation, found in zip(stamps, which, result, strict=True):
        np.testing.assert_array_equal(found, turned_by_loops(stamp, orientation))


def test_the_eight_orientations_differ():
    stamp = np.arange(9.0).reshape(1, 1, 3, 3)
    results = turned(np.repeat(stamp, 8, axis=0), np.arange(8))
    assert len({result.tobytes() for result in results}) == 8
    np.testing.assert_array_equal(results[0], stamp[0])


def test_orientations_are_even_and_the_stars_own():
    rows = np.arange(40_000)
    drawn = orientations(3, 7, rows)
    np.testing.assert_allclose(np.bincount(drawn, minlength=8) / 5000, 1.0, atol=0.06)
    some = np.random.default_rng(0).permutation(rows)[:100]
    np.testing.assert_array_equal(orientations(3, 7, some), drawn[some])
    assert (orientations(3, 8, rows) != drawn).mean() > 0.8
    assert (orientations(4, 7, rows) != drawn).mean() > 0.8


def test_draws_of_neighbouring_ids_are_unrelated():
    uniform = star_draws(5, np.arange(100_000)) / 2.0**64
    assert abs(uniform.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(uniform[:-1], uniform[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(uniform, star_draws(6, np.arange(100_000)) / 2.0**64)[0, 1]) < 0.02


def test_shares_of_the_split_are_kept():
    ids = np.arange(-50_000, 50_000) * 977
    parts = split_of(ids, (0.8, 0.15, 0.05), seed=1)
    np.testing.assert_allclose(np.bincount(parts) / len(ids), [0.8, 0.15, 0.05], atol=0.006)
    np.testing.assert_array_equal(split_of(ids[::-7], (0.8, 0.15, 0.05), seed=1), parts[::-7])
    assert split_of(ids, (1.0, 0.0, 0.0), seed=1).max() == 0
    # A star that trains goes on training when the share of the training grows.
    larger = split_of(ids, (0.9, 0.1, 0.0), seed=1)
    assert (larger[parts == 0] == 0).all()


def test_an_epoch_has_every_star_once():
    rows = np.array([3, 9, 4, 1])
    first = epoch_order(1, 0, rows)
    assert sorted(first) == sorted(rows)
    np.testing.assert_array_equal(first, epoch_order(1, 0, rows))
    many = np.arange(100)
    assert (epoch_order(1, 0, many) != epoch_order(1, 1, many)).any()


def test_masks_keep_their_share():
    masks = keep_masks(1, 5, 300, widths=(640, 256, 64), rate=0.2)
    assert [mask.shape for mask in masks] == [(300, 640), (300, 256), (300, 64)]
    assert abs(masks[0].mean() - 0.8) < 0.01
    again = keep_masks(1, 5, 300, widths=(640, 256, 64), rate=0.2)
    assert all((a == b).all() for a, b in zip(masks, again, strict=True))
    assert (keep_masks(1, 6, 300, widths=(640,), rate=0.2)[0] != masks[0]).any()
