"""From matched tables and spectra to the empirical sample and its reference grid (paper II, section 2)."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stellarscale.catalog.atomic import atomic_write
from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.spectra_fits import LabelledSpectra, read_spectra_fits, write_spectra_fits
from stellarscale.config import digest_of
from stellarscale.engine.ledger import fingerprint, open_ledger, write_json
from stellarscale.engine.sample_tasks import SampleTask, rejects_file, sample_pixel, sample_schema
from stellarscale.errors import InputError
from stellarscale.kernels.recalibrate import ModelGrid
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.partition.features import floats
from stellarscale.partition.sample import rejects_table
from stellarscale.products.attaching import attach_catalog
from stellarscale.products.inputs import run_directory, store_of
from stellarscale.products.matching import match_chain
from stellarscale.products.review_table import read_decisions
from stellarscale.products.sample_bins import Sample, covered
from stellarscale.products.sample_cleaning import REVIEW_TABLE, CleanedSample, clean_sample, template_matcher
from stellarscale.products.sample_exclusions import read_exclusions
from stellarscale.products.sample_report import sample_sections
from stellarscale.products.sample_selection import SampleResult, all_rejects, select_sample
from stellarscale.products.sample_spectra import copy_spectra, missing_spectra, on_grid
from stellarscale.products.steps import Mapped, Session, Summary, inherited, map_catalog
from stellarscale.schema import field_metadata
from stellarscale.settings.cleaning import Recalibration
from stellarscale.settings.laspm import EmpiricalSample, LaspmJob
from stellarscale.settings.sample import LABELS, SampleSelection

REFERENCES, SAMPLE, REJECTS, SECTIONS = "references.fits", "sample.fits", "rejects.parquet", "sections.json"
NO_SPECTRUM = "no spectrum in the catalogue"


@dataclass(frozen=True)
class _Paths:
    """What the steps hand to one another."""

    matched: Path
    rows: Path
    rejects: Path
    spectra: Path
    review: Path
    out: Path


def build_sample(on: Session, job: LaspmJob, catalogs: dict[str, Path], steps: list[Summary]) -> Path:
    """Make the empirical sample and its reference grid, or find them made; returns the file of the references.

    Beside the references are ``sample.fits``, ``rejects.parquet`` with a reason for every spectrum that is not in the
    sample, and the sections for the report. The review table is where the job says; after you have edited it, run the
    job again with ``--update``.

    Parameters
    ----------
    on : Session
    job : LaspmJob
        With a sample.
    catalogs : mapping of str to Path
    steps : list of dict
        Gets the summaries of the steps.

    Raises
    ------
    StellarscaleError
        As the steps: see :func:`~stellarscale.products.sample_selection.select_sample` and
        :func:`~stellarscale.products.sample_cleaning.clean_sample`.
    """
    settings = job.references.sample
    assert settings is not None, "the caller looked"
    folder = run_directory(job) / "sample"
    matched = match_chain(on, settings.match, catalogs, store_of(job), steps=steps)
    for number, attach in enumerate(settings.attach):
        together = folder / f"attached_{number}"  # in the run: jobs that share a store attach columns of their own
        steps.append(attach_catalog(on, matched, catalogs[attach.catalog], together, attach))
        matched = together
    paths = _Paths(
        matched=matched,
        rows=folder / "rows",
        rejects=folder / "rows_rejects",
        spectra=catalogs[settings.spectra],
        review=Path(settings.review).absolute()
        if settings.review
        else run_directory(job).with_name(f"{run_directory(job).name}_review"),
        out=folder / "cleaned",
    )
    selection = _with_position(settings.selection, matched)
    steps.append(_cut_rows(on, selection, paths))
    steps.append(_clean(on, job, settings, selection, paths))
    return paths.out / REFERENCES


def _with_position(selection: SampleSelection, matched: Path) -> SampleSelection:
    """The same selection with the position of the spectra carried along: every catalogue has one."""
    properties = open_stored(matched).properties
    keep = tuple(dict.fromkeys([*selection.keep, properties.ra, properties.dec]))
    return selection.model_copy(update={"keep": keep})


def _located(selection: SampleSelection) -> SampleSelection:
    """The same selection with the dust maps named by an absolute path, for workers that run elsewhere."""
    reddening = selection.cuts.reddening
    if reddening.sfd98 is None:
        return selection
    there = reddening.model_copy(update={"sfd98": str(Path(reddening.sfd98).absolute())})
    return selection.model_copy(update={"cuts": selection.cuts.model_copy(update={"reddening": there})})


def _cut_rows(on: Session, selection: SampleSelection, paths: _Paths) -> Summary:
    """Cuts of single rows, partition by partition."""
    stored = open_stored(paths.matched)
    maps = selection.cuts.reddening.sfd98
    mapped = Mapped(
        step="sample",
        source=paths.matched,
        out=paths.rows,
        schema=sample_schema(stored.schema, selection),
        properties=inherited(stored.properties, "rows"),
        settings=selection.model_dump(mode="json"),
        inputs=tuple(sorted(Path(maps).glob("*.fits"))) if maps else (),
    )
    task = SampleTask(paths.matched, paths.rows, paths.rejects, _located(selection))
    return {**map_catalog(on, partial(sample_pixel, task), mapped), "name": "sample: cuts of single rows"}


def _clean(on: Session, job: LaspmJob, settings: EmpiricalSample, selection: SampleSelection, paths: _Paths) -> Summary:
    """Everything after the cuts of single rows, on this machine: the sample is small."""
    started = time.perf_counter()
    cleaning, matching = settings.cleaning, job.matching
    if cleaning.seed is None:
        cleaning = cleaning.model_copy(update={"seed": job.seed})
    files = [
        Path(file).absolute() for file in (*settings.models.values(), *(e.file for e in selection.exclusions if e.file))
    ]
    about = {
        "settings": {
            "selection": digest_of(selection),
            "cleaning": cleaning.model_dump(mode="json"),
            "models": settings.models,
            "matcher": {"order": matching.order, "k": matching.k, "candidates": matching.candidates},
            "review": read_decisions(paths.review / REVIEW_TABLE),
        },
        "inputs": [fingerprint(path) for path in (paths.rows, paths.spectra, *files)],
    }
    ledger = open_ledger(paths.out, step="clean", digest=digest_of("clean", about), about=about, update=on.update)
    if ledger.finished:
        return {**ledger.finished, "resumed": True}
    with ledger.working("clean", 1), on.progress.stage("sample: selection, cleaning, network", total=1, done=0):
        rows, result, early = _selected(selection, paths)
        sample, lost = _with_spectra(result, selection, paths)
        scratch = paths.out / "spectra"
        spectra = copy_spectra(paths.spectra, selection.cuts.id, sample[selection.cuts.id], scratch)
        cleaned = clean_sample(
            _arrays(sample, selection),
            spectra.load,
            grid=spectra.grid,
            match=template_matcher(order=matching.order, k=matching.k, candidates=matching.candidates),
            directory=paths.review,
            settings=cleaning,
            models=_models(settings, cleaning.recalibration, spectra.grid),
        )
        shutil.rmtree(scratch)
        kept = _write(paths, sample, cleaned, spectra.grid, about)
        rejects = pa.concat_tables([all_rejects(early, result), lost, _uncleaned(sample, cleaned, selection)])
        _write_parquet(paths.out / REJECTS, rejects)
        compared = spectra.grid.wave_aa[covered(spectra.grid, cleaning.clustering.wave_aa, "clustering")]
        sections = sample_sections(result, sample, cleaned, compared)
        write_json(paths.out / SECTIONS, [asdict(section) for section in sections])
    summary = {
        "step": "clean",
        "name": "sample: selection and cleaning",
        "rows_in": rows.num_rows,
        "written": kept,
        "references": int(cleaned.reference.sum()),
        "rejected": rows.num_rows - kept,
        "fates": cleaned.counts,
        "seconds": round(time.perf_counter() - started, 3),
    }
    ledger.finish(summary)
    return summary


def _selected(selection: SampleSelection, paths: _Paths) -> tuple[pa.Table, SampleResult, pa.Table]:
    """Rows after the cuts, what the selection makes of them, and the rejects of the cuts."""
    stored = open_stored(paths.rows)
    names = [name for name in stored.schema.names if name != "_healpix_29"]
    rows = read_columns(stored, names)
    excluded = read_exclusions(selection.exclusions, rows.schema.field(selection.cuts.star).type)
    result = select_sample(rows, selection, excluded=excluded)
    # Partition by partition: an earlier run on other partitions may have left files beside these.
    files = [rejects_file(paths.rejects, pixel) for pixel in open_stored(paths.matched).pixels]
    none = rejects_table(rows.slice(0, 0), selection, pa.array([], pa.string()))
    early = pa.concat_tables([none, *(pq.read_table(file).cast(none.schema) for file in files)])
    return rows, result, early


def _with_spectra(result: SampleResult, selection: SampleSelection, paths: _Paths) -> tuple[pa.Table, pa.Table]:
    """The sample without the spectra that the catalogue lacks, and the record of these."""
    ids = result.sample[selection.cuts.id]
    missing = missing_spectra(paths.spectra, selection.cuts.id, ids)
    if missing.all():
        raise InputError(
            "no spectrum of the sample is in the catalogue of spectra",
            where=f"{paths.spectra}, column {selection.cuts.id}",
            seen=", ".join(str(value) for value in ids[:3].to_pylist()) + ", ... in the sample",
            needed="the spectra that the primary catalogue lists",
            cause="spectra of another data release, or another part of them",
        )
    gone = pa.array(missing)
    return result.sample.filter(pc.invert(gone)), _lost(result.sample.filter(gone), NO_SPECTRUM, selection)


def _uncleaned(sample: pa.Table, cleaned: CleanedSample, selection: SampleSelection) -> pa.Table:
    dropped = np.ones(sample.num_rows, dtype=bool)
    dropped[cleaned.rows] = False
    reasons = pa.array([str(fate) for fate in cleaned.fate[dropped]], pa.string())
    return _lost(sample.filter(pa.array(dropped)), reasons, selection)


def _lost(rows: pa.Table, reasons: str | pa.Array, selection: SampleSelection) -> pa.Table:
    """Rows of the sample as a table of rejects."""
    told = pa.array([reasons] * rows.num_rows, pa.string()) if isinstance(reasons, str) else reasons
    columns = [rows[selection.cuts.id], rows["source_id"], rows["branch"], told]
    return pa.table(columns, names=[selection.cuts.id, "source_id", "branch", "reason"])


def _arrays(sample: pa.Table, selection: SampleSelection) -> Sample:
    """What the cleaning knows of each spectrum."""
    star = sample["source_id"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return Sample(
        ids=np.array([str(value) for value in sample[selection.cuts.id].to_pylist()]),
        labels=np.stack([floats(sample, label) for label in LABELS], axis=1),
        snr=floats(sample, "snr_i"),
        stars=star.astype(np.int64),
        kinds=np.array(sample["branch"].to_pylist(), dtype=str),
    )


def _models(settings: EmpiricalSample, recalibration: Recalibration, grid: WaveGrid) -> dict[str, ModelGrid] | None:
    """Model grids of the branches on the grid of the sample."""
    found = {}
    for branch, file in settings.models.items():
        path = Path(file).absolute()
        models = read_spectra_fits(path, labels=LABELS)
        flux = on_grid(models.flux, models.grid, grid, where=path)
        found[branch] = ModelGrid(
            flux, models.labels(LABELS), scales=recalibration.label_scales, method=recalibration.method
        )
    return found or None


def _write(paths: _Paths, sample: pa.Table, cleaned: CleanedSample, grid: WaveGrid, about: dict[str, Any]) -> int:
    """Both FITS products: the whole sample, and the reference grid."""
    table = sample.take(pa.array(cleaned.rows))
    for label in LABELS:
        column = table.schema.get_field_index(label)
        field = table.schema.field(label).with_metadata(field_metadata(_unit(label), "", f"{label} of the star"))
        table = table.set_column(column, field, table[label])
    for place, label in enumerate(LABELS):
        field = pa.field(f"{label}_left_out", pa.float32(), metadata=_left_out(label))
        values = cleaned.derived[:, place].astype(np.float32)
        table = table.append_column(field, pa.array(values, mask=np.isnan(values)))
    everything = LabelledSpectra(cleaned.flux, cleaned.ivar, grid, table)
    # Of the settings alone: the inputs are told by place and time, and equal ones must give equal files.
    provenance = {"CONFIG": digest_of(about["settings"])[:32]}
    write_spectra_fits(paths.out / SAMPLE, everything, provenance)
    chosen = cleaned.reference
    references = LabelledSpectra(cleaned.flux[chosen], cleaned.ivar[chosen], grid, table.filter(pa.array(chosen)))
    write_spectra_fits(paths.out / REFERENCES, references, provenance)
    return table.num_rows


def _unit(label: str) -> str:
    return "K" if label == "teff" else ""


def _left_out(label: str) -> dict[bytes, bytes]:
    return field_metadata(_unit(label), "", f"{label} by matching the spectrum against those of the other stars")


def _write_parquet(path: Path, table: pa.Table) -> None:
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary)
