"""Parameter bins: edges belong to the bin above, missing labels to none, ranks fall with S/N."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.kernels.parameter_bins import parameter_bins, rank_in_bin

STEPS = (50.0, 0.1, 0.1)


def test_edges_belong_to_the_bin_above_also_in_single_precision():
    teff, tenths = np.arange(3000, 4000, 50), np.arange(-10, 60) / 10
    for kind in (np.float32, np.float64):
        labels = np.column_stack(
            [np.resize(teff, 70), tenths, tenths[::-1]],
        ).astype(kind)
        bins = parameter_bins(labels, STEPS)
        lower = bins.lower[bins.number]
        np.testing.assert_allclose(lower, labels, atol=1e-4)


def test_bins_hold_what_lies_between_their_edges_and_every_row_is_in_one():
    rng = np.random.default_rng(1)
    labels = np.column_stack([rng.uniform(3000, 4000, 5000), rng.uniform(4.4, 5.2, 5000), rng.uniform(-0.6, 0.6, 5000)])
    bins = parameter_bins(labels, STEPS)
    above = labels - bins.lower[bins.number]
    assert (above >= -1e-4 * np.array(STEPS)).all()
    assert (above < np.array(STEPS)).all()
    assert bins.population.sum() == 5000
    assert (bins.population > 0).all()
    assert [len(bins.rows(number)) for number in range(10)] == bins.population[:10].tolist()
    assert (np.diff(bins.lower[:, 0]) >= 0).all()


def test_rows_without_a_label_are_in_no_bin():
    bins = parameter_bins(np.array([[3510.0, 4.75, np.nan], [3510.0, 4.75, -0.35], [np.inf, 4.7, 0.0]]), STEPS)
    assert bins.number.tolist() == [-1, 0, -1]
    np.testing.assert_allclose(bins.lower, [[3500.0, 4.7, -0.4]])
    assert len(parameter_bins(np.empty((0, 3)), STEPS).lower) == 0


@pytest.mark.parametrize("steps", [(50.0, 0.1), (50.0, 0.1, 0.0), (50.0, 0.1, -0.1)])
def test_steps_that_make_no_bins_are_refused(steps):
    with pytest.raises(ValueError, match="positive steps"):
        parameter_bins(np.zeros((2, 3)), steps)


@given(st.lists(st.tuples(st.integers(-1, 4), st.sampled_from([1.0, 2.0, 2.5, 30.0, np.nan])), max_size=40))
def test_ranks_are_those_of_a_plain_sort(rows):
    number = np.array([row[0] for row in rows], dtype=np.int64)
    snr = np.array([row[1] for row in rows])
    rank = rank_in_bin(number, snr)
    for each in range(-1, 5):
        members = [row for row in range(len(rows)) if number[row] == each]
        ordered = sorted(members, key=lambda row: (-snr[row] if snr[row] == snr[row] else np.inf, row))
        expected = {row: place if each >= 0 else -1 for place, row in enumerate(ordered)}
        assert all(rank[row] == expected[row] for row in members)
