from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stellarscale.kernels.label_transfer import first_of, label_offset, within


def test_offset_is_recovered_under_outliers_and_gaps():
    rng = np.random.default_rng(1)
    reference = rng.uniform(3000, 4200, 8000)
    values = reference + rng.normal(87, 60, 8000)
    values[:600] += rng.uniform(300, 2000, 600)  # a tail to one side pulls the mean and the median, not the Gaussian
    values[600:1500] = np.nan
    reference[1500:1700] = np.nan
    offset = label_offset(values, reference)
    assert offset.added == pytest.approx(-87, abs=4)
    assert offset.fit.sigma == pytest.approx(60, rel=0.06)
    assert offset.fit.n == 6900
    assert offset.fit.converged
    assert not offset.given
    assert len(offset.edges) == len(offset.counts) + 1
    assert 0.85 * 6900 < offset.counts.sum() <= 6900


def test_a_given_offset_is_used_and_the_difference_still_measured():
    rng = np.random.default_rng(2)
    offset = label_offset(rng.normal(0.16, 0.05, 500), np.zeros(500), given=-0.2)
    assert offset.added == -0.2
    assert offset.given
    assert offset.fit.mean == pytest.approx(0.16, abs=0.01)


def test_few_or_equal_differences_give_their_median():
    few = label_offset(np.array([1.0, 2.0, 6.0]), np.zeros(3))
    assert (few.added, few.fit.converged) == (-2.0, False)
    equal = label_offset(np.full(100, 0.3), np.zeros(100))
    assert equal.added == pytest.approx(-0.3)
    assert equal.counts.sum() == 100


def test_without_overlap_only_a_given_offset_helps():
    lonely = np.array([1.0, np.nan]), np.array([np.nan, 2.0])
    with pytest.raises(ValueError, match="no star has a value in both"):
        label_offset(*lonely)
    offset = label_offset(*lonely, given=0.1)
    assert (offset.added, offset.fit, len(offset.counts)) == (0.1, None, 0)


def test_within_needs_every_label_and_is_strict():
    reference = np.tile([3500.0, 4.5, 0.0], (5, 1))
    shift = [[99.0, 0.1, 0.1], [100.0, 0, 0], [0, -0.25, 0], [0, 0, np.nan], [-99.0, 0.19, -0.19]]
    limits = np.array([100.0, 0.2, 0.2])
    assert np.flatnonzero(within(reference + shift, reference, limits)).tolist() == [0, 4]
    reference[0, 2] = np.nan
    assert not within(np.tile([3500.0, 4.5, 0.0], (5, 1)), reference, limits)[0]


@given(arrays(bool, st.tuples(st.integers(1, 4), st.integers(0, 30))))
def test_first_of_equals_a_plain_loop(candidates):
    expected = [
        next((row for row in range(len(candidates)) if candidates[row, n]), -1) for n in range(candidates.shape[1])
    ]
    assert first_of(candidates).tolist() == expected
