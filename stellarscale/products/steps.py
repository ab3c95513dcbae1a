"""The steps that products and the command line share: import, match, map a function over a catalogue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from stellarscale.catalog.pixels import Pixel, pixels_touching
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import StoredCatalog, open_stored
from stellarscale.catalog.subset import parse_subset
from stellarscale.catalog.writer import PixelRecord, finish_catalog, sweep_temporary
from stellarscale.config import digest_of
from stellarscale.engine.client import capacity, connect
from stellarscale.engine.ledger import fingerprint, open_ledger
from stellarscale.engine.progress import Progress
from stellarscale.engine.stage import StageResult, run_stage
from stellarscale.errors import RowCountError

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


@dataclass(frozen=True)
class Mapped:
    """A catalogue to be made from another one, partition by partition.

    ``conserved`` says that every row that is read is written or rejected with a reason; a match need not.
    """

    step: str
    source: Path
    out: Path
    schema: pa.Schema
    properties: CatalogProperties
    settings: Mapping[str, Any]
    inputs: tuple[Path, ...] = ()
    conserved: bool = True


_COUNTS = ("matched", "several", "only_calibrate")  # of steps that have them


def map_catalog(
    on: Session,
    work: Callable[[Pixel], dict[str, Any]],
    mapped: Mapped,
    *,
    subset: str | None = None,
    fresh: bool = False,
    resources: Mapping[str, float] | None = None,
) -> Summary:
    """Run a worker's function over the partitions of a catalogue, and finish the catalogue it writes.

    Rows are counted at the hand-over: what was read must be written or rejected, partition by partition, and what the
    receipts say was written must be what the files hold. ``resources`` are what a worker must have for a partition, as
    in :func:`stellarscale.engine.stage.run_stage`.

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
        on.client,
        work,
        {str(p): p for p in pixels},
        ledger=ledger,
        stage=mapped.step,
        progress=on.progress,
        resources=resources,
    )
    if mapped.conserved:
        _check_conserved(mapped, stage)
    part = {"stellarscale_subset": subset} if subset is not None else {}
    written = _finish(mapped, stage, {"stellarscale_config_digest": digest, **part})
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


def _check_conserved(mapped: Mapped, stage: StageResult) -> None:
    for receipt in stage.receipts.values():
        accounted = receipt["rows_out"] + sum(receipt.get("rejected", {}).values())
        if accounted != receipt["rows_in"]:
            raise RowCountError(
                "rows were lost or doubled in a partition",
                where=f"{mapped.out}, {receipt['pixel']}",
                seen=f"{accounted:,} written or rejected",
                needed=f"{receipt['rows_in']:,} read",
                cause="a fault of the program: please report it",
            )


def _finish(mapped: Mapped, stage: StageResult, about: dict[str, str]) -> int:
    records = [pixel_record(receipt) for receipt in stage.receipts.values()]
    rows = sum(record.rows for record in records)
    extra = {**mapped.properties.extra, **about}
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
