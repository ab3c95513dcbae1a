"""A survey of M-star spectra as large as the real one, written as a catalogue piece by piece, with its truth.

The stars stand evenly on the sky, one partition after the other. A block of spectra is copies of a few references, so
that each is copied some times, as a star is that was observed repeatedly: its copies share an id and a position.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.spectra_fits import LabelledSpectra, write_spectra_fits
from stellarscale.catalog.writer import SKY_FIELD, finish_catalog, write_pixel_pieces
from stellarscale.kernels.healpix import ORDER, pixel_centre
from stellarscale.kernels.wavelength import LIGHT_KMS, WaveGrid
from stellarscale.schema import load_survey
from stellarscale.simulate.mcopies import COPY_BLOCK, CopyConfig, mock_spectra
from stellarscale.simulate.mplan import MStarPlan
from stellarscale.simulate.mspectra import m_star_flux
from stellarscale.simulate.mstars import draw_m_stars
from stellarscale.spectra_columns import FLUX, IVAR, spectrum_array
from stellarscale.surveys.spectra.read import spectra_schema

LABELS = ("teff", "logg", "m_h")
GRID = WaveGrid.covering(6000.0, 8800.0)
N_REFERENCES = 1365
ROWS_OF_PARTITION = 20_000  # what an import makes of spectra
COLUMNS = ("obsid", "mjd", "snr_i", "z", "z_err", "rv")
# A quarter of the stars has more than one spectrum: 877,570 spectra of 667,000 stars.
REPEAT_SHARE = 0.25
REPEAT_CHANCE = {2: 0.80, 3: 0.15, 4: 0.04, 5: 0.006, 6: 0.004}
COPIES_OF_REFERENCE = 24  # in a block, on average


@dataclass(frozen=True)
class Survey:
    """How many spectra, from which random stream, where they go."""

    rows: int
    seed: int
    folder: Path

    @property
    def catalog(self) -> Path:
        """The catalogue of the spectra."""
        return self.folder / "spectra"

    @property
    def references(self) -> Path:
        """The references, as observed."""
        return self.folder / "references.fits"

    @property
    def truth(self) -> Path:
        """The labels that the spectra were made with."""
        return self.folder / "truth.parquet"

    def pixels(self) -> dict[Pixel, int]:
        """Partitions along the sky with their rows, as even as can be."""
        order = 0
        while 12 * 4**order * ROWS_OF_PARTITION < self.rows:
            order += 1
        bounds = np.linspace(0, self.rows, 12 * 4**order + 1).round().astype(int)
        return {Pixel(order, number): int(n) for number, n in enumerate(np.diff(bounds))}


def make_survey(survey: Survey, workers: int) -> Survey:
    """Write references, spectra and truth; what is there already is taken as it is."""
    if survey.truth.is_file():
        return survey
    survey.folder.mkdir(parents=True, exist_ok=True)
    _write_references(survey)
    schema, pixels = _schema(), survey.pixels()
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        parts = list(pool.map(_write_partition, [survey] * len(pixels), pixels, pixels.values()))
    extra = {"stellarscale_survey": "lamost_spectra", "stellarscale_id": "spectrum_id"}
    finish_catalog(survey.catalog, CatalogProperties("spectra", extra=extra), schema, list(pixels))
    pq.write_table(pa.concat_tables(parts), survey.truth)  # last: it says that all is there
    return survey


@lru_cache(maxsize=1)
def _stars(seed: int) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
    """Spectra without noise of the stars that the references are, and their labels."""
    stars = draw_m_stars(MStarPlan(N_REFERENCES, seed), N_REFERENCES)
    labels = [stars[name] for name in LABELS]
    flux = m_star_flux(GRID.wave_aa, *labels, alpha=stars["alpha"], activity=stars["activity"])
    return flux, {name: stars[name] for name in ("source_id", *LABELS)}


def _write_references(survey: Survey) -> None:
    """The stars at a signal to noise of 60 to 200: references are observed spectra themselves."""
    flux, labels = _stars(survey.seed)
    rng = np.random.default_rng([survey.seed, 1])
    snr = rng.uniform(60.0, 200.0, (len(flux), 1)).astype(np.float32)
    noisy = flux * (1.0 + rng.standard_normal(flux.shape, dtype=np.float32) / snr)
    write_spectra_fits(survey.references, LabelledSpectra(noisy, (snr / flux) ** 2, GRID, pa.table(labels)))


def _schema() -> pa.Schema:
    schema = spectra_schema(load_survey("lamost_spectra"), COLUMNS, GRID)
    return pa.schema([SKY_FIELD, pa.field("source_id", pa.int64()), *schema])


def _write_partition(survey: Survey, pixel: Pixel, rows: int) -> pa.Table:
    """Write the spectra of one partition a block at a time; returns their truth."""
    bounds = np.append(np.arange(0, rows, COPY_BLOCK), rows)
    shares = np.linspace(pixel.first, pixel.last, len(bounds)).astype(np.int64)
    shares[[0, -1]] = pixel.first, pixel.last
    truth: list[pa.Table] = []

    def pieces() -> Any:
        for block, n in enumerate(np.diff(bounds)):
            spectra, true = _block(survey, pixel, block, int(n), (shares[block], shares[block + 1]))
            truth.append(true)
            yield spectra

    write_pixel_pieces(survey.catalog, pixel, pieces(), _schema())
    return pa.concat_tables(truth)


def _block(survey: Survey, pixel: Pixel, block: int, n: int, sky_range: tuple[int, int]) -> tuple[pa.Table, pa.Table]:
    """Spectra of one block along the sky, and the labels that they were made with."""
    flux, labels = _stars(survey.seed)
    rng = np.random.default_rng([survey.seed, 2, pixel.ipix, block])
    few = rng.choice(len(flux), max(n // COPIES_OF_REFERENCE, 1), replace=False)
    number = (pixel.ipix << 8) + block
    copies = mock_spectra(flux[few], GRID, n=n, seed=survey.seed, block=number)
    star = _stars_of(copies.reference, rng)
    places = rng.integers(*sky_range, star.max() + 1)
    order = np.argsort(places[star], kind="stable")
    star, sky, reference = star[order], places[star[order]], few[copies.reference[order]]
    ra, dec = pixel_centre(ORDER, sky)
    velocity = rng.normal(0.0, CopyConfig.rv_spread_kms, star.max() + 1)[star] + copies.rv_error_kms[order]
    first = (number << 16) + np.arange(n)
    ids = pa.array([f"spec-{row:09d}" for row in first])
    columns = {
        SKY_FIELD.name: sky,
        "source_id": ((sky >> 34) << 35) | (((number << 16) + star) & 0x3FFFFFFF) << 2,
        "spectrum_id": ids,
        "obsid": first,
        "ra": ra,
        "dec": dec,
        "mjd": rng.integers(55900, 60400, n),
        "snr_i": copies.snr[order],
        "z": velocity / LIGHT_KMS,
        "z_err": np.full(n, CopyConfig.rv_error_kms / LIGHT_KMS),
        "rv": velocity,
        "quality_flags": np.zeros(n, dtype=np.int32),
    }
    spectra = {FLUX: copies.flux[order], IVAR: copies.ivar[order]}
    arrays = [
        spectrum_array(spectra[field.name], field.name, GRID)
        if field.name in spectra
        else pa.array(columns[field.name]).cast(field.type)
        for field in _schema()
    ]
    true = {name: values[reference] for name, values in labels.items() if name != "source_id"}
    true_table = pa.table({"spectrum_id": ids, "snr": copies.snr[order], "reference": reference, **true})
    return pa.Table.from_arrays(arrays, schema=_schema()), true_table


def _stars_of(reference: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Number of the star of each copy: copies of one reference are shared out to stars of one to six spectra."""
    order = np.argsort(reference, kind="stable")
    n = len(order)
    visits = rng.choice(list(REPEAT_CHANCE), n, p=list(REPEAT_CHANCE.values()))
    visits[rng.random(n) >= REPEAT_SHARE] = 1
    begins = np.zeros(n, dtype=bool)
    begins[np.cumsum(visits)[np.cumsum(visits) < n]] = True
    begins[1:] |= np.diff(reference[order]) > 0
    star = np.empty(n, dtype=np.int64)
    star[order] = np.cumsum(begins) - begins[0]
    return star
