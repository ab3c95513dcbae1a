"""One pass over spectra against the same in numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stellarscale.kernels.clean_spectra import clean_spectra

SHAPE = st.tuples(st.integers(0, 4), st.integers(1, 9))
VALUES = st.one_of(st.floats(-1e6, 1e6, width=32), st.sampled_from([0.0, np.nan, np.inf, -np.inf]))


@given(
    SHAPE.flatmap(
        lambda s: st.tuples(arrays("f4", s, elements=VALUES), arrays("f4", s, elements=VALUES), arrays("?", s[1]))
    )
)
def test_the_pass_does_what_numpy_does(drawn):
    flux, ivar, window = drawn
    counts = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0) & window
    f, w = (np.where(counts, values, 0).astype(np.float64) for values in (flux, ivar))
    clean = clean_spectra(flux, ivar, window)
    np.testing.assert_array_equal(clean.flux, f)
    np.testing.assert_array_equal(clean.ivar, w)
    np.testing.assert_array_equal(clean.n_pix, counts.sum(axis=1))
    np.testing.assert_allclose(
        clean.weighted, (f * w).sum(axis=1), rtol=1e-12, atol=1e-12 * np.abs(f * w).max(initial=1)
    )
    np.testing.assert_allclose(clean.snr2, (f * f * w).sum(axis=1) / np.maximum(counts.sum(axis=1), 1), rtol=1e-12)


def test_a_cut_of_longer_spectra_is_its_own():
    flux = np.arange(12, dtype=np.float32).reshape(2, 6)
    clean = clean_spectra(flux[:, 2:5], np.ones_like(flux)[:, 2:5], np.array([True, False, True]))
    assert clean.flux.tolist() == [[2, 0, 4], [8, 0, 10]]
    assert clean.weighted.tolist() == [6, 18]
