"""A small run of the product laspm as the steps before the report leave it: spectra, references, catalogue, truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from reference.mock_catalog import write_mock

from stellarscale.catalog.spectra_fits import LabelledSpectra, write_spectra_fits
from stellarscale.engine.spectra_tasks import ReferenceFile, load_references
from stellarscale.kernels.healpix import pixel_of
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.partition.spectra_match import SpectraMatchConfig, match_partition
from stellarscale.schema import load_product
from stellarscale.settings.laspm import LaspmJob
from stellarscale.spectra_columns import spectrum_array, spectrum_field

LABELS = ("teff", "logg", "m_h")
BANDS = ((6158, 90, 1.2), (6382, 12, -0.5), (6651, 80, 1.0), (6816, 32, -1.5), (7054, 110, 1.6), (7590, 120, 1.4))


@dataclass(frozen=True)
class MockRun:
    """What a report of the product needs."""

    job: LaspmJob
    out: Path
    spectra: Path
    references: ReferenceFile
    truth: NDArray[np.float64]


def mock_labels(n: int, rng: np.random.Generator, *, giants: float = 0.25) -> NDArray[np.float64]:
    """Teff, log g, [M/H] of a mix of dwarfs and giants along their sequences."""
    is_giant = rng.random(n) < giants
    m_h = np.clip(rng.normal(-0.2, 0.3, n), -1.2, 0.5)
    teff = np.where(is_giant, rng.uniform(3350, 4100, n), rng.uniform(3100, 4150, n))
    dwarf = 5.1 - (teff - 3100) / 1050 * 0.5 + rng.normal(0, 0.03, n) - 0.1 * m_h
    giant = 0.3 + (teff - 3350) / 750 * 1.6 + rng.normal(0, 0.1, n) - 0.3 * m_h
    return np.stack([teff, np.where(is_giant, giant, dwarf), m_h], axis=1)


def mock_flux(labels: NDArray[np.float64], grid: WaveGrid) -> NDArray[np.float64]:
    """Spectra whose bands deepen as the stars cool, by how much depending on log g and [M/H]."""
    wave = grid.wave_aa
    teff, logg, m_h = labels.T[:, :, None]
    cool = (4300 - teff) / 1200
    flux = (wave / 7000.0) ** (1.5 + 4.0 * cool) * np.ones_like(teff)
    for start, width, by_gravity in BANDS:
        shape = np.where(wave > start, np.exp(-(wave - start) / width), 0.0)
        depth = np.clip(cool * (0.5 + 0.3 * m_h) * (1.0 + 0.1 * by_gravity * (logg - 3.0) / 2.0), 0.02, 0.9)
        flux = flux * (1.0 - depth * shape)
    return flux


def mock_run(root: Path, *, n: int = 600, n_ref: int = 200, grid: WaveGrid, seed: int = 4, **job: Any) -> MockRun:
    """Write spectra, references, the value-added catalogue and the truth; two spectra are of no star at all."""
    rng = np.random.default_rng(seed)
    out = root / "run"
    settings = {
        "product": "laspm", "name": "mock", "out": str(out), "spectra": "spectra", "output": {"name": "catalog"},
        "catalogs": {"spectra": {"path": str(root / "spectra")}},
        "references": {"file": str(root / "references.fits")},
        "matching": {"windows_aa": [[float(grid.wave_aa[0]) + 5, float(grid.wave_aa[-1]) - 5]]},
        "evaluation": {"branches": {}},
        "truth": {"file": str(root / "truth.parquet"), "id": "obsid", "truth_id": "obsid",
                  "labels": {name: name for name in LABELS}},
    }  # fmt: skip
    made = LaspmJob.model_validate(settings | job)
    references = _references(root / "references.fits", n_ref, grid, rng)
    truth = mock_labels(n, rng)
    table = _spectra(truth, grid, rng)
    write_mock(root / "spectra", table, max_rows=250, row_group_rows=100, stellarscale_id="spectrum_id")
    order = table["obsid"].to_numpy()
    columns = {"obsid": order, **{name: truth[order, place] for place, name in enumerate(LABELS)}}
    pq.write_table(pa.table(columns), root / "truth.parquet")
    config = SpectraMatchConfig(made.matching, load_product("laspm"))
    catalog = match_partition(table, config, load_references(references, made.matching))
    properties = {"stellarscale_id": "spectrum_id", "stellarscale_references_digest": references.digest}
    write_mock(out / "catalog", _with_errors(catalog), max_rows=250, **properties)
    return MockRun(made, out, root / "spectra", references, truth[order])


def _references(path: Path, n: int, grid: WaveGrid, rng: np.random.Generator) -> ReferenceFile:
    labels = mock_labels(n, rng)
    columns: dict[str, Any] = {name: labels[:, place] for place, name in enumerate(LABELS)}
    columns |= {"snr_i": rng.uniform(50, 300, n), "label_source": [f"catalogue {i % 3}" for i in range(n)]}
    flux = mock_flux(labels, grid).astype(np.float32)
    return ReferenceFile(path, write_spectra_fits(path, LabelledSpectra(flux, None, grid, pa.table(columns))))


def _spectra(labels: NDArray[np.float64], grid: WaveGrid, rng: np.random.Generator) -> pa.Table:
    n = len(labels)
    snr = 10 ** rng.uniform(0.6, 2.3, n)
    clean = mock_flux(labels, grid)
    clean[-2:] *= 1.0 + 0.7 * np.sin(grid.wave_aa / 40.0)  # no star looks like these
    snr[-2:] = 60.0
    sigma = clean / snr[:, None]
    flux = clean * rng.uniform(0.5, 3, n)[:, None] + rng.normal(size=clean.shape) * sigma
    ivar = 1.0 / sigma**2
    ivar[rng.random(ivar.shape) < 0.01] = 0.0
    ra, dec = rng.uniform(80, 160, n), rng.uniform(-5, 60, n)
    sky = pixel_of(ra, dec)
    order = np.argsort(sky)
    columns = {
        "_healpix_29": sky, "spectrum_id": np.array([f"spec-{i:05d}" for i in range(n)]), "obsid": np.arange(n),
        "ra": ra, "dec": dec, "mjd": rng.integers(56000, 60000, n), "snr_i": snr.astype(np.float32),
        "rv": rng.normal(0, 30, n),
    }  # fmt: skip
    table = pa.table({name: values[order] for name, values in columns.items()})
    for name, values in (("flux", flux), ("ivar", ivar)):
        table = table.append_column(spectrum_field(name, grid), spectrum_array(values[order], name, grid))
    return table.append_column("quality_flags", pa.array(np.zeros(n, dtype=np.int32)))


def _with_errors(catalog: pa.Table) -> pa.Table:
    """Errors that shrink as the signal to noise grows."""
    snr = catalog["snr_i"].to_numpy()
    for name, size in zip(LABELS, (60.0, 0.08, 0.08), strict=True):
        column = pa.array((size / 3 * (1 + 20.0 / snr)).astype(np.float32))
        catalog = catalog.append_column(pa.field(f"{name}_err", pa.float32()), column)
    return catalog
