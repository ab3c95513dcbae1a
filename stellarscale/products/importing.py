"""The import of a survey as a step: plan, read, write, finish; and the margin cache that may go beside it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from stellarscale.catalog.import_mend import adopt_spilled
from stellarscale.catalog.import_plan import (
    ImportConfig,
    ImportPlan,
    default_max_rows,
    plan_import,
    prepare_output,
    spill_directory,
)
from stellarscale.catalog.importer import REJECTS_FILE, find_duplicates, finish_import, plan_partitions, remove_spill
from stellarscale.catalog.reader import open_stored
from stellarscale.catalog.spectra_files import by_directory
from stellarscale.catalog.spill import spill_source
from stellarscale.config import digest_of
from stellarscale.engine.ledger import Ledger, fingerprint, open_ledger
from stellarscale.engine.stage import run_stage
from stellarscale.engine.tasks import ImportTask, reduce_one, spill_one
from stellarscale.errors import CatalogError, ConfigError
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.products.steps import Session, Summary, pixel_record
from stellarscale.schema import load_survey, parse_mapping
from stellarscale.settings.spectra import Grid


def import_survey(
    on: Session,
    files: Sequence[Path | str],
    survey: str,
    out: Path,
    *,
    columns: Sequence[str] = (),
    max_rows: int | None = None,
    grid: WaveGrid | None = None,
    fresh: bool = False,
) -> Summary:
    """Import survey files into a HATS catalogue.

    Parameters
    ----------
    on : Session
    files : sequence of path
        Files of one survey; of spectra also directories, patterns and ``@FILE``, a list of them, see
        :func:`~stellarscale.catalog.spectra_files.list_files`.
    survey : str
        Name or path of its schema.
    out : Path
        Catalogue to make; a killed import of the same files goes on where it stopped.
    columns : sequence of str
        Canonical columns to import beside id, position, motion, epoch and what the schema requires; all when empty.
    max_rows : int, optional
        Row cap of a partition; a million, or 20,000 spectra, when absent.
    grid : WaveGrid, optional
        Wavelengths that spectra are stored on; those of the survey's schema when absent.
    fresh : bool
        Start over.

    Returns
    -------
    dict
        ``rows_in``, ``written``, ``rejected``, ``duplicates``, ``partitions``, ``seconds`` and more.

    Raises
    ------
    InputError, SchemaError, ConfigError, CatalogError
        Before anything is written, when the input, the columns or the output directory are not usable.
    RunError
        When files or partitions failed; what is finished stays.
    """
    started = time.perf_counter()
    out = out.absolute()  # a worker need not run where the command was given
    schema = load_survey(survey)
    rows = default_max_rows(schema) if max_rows is None else max_rows
    config = ImportConfig(max_rows=rows, threads=on.threads, columns=tuple(columns), grid=grid)
    plan = plan_import(files, schema, config)
    numbers = {f"{number:06d} {_name(plan, number)}": number for number in range(plan.sources)}
    about = _about(plan)
    if not fresh and plan.spectra is None:
        _go_on_if_mended(out, plan, about, list(numbers))
    ledger = open_ledger(out, step="import", digest=plan.digest, about=about, fresh=fresh, update=on.update)
    if ledger.finished:
        remove_spill(spill_directory(out))
        return {**ledger.finished, "resumed": True}
    spill = prepare_output(plan, out)
    plan = plan.for_workers()
    task = ImportTask(plan, spill, out)
    stage = partial(run_stage, on.client, ledger=ledger, progress=on.progress)
    spilled = stage(partial(spill_one, task), numbers, stage="read")
    records = [spill_source(number, plan, task.spill) for number in numbers.values()]
    parts = plan_partitions(records, plan, task.spill)
    with ThreadPoolExecutor(min(on.threads, os.cpu_count() or 1)) as pool:
        duplicates = find_duplicates(records, plan, task.spill, mapper=pool.map)
    written = stage(partial(reduce_one, task), {str(part.pixel): part for part in parts}, stage="write")
    pixels = [pixel_record(receipt) for receipt in written.receipts.values()]
    done = finish_import(plan, out, task.spill, records=records, written=pixels, duplicates=duplicates)
    summary = {
        "step": "import",
        "catalog": str(out),
        "survey": schema.name,
        "files": done.files,
        "rows_in": done.rows_in,
        "written": done.rows_out,
        "rejected": done.rejected,
        "duplicates": done.duplicates,
        "partitions": done.partitions,
        "bytes": done.bytes,
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory_mb": max(spilled.peak_memory_mb, written.peak_memory_mb),
        "resumed_partitions": written.resumed,
    }
    if done.rejected:
        summary["rejects"] = _first_reject(out)
    ledger.finish(summary)
    remove_spill(task.spill)  # only now: a run that is killed before the summary needs it again
    return summary


def _first_reject(out: Path) -> str:
    """Where the rejects are, and the first of them: most often it stands for the others."""
    path = out / REJECTS_FILE
    with pq.ParquetFile(path) as file:
        first = next(file.iter_batches(1, columns=["file", "reason"])).to_pylist()[0]
    return f"{path}; the first: {first['file']}: {first['reason']}"


def _about(plan: ImportPlan) -> dict[str, Any]:
    """What an import was made with, for ``run.json``."""
    settings = {
        "survey": plan.schema.name,
        "schema": digest_of(plan.schema),
        "columns": ", ".join(plan.columns),
        "max_rows": plan.config.max_rows,
    }
    if plan.spectra is not None and plan.spectra.listing is not None:
        settings |= {"grid": str(plan.spectra.grid)}
        return {"settings": settings, "inputs": by_directory(plan.spectra.listing)}
    settings |= {"first_ids": list(plan.first_ids)}
    return {"settings": settings, "inputs": [fingerprint(path) for path in plan.files]}


def _name(plan: ImportPlan, number: int) -> str:
    return "spectra" if plan.spectra else plan.files[number].name[:40]


def grid_within(survey: str, wave_aa: tuple[float, float]) -> WaveGrid:
    """The grid of a survey's spectra on another range of vacuum wavelengths, Angstrom.

    Raises
    ------
    ConfigError
        If the survey has no spectra, or the range holds no wavelength.
    """
    schema = load_survey(survey)
    if schema.spectrum is None:
        raise ConfigError("a range of wavelengths is given, and the survey has no spectra", where=f"survey {survey}")
    settings = schema.spectrum.grid.model_dump() | {"wave_aa": wave_aa}
    return parse_mapping(Grid, settings, where="range of wavelengths").wave_grid


def _go_on_if_mended(out: Path, plan: ImportPlan, about: dict[str, Any], keys: Sequence[str]) -> None:
    """Keep what was read of the good files when an import that failed on others comes again with those mended."""
    ledger = Ledger(out)
    known = ledger.run()
    if known.get("step") != "import" or known["digest"] == plan.digest or ledger.receipts("write"):
        return
    before, now = known["inputs"], about["inputs"]
    same_files = [item["path"] for item in before] == [item["path"] for item in now]
    if ledger.finished or known["settings"] != about["settings"] or not same_files:
        return
    changed = [number for number, item in enumerate(now) if item != before[number]]
    unchanged = [number for number in range(len(now)) if number not in changed]
    adopt_spilled(out, plan, unchanged, before=known["digest"])
    ledger.go_on_with(plan.digest, about, stage="read", redo=[keys[number] for number in changed])


def margin_path(catalog: Path) -> Path:
    """Where the margin cache of a catalogue goes.

    Raises
    ------
    CatalogError
        If something else than an earlier margin cache of this catalogue is there.
    """
    out = catalog.with_name(f"{catalog.name}_margin")
    if out.exists() and not _is_margin_of(out, catalog.name):
        raise CatalogError("the margin cache's place is taken", where=out, needed="remove it, or choose another --out")
    return out


def _is_margin_of(out: Path, name: str) -> bool:
    if not (out / "hats.properties").is_file():
        return False
    properties = open_stored(out).properties
    return properties.kind == "margin" and properties.extra.get("hats_primary_table_url") == name


def write_margin_cache(catalog: Path, threshold_arcsec: float) -> str:
    """Write ``<catalog>_margin`` for tools that want one, in place of an earlier one; returns its path."""
    from stellarscale.catalog.margins import write_margin

    out = margin_path(catalog)
    if out.exists():
        shutil.rmtree(out)
    write_margin(open_stored(catalog), out, threshold_arcsec=threshold_arcsec)
    return str(out)
