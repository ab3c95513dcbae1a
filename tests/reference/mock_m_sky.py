"""A small mock of the M-star survey and the shipped job on it, with settings for few spectra and few pixels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.config import load_job
from stellarscale.products.steps import Summary
from stellarscale.settings.laspm import LaspmJob
from stellarscale.simulate.laspm import simulate_m_stars

ROWS, SEED = 900, 3
GRID = "catalogs.spectra.grid={wave_aa: [6000, 7600], step_dex: 2.0e-4}"
WINDOWS = "matching={windows_aa: [[6000, 7600]], order: 2, k: 5}"
# Bins and branches that so few stars fill, and one short training that judges mildly.
SAMPLE = (
    "references.sample.selection.branches=[{name: dwarf, subclasses: [dM], max_distance_pc: 2000, magnitude: [7, 12],"
    " min_per_bin: 5}, {name: giant, subclasses: [gM], max_distance_pc: 5000, colour: [1.25, 4.0],"
    " magnitude: [-6, 4], min_per_bin: 3, tolerance: {teff: 70}}]",
    # Giants are so few that each is alone in its bin: those under review stay.
    "references.sample.cleaning={clustering: {eps: 1.5, noise: subtracted, reviewed: 1, pictures: 2, undecided: keep,"
    " wave_aa: [6000, 7600]}, bins: {teff_k: 100, logg_dex: 0.3, m_h_dex: 0.3}, leave_one_out: {wave_aa: [6000, 7600]},"
    " reference: {wave_aa: [6000, 7600]}, network: {iterations: 300, sessions: 1, hidden: [32],"
    " wave_aa: [6000, 7600], limits: [1000, 3.0, 1.0], most_dropped: 0.5}}",
    "errors={star: source_id, min_observations: 2, min_in_step: 20, accuracy: leave_one_out}",
    "report.examples=2",
)
TRUTH = "truth={{file: {}/truth/truth.parquet, id: spectrum_id, truth_id: spectrum_id, labels: {{{}}}}}"
LABELS = ("teff", "logg", "m_h")


def write_m_sky(out: Path) -> Path:
    """900 spectra in LAMOST's own files, six of them damaged, and every catalogue of the shipped job."""
    simulate_m_stars(rows=ROWS, seed=SEED, out=out, workers=2)
    return out


def m_job(sky: Path, out: Path, *overrides: str) -> LaspmJob:
    """The shipped job on the small sky."""
    truth = TRUTH.format(sky, ", ".join(f"{label}: {label}" for label in LABELS))
    job = load_job("laspm", [f"data={sky}", f"out={out}", GRID, WINDOWS, *SAMPLE, truth, *overrides])
    assert isinstance(job, LaspmJob)
    return job


@dataclass(frozen=True)
class MRun:
    """A finished run: sky, job, summary; its imported catalogues serve other runs as ``store``."""

    sky: Path
    job: LaspmJob
    done: Summary

    @property
    def out(self) -> Path:
        """Directory of the run."""
        return Path(self.job.out)

    @property
    def store(self) -> Path:
        """Imported and matched catalogues."""
        return self.out / "catalogs"

    @property
    def references(self) -> Path:
        """The reference grid."""
        return self.out / "sample" / "cleaned" / "references.fits"

    @property
    def steps(self) -> dict[str, Summary]:
        """Summaries of the steps by name."""
        return steps_of(self.out)

    @property
    def truth(self) -> pa.Table:
        """One row per spectrum of the sky."""
        return pq.read_table(self.sky / "truth" / "truth.parquet")


def run_m_sky(sky: Path, out: Path) -> MRun:
    """Run the whole job once, on two threads."""
    from stellarscale.products import laspm

    job = m_job(sky, out)
    return MRun(sky, job, laspm.run(job, cluster="threads:2"))


def with_references(run: MRun, out: Path, *overrides: str) -> LaspmJob:
    """A short job: the spectra of a run as they are stored, a file of references, neither truth nor examples."""
    given = [
        f"catalogs={{spectra: {{path: {run.store / 'spectra'}}}}}",
        f"references={{file: {run.references}}}",
        "attach=[]",
        "errors=null",
        "truth=null",
        "leave_one_out=false",
        "report.examples=0",
    ]
    return m_job(run.sky, out, *given, *overrides)


def steps_of(out: Path) -> dict[str, Summary]:
    """Summaries of the steps of a finished run by name."""
    found: list[dict[str, Any]] = json.loads((out / "steps.json").read_text())
    return {step["name"]: step for step in found}


def column(catalog: Path, *names: str) -> pa.Table:
    """Columns of a stored catalogue."""
    return read_columns(open_stored(catalog), list(names))


def digests(catalog: Path) -> dict[str, str]:
    """Digest of every partition of a catalogue, by its place in it."""
    files = sorted((catalog / "dataset").rglob("Npix=*.parquet"))
    return {str(path.relative_to(catalog)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def receipts(out: Path) -> dict[str, tuple[int, int]]:
    """Every receipt with inode and time: one that was written again would show."""
    found = out.rglob("receipts/*/*.json")
    return {str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def fits_parts(path: Path) -> tuple[fits.Header, Any, fits.FITS_rec]:
    """Header and spectra of the first HDU, and the table of labels."""
    with fits.open(path) as hdus:
        table = next(hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU))
        return hdus[0].header.copy(), hdus[0].data.copy(), table.data.copy()
