"""Spectra for tests of what stores them: files that hold a row of numbers, and the reader's place taken by a loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stellarscale.catalog.import_plan import ImportConfig
from stellarscale.catalog.writer import WriteOptions
from stellarscale.errors import InputError
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.schema import SurveySchema
from stellarscale.spectra_columns import FLUX, IVAR, spectrum_array
from stellarscale.surveys.canonical import REJECTS, CanonicalBatch
from stellarscale.surveys.spectra.read import spectra_schema

SCHEMA = SurveySchema.model_validate(
    {
        "name": "fake_spectra",
        "alias": "fake",
        "title": "spectra for tests",
        "id": "spectrum_id",
        "spectrum": {"grid": {"wave_aa": [7000.0, 7500.0]}, "rest": True},
        "columns": {
            "spectrum_id": {"native": ["spectrum_id"], "dtype": "string", "ucd": "meta.id;meta.main"},
            "ra": {"native": ["ra"], "dtype": "float64", "unit": "deg", "required": True},
            "dec": {"native": ["dec"], "dtype": "float64", "unit": "deg", "required": True},
            "snr_i": {"native": ["snri"], "dtype": "float32", "description": "signal to noise in i"},
        },
    }
)
GRID = SCHEMA.spectrum.grid.wave_grid
# The catalogue of tests/catalog/conftest.py: several partitions, several row groups in each.
COUNT = 900
GROUP = 25
SMALL = ImportConfig(max_rows=60, files_at_once=70, write=WriteOptions(row_group_rows=GROUP))


def write_files(folder: Path, count: int, *, seed: int = 0, per_directory: int = 100) -> list[Path]:
    """Files of a plate each directory; every tenth star is there twice at the same place, with other noise."""
    rng = np.random.default_rng(seed)
    places = np.stack([rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))], axis=1)
    places[9::10] = places[8::10][: len(places[9::10])]
    paths = []
    for number, (ra, dec) in enumerate(places):
        path = folder / f"plate{number // per_directory:03d}" / f"spec-{seed}-{number:05d}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.array([ra, dec, rng.uniform(3, 90), rng.uniform(0.5, 2.0)]))
        paths.append(path)
    return paths


def pixels_of(level: float, number: int, grid: WaveGrid = GRID) -> tuple[np.ndarray, np.ndarray]:
    """Flux and inverse variance of a spectrum: functions of what its file holds, so that tests can tell them."""
    wave = grid.wave_aa
    flux = level * (1 + 0.3 * np.sin(wave / (20 + number % 7)))
    ivar = np.where((np.arange(grid.n_pix) + number) % 50 < 3, 0.0, 400 / level**2)
    return flux.astype(np.float32), ivar.astype(np.float32)


def read_fake(
    paths: Sequence[Path], schema: SurveySchema, grid: WaveGrid, columns: Sequence[str], *, first_id: int = 0
) -> CanonicalBatch:
    """As `read_spectra`."""
    output = spectra_schema(schema, columns, grid)
    rows, rejects = [], []
    for path in paths:
        try:
            ra, dec, snr, level = np.load(path)
        except (ValueError, EOFError, OSError) as error:
            reason = str(InputError("the file is no spectrum", where=path, seen=error))
            rejects.append({"file": str(path), "row": 0, "id": path.stem, "reason": reason, "ra": None, "dec": None})
            continue
        rows.append((path.stem, ra, dec, snr, *pixels_of(level, int(path.stem[-5:]), grid)))
    ids, ra, dec, snr, flux, ivar = zip(*rows, strict=True) if rows else ((),) * 6
    given = {"spectrum_id": ids, "ra": ra, "dec": dec, "snr_i": snr, "quality_flags": [0] * len(rows)}
    arrays = [pa.array(given[name], output.field(name).type) for name in output.names[:-2]]
    for name, values in ((FLUX, flux), (IVAR, ivar)):
        arrays.append(spectrum_array(np.array(values, dtype=np.float32).reshape(-1, grid.n_pix), name, grid))
    table = pa.Table.from_arrays(arrays, schema=output)
    return CanonicalBatch(table, pa.Table.from_pylist(rejects, schema=REJECTS), len(paths))


@contextmanager
def fakes_are_read() -> Iterator[None]:
    """Imports of spectra read the files above."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stellarscale.catalog.spill.read_spectra", read_fake)
        yield


@pytest.fixture(scope="module", autouse=True)
def fake_reader() -> Iterator[None]:
    """The same for every test of a module that has this name."""
    with fakes_are_read():
        yield


def content(root: Path) -> dict[str, bytes]:
    """The partitions of a catalogue to the byte, by their place in it."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("Npix=*"))}
