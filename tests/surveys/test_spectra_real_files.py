"""Real spectra of three libraries, where they are at hand: all are read, and known lines stand where they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.schema import load_survey
from stellarscale.spectra_columns import FLUX, IVAR, spectra_of
from stellarscale.surveys.spectra import available_columns, read_spectra

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "spectra"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared real data are not beside the repository")


def read(folder, survey, grid):
    schema = load_survey(survey)
    paths = sorted((DATA / folder).glob("*.fits"))
    batch = read_spectra(paths, schema, grid, available_columns(schema))
    assert (batch.rows_in, batch.rejects.num_rows) == (len(paths), 0)
    return batch.table, spectra_of(batch.table, FLUX), spectra_of(batch.table, IVAR)


def line_offset(grid, flux, place_aa):
    """Median over spectra of the offset, in Angstrom, of the deepest point within 6 Angstrom of a line's place."""
    wave, near = grid.wave_aa, np.flatnonzero(np.abs(grid.wave_aa - place_aa) < 6)
    offsets = []
    for row in flux:
        low = near[np.argmin(row[near])]
        left, middle, right = row[low - 1 : low + 2].astype(float)
        vertex = 0.5 * (left - right) / (left - 2 * middle + right)
        offsets.append(wave[low] + vertex * (wave[1] - wave[0]) - place_aa)
    return np.median(offsets)


def test_lamost():
    grid = WaveGrid.covering(4500, 8800)
    table, flux, ivar = read("lamost", "lamost_spectra", grid)
    assert table.num_rows == 23
    subclass = np.array(table["subclass"].to_pylist())
    assert np.char.startswith(subclass, "M").sum() == 9
    assert table["obsid"].null_count == 23  # the pilot survey has none
    assert 20 < min(table["snr_i"].to_pylist()) <= max(table["snr_i"].to_pylist()) == 99
    hot = np.array([name[0] in "AFG" for name in subclass])
    assert abs(line_offset(grid, flux[hot], 4862.68)) < 0.6  # H beta; air would be 1.4 lower
    assert abs(line_offset(grid, flux[hot], 8544.44)) < 0.6  # Ca II; air would be 2.3 lower
    assert (np.median(flux, axis=1) > 0).all()
    assert 0.85 < np.mean(ivar > 0) < 0.99  # pixels without inverse variance stay so
    dark = table["spectrum_id"].to_pylist().index("spec-55862-B6212_sp06-145")
    assert np.mean(ivar[dark] > 0) < 0.8  # a third of it is masked


def test_pyhammer_templates():
    grid = WaveGrid.covering(6000, 8800)
    table, flux, ivar = read("pyhammer_m", "pyhammer_spectra", grid)
    assert table.num_rows == 33
    assert table["spectrum_id"][0].as_py() == "M0_+0.0_Dwarf"
    assert abs(line_offset(grid, flux, 7701.08)) < 0.4  # K I in vacuum, at rest; air would be 2.1 lower
    assert (ivar > 0).mean() > 0.95
    early, late = flux[0], flux[[name.startswith("M6") for name in table["spectrum_id"].to_pylist()]].mean(axis=0)
    wave = grid.wave_aa

    def band(row):  # TiO 7055-7125 over the continuum below it
        return row[(wave > 7128) & (wave < 7137)].mean() / row[(wave > 7044) & (wave < 7049)].mean()

    assert band(late) < 0.6 < band(early) < 1


def test_miles():
    grid = WaveGrid.covering(4000, 7400)
    table, flux, ivar = read("miles", "miles_spectra", grid)
    assert table.num_rows == 984
    assert set(table["resolution"].to_pylist()) == {2.5}
    assert abs(line_offset(grid, flux, 6564.61)) < 0.2  # H alpha in vacuum, from files in air
    assert abs(line_offset(grid, flux, 4862.68)) < 0.2
    assert set(np.unique(ivar)) <= {0.0, 1.0}
    assert (ivar == 1).mean() > 0.999
