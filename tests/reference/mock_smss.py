"""A small mock of SkyMapper images, made once in a test process and removed at its end; nobody may write into it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from astropy.io import fits
from numpy.typing import NDArray

from stellarscale.simulate import simulate_images

ROWS, SEED = 64, 3


@dataclass(frozen=True)
class SmssMock:
    """Where the mock is, and its manifest."""

    folder: Path
    manifest: dict

    def files(self, survey: str) -> list[Path]:
        """Native files of a survey by its schema name."""
        return [self.folder / name for name in self.manifest["surveys"][survey]["files"]]

    @property
    def cutouts(self) -> str:
        """Pattern of the cut-outs as ``stamps.files`` of a job has it."""
        return f"{self.folder}/cutouts/{{shard}}/{{object_id}}/{{image_id}}-{{ccd}}.fits"

    def cutout(self, object_id: int, image_id: int, ccd: int) -> Path:
        """One cut-out."""
        return Path(
            self.cutouts.format(shard=f"{object_id % 1000:03d}", object_id=object_id, image_id=image_id, ccd=ccd)
        )

    @property
    def truth(self) -> pa.Table:
        """One row an object."""
        return pq.read_table(self.folder / self.manifest["truth"]["file"])

    @property
    def master(self) -> dict[str, NDArray]:
        """The master table by native column, rows in the order of the truth's."""
        rows = fits.getdata(self.files("skymapper_dr4")[0])
        return {name: np.array(rows[name], dtype=rows.dtype[name].newbyteorder("=")) for name in rows.dtype.names}

    @property
    def detections(self) -> pa.Table:
        """The detection table in native columns."""
        return pa_csv.read_csv(self.files("skymapper_dr4_photometry")[0])

    @property
    def exposures(self) -> pa.Table:
        """The table of exposures in native columns."""
        return pa_csv.read_csv(self.files("skymapper_dr4_images")[0])


def write_smss(out: Path, *, rows: int = ROWS, seed: int = SEED, workers: int = 2) -> SmssMock:
    """Write a mock into a folder of the test's own."""
    return SmssMock(out, simulate_images(rows=rows, seed=seed, out=out, workers=workers))


@cache
def small_mock(rows: int = ROWS, seed: int = SEED) -> SmssMock:
    """The mock that the tests of one process share: 64 primaries, some 1,600 cut-outs, 35 MB."""
    folder = Path(tempfile.mkdtemp(prefix="smss_mock_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_smss(folder, rows=rows, seed=seed)
