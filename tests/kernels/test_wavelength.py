"""The wavelength grid, and air against vacuum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.kernels.wavelength import WaveGrid, air_to_vacuum, vacuum_to_air


def test_lamost_step_gives_the_known_number_of_pixels():
    grid = WaveGrid.covering(6000, 8800)
    assert grid.n_pix == 1663
    assert grid.wave_aa[0] >= 6000
    assert grid.wave_aa[-1] <= 8800
    assert grid.pixel_kms == pytest.approx(69.0, abs=0.1)


def test_spanning_grid_ends_where_asked():
    grid = WaveGrid.spanning(6000, 8800, 1657)
    np.testing.assert_allclose(grid.wave_aa[[0, -1]], [6000, 8800])
    assert grid.n_pix == 1657


@given(first=st.floats(3700, 6000), last=st.floats(6100, 9000))
def test_covering_grids_of_one_step_align(first, last):
    whole, part = WaveGrid.covering(3700, 9000), WaveGrid.covering(first, last)
    offset = part.offset_in(whole)
    assert offset is not None
    np.testing.assert_allclose(whole.wave_aa[offset : offset + part.n_pix], part.wave_aa, rtol=1e-9)
    assert whole.window(first, last) == slice(offset, offset + part.n_pix)


def test_grids_that_do_not_align_say_so():
    grid = WaveGrid.covering(6000, 8800)
    assert WaveGrid(grid.start_dex + 0.4e-4, 1e-4, 100).offset_in(grid) is None
    assert WaveGrid.spanning(6000, 8800, 1657).offset_in(grid) is None


@pytest.mark.parametrize("bad", [(3.8, 0.0, 10), (3.8, 1e-4, 0), (np.nan, 1e-4, 10)])
def test_no_grid_is_an_error(bad):
    with pytest.raises(ValueError, match="no wavelength grid"):
        WaveGrid(*bad)


def test_air_and_vacuum_of_known_lines():
    # H alpha and the sodium D2 line, NIST
    np.testing.assert_allclose(air_to_vacuum([6562.79, 5889.951]), [6564.60, 5891.583], atol=6e-3)


@given(wave=st.floats(2000, 20000))
def test_air_is_the_inverse_of_vacuum(wave):
    assert vacuum_to_air(air_to_vacuum(wave)) == pytest.approx(wave, abs=1e-3)
