"""The steps that products and the command line share: import, match, map a function over a catalogue."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from stellarscale.catalog.import_mend import adopt_spilled
from stellarscale.catalog.import_plan import ImportConfig, ImportPlan, plan_import, prepare_output, spill_directory
from stellarscale.catalog.importer import find_duplicates, finish_import, plan_partitions, remove_spill
from stellarscale.catalog.pixels import Pixel, pixels_touching
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import StoredCatalog, open_stored
from stellarscale.catalog.spill import spill_file
from stellarscale.catalog.subset import parse_subset
from stellarscale.catalog.writer import PixelRecord, finish_catalog, sweep_temporary
from stellarscale.config import digest_of
from stellarscale.engine.client import capacity, connect
from stellarscale.engine.ledger import Ledger, fingerprint, open_ledger
from stellarscale.engine.progress import Progress
from stellarscale.engine.stage import StageResult, run_stage
from stellarscale.engine.tasks import ImportTask, reduce_one, spill_one
from stellarscale.errors import CatalogError, RowCountError
from stellarscale.schema import load_survey

if TYPE_CHECKING:
    from distributed import Client

Summary = dict[str, Any]


@dataclass(frozen=True)
class Session:
    """A connected client, where progress is shown, and whether steps whose settings changed are made anew."""

    client: Client
    progress: Progress
    update: bool = False

    @property
    def threads(self) -> int:
        """Threads of all workers."""
        return capacity(self.client)


@contextmanager
def session(cluster: str = "threads", *, update: bool = False) -> Iterator[Session]:
    """Connect to a cluster for the time of some steps; see :func:`stellarscale.engine.client.connect`."""
    with connect(cluster) as client:
        yield Session(client, Progress(), update)


def import_survey(
    on: Session,
    files: Sequence[Path | str],
    survey: str,
    out: Path,
    *,
    columns: Sequence[str] = (),
    max_rows: int = 1_000_000,
    fresh: bool = False,
) -> Summary:
    """Import survey files into a HATS catalogue.

    Parameters
    ----------
    on : Session
    files : sequence of path
        Files of one survey.
    survey : str
        Name or path of its schema.
    out : Path
        Catalogue to make; a killed import of the same files goes on where it stopped.
    columns : sequence of str
        Canonical columns to import beside id, position, motion, epoch and what the schema requires; all when empty.
    max_rows : int
        Row cap of a partition.
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
    config = ImportConfig(max_rows=max_rows, threads=on.threads, columns=tuple(columns))
    plan = plan_import(files, schema, config)
    numbers = {f"{number:06d} {path.name[:40]}": number for number, path in enumerate(plan.files)}
    about = _about(plan)
    if not fresh:
        _go_on_if_mended(out, plan, about, list(numbers))
    ledger = open_ledger(out, step="import", digest=plan.digest, about=about, fresh=fresh, update=on.update)
    if ledger.finished:
        remove_spill(spill_directory(out))
        return {**ledger.finished, "resumed": True}
    task = ImportTask(plan, prepare_output(plan, out), out)
    stage = partial(run_stage, on.client, ledger=ledger, progress=on.progress)
    spilled = stage(partial(spill_one, task), numbers, stage="read")
    records = [spill_file(plan.files[n], plan, task.spill, n) for n in numbers.values()]
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
    ledger.finish(summary)
    remove_spill(task.spill)  # only now: a run that is killed before the summary needs it again
    return summary


def _about(plan: ImportPlan) -> dict[str, Any]:
    """What an import was made with, for ``run.json``."""
    settings = {
        "survey": plan.schema.name,
        "schema": digest_of(plan.schema),
        "columns": ", ".join(plan.columns),
        "max_rows": plan.config.max_rows,
        "first_ids": list(plan.first_ids),
    }
    return {"settings": settings, "inputs": [fingerprint(path) for path in plan.files]}


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


@dataclass(frozen=True)
class Mapped:
    """A catalogue to be made from another one, partition by partition."""

    step: str
    source: Path
    out: Path
    schema: pa.Schema
    properties: CatalogProperties
    settings: Mapping[str, Any]
    inputs: tuple[Path, ...] = ()


