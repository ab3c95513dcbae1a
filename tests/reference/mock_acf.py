"""A small finished run of the product acf on a mock of SkyMapper images, made once in a test process."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from reference.mock_smss import SmssMock, small_mock

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.config import load_job
from stellarscale.products import acf
from stellarscale.products.steps import Summary
from stellarscale.settings.acf import AcfJob

ROWS, SEED = 200, 3
LABELS = {"teff": "K", "logg": "dex", "fe_h": "dex"}
# Networks that are trained in a second; so few labelled stars that half of them calibrate and test.
SMALL = (
    "stamps.size_px=24",
    "stamps.softening={u: 5, v: 5, g: 5, r: 5, i: 5, z: 5}",
    "network.backbone={depths: [1, 1], channels: [16, 32], heads: [2, 2], stripes: [1, 2], mlp_ratio: 2}",
    "network.head={parallax_units: 8, parallax_input: log, hidden: [16, 8], dropout: 0.2}",
    "network.joint=true",
    "training={epochs: 3, batch_size: 16, learning_rate: 4.0e-3, schedule: cosine, without_parallax: true,"
    " split: [0.56, 0.26, 0.18], checkpoint_epochs: 1, early_look: 1}",
    "prediction={samples: 8}",
    "comparisons.features=[image]",
    "comparisons.trials=2",
    "gallery=8",
)


@contextmanager
def one_core() -> Iterator[None]:
    """Networks this small gain nothing from threads, and wait for each other's beside other programs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stellarscale.engine.gpu.cores", lambda: 1)
        yield


def acf_mock() -> SmssMock:
    """Native files of 200 stars and their neighbours; nobody may write into them."""
    return small_mock(ROWS, SEED)


def acf_job(out: Path, *overrides: str, data: Path | None = None) -> AcfJob:
    """The shipped job of the mock, with small networks."""
    job = load_job("acf_mock", [f"data={data or acf_mock().folder}", f"out={out}", *SMALL, *overrides])
    assert isinstance(job, AcfJob)
    return job


@dataclass(frozen=True)
class AcfRun:
    """A finished run; its imported and matched catalogues serve others as ``store``, its models as ``pretrained``."""

    job: AcfJob
    done: Summary

    @property
    def out(self) -> Path:
        """Directory of the run."""
        return Path(self.job.out)

    @property
    def store(self) -> str:
        """Setting that takes the imported and matched catalogues of this run."""
        return f"store={self.out / 'catalogs'}"

    @property
    def given(self) -> tuple[str, ...]:
        """Settings of a short job: networks and catalogues of this run, and nothing to compare with."""
        return (self.store, f"pretrained={self.out / 'models'}", "comparisons=null", "evaluation.external=[]")

    @property
    def steps(self) -> dict[str, Summary]:
        """Summaries of the steps by name."""
        return steps_of(self.out)

    @property
    def report(self) -> dict[str, Any]:
        """The numbers of the report."""
        return json.loads((self.out / "report.json").read_text())


@cache
def finished_run() -> AcfRun:
    """The run that the tests of one process share, on two threads. Read it, do not change it."""
    folder = Path(tempfile.mkdtemp(prefix="acf_run_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    job = acf_job(folder / "run")
    with one_core():
        return AcfRun(job, acf.run(job, cluster="threads:2"))


def steps_of(out: Path) -> dict[str, Summary]:
    """Summaries of the steps of a run by name."""
    return {step["name"]: step for step in json.loads((out / "steps.json").read_text())}


def column(catalog: Path, *names: str) -> pa.Table:
    """These columns of a stored catalogue."""
    return read_columns(open_stored(catalog), list(names)).select(list(names))


def digests(catalog: Path) -> dict[str, str]:
    """Digest of every partition of a catalogue, by its place in it."""
    files = sorted((catalog / "dataset").rglob("Npix=*.parquet"))
    return {str(path.relative_to(catalog)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def receipts(out: Path) -> dict[str, tuple[int, int]]:
    """Every receipt with inode and time: one that was written again would show."""
    found = out.rglob("receipts/*/*.json")
    return {str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}