_COUNTS = ("matched", "only_calibrate")  # of steps that have them


def map_catalog(
    on: Session,
    work: Callable[[Pixel], dict[str, Any]],
    mapped: Mapped,
    *,
    subset: str | None = None,
    fresh: bool = False,
) -> Summary:
    """Run a worker's function over the partitions of a catalogue, and finish the catalogue it writes.

    Rows are counted at the hand-over: what the receipts say was written must be what the files hold.

    Raises
    ------
    RowCountError
        If they do not agree.
    RunError, CatalogError
        As :func:`stellarscale.engine.stage.run_stage` and :func:`stellarscale.engine.ledger.open_ledger`.
    """
    started = time.perf_counter()
    inputs = [fingerprint(path) for path in (mapped.source, *mapped.inputs)]
    digest = digest_of(mapped.step, dict(mapped.settings), subset, inputs, str(mapped.schema))
    about = {"settings": dict(mapped.settings), "subset": subset, "inputs": inputs}
    ledger = open_ledger(mapped.out, step=mapped.step, digest=digest, about=about, fresh=fresh, update=on.update)
    if ledger.finished:
        return {**ledger.finished, "resumed": True}
    sweep_temporary(mapped.out)
    pixels = chosen_pixels(open_stored(mapped.source), subset)
    stage = run_stage(
        on.client, work, {str(p): p for p in pixels}, ledger=ledger, stage=mapped.step, progress=on.progress
    )
    written = _finish(mapped, stage, digest)
    summary = {
        "step": mapped.step,
        "catalog": str(mapped.out),
        "rows_in": stage.total("rows_in"),
        "written": written,
        **{name: stage.total(name) for name in _COUNTS if any(name in each for each in stage.receipts.values())},
        "rejected": _sum_reasons(stage),
        "partitions": len(pixels),
        "bytes": stage.total("bytes"),
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory_mb": stage.peak_memory_mb,
        "resumed_partitions": stage.resumed,
    }
    ledger.finish(summary)
    return summary


def chosen_pixels(catalog: StoredCatalog, subset: str | None) -> list[Pixel]:
    """Partitions of a catalogue that a ``--subset`` touches, along the sky."""
    return pixels_touching(catalog.pixels, parse_subset(subset).ranges() if subset is not None else None)


def inherited(properties: CatalogProperties, name: str, **extra: str) -> CatalogProperties:
    """Properties of a catalogue made from another: its sky columns stay, what others wrote about it does not."""
    counts = {"stellarscale_rows_in", "stellarscale_rejected", "stellarscale_duplicates"}  # of its import, not ours
    entries = properties.extra.items()
    kept = {key: value for key, value in entries if key.startswith("stellarscale_") and key not in counts}
    kept |= {f"stellarscale_{key}": value for key, value in extra.items()}
    return CatalogProperties(name=name, ra=properties.ra, dec=properties.dec, extra=kept)


def pixel_record(receipt: Mapping[str, Any]) -> PixelRecord:
    """A receipt's partition as the writer's record."""
    return PixelRecord(Pixel.parse(receipt["pixel"]), receipt["rows_out"], receipt["bytes"], receipt["checksum"])


def _finish(mapped: Mapped, stage: StageResult, digest: str) -> int:
    records = [pixel_record(receipt) for receipt in stage.receipts.values()]
    rows = sum(record.rows for record in records)
    extra = {**mapped.properties.extra, "stellarscale_config_digest": digest}
    properties = replace(mapped.properties, rows=rows, extra=extra)
    found = finish_catalog(mapped.out, properties, mapped.schema, [r.pixel for r in records if r.rows])
    if found != rows:
        raise RowCountError("the files do not hold the rows of the receipts", where=mapped.out, seen=found, needed=rows)
    return rows


def _sum_reasons(stage: StageResult) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for receipt in stage.receipts.values():
        for reason, rows in receipt.get("rejected", {}).items():
            reasons[reason] = reasons.get(reason, 0) + rows
    return reasons
