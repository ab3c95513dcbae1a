"""What the small commands say of a catalogue or a run: info, verify, export, plot, status."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stellarscale.catalog.export import export
from stellarscale.catalog.export_paper import export_paper_table
from stellarscale.catalog.paper_table import load_paper_table
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import StoredCatalog, open_stored, read_columns, read_pixel
from stellarscale.catalog.subset import parse_subset
from stellarscale.catalog.verify import verify
from stellarscale.catalog.wide import wide_columns
from stellarscale.engine.ledger import HIDDEN, Ledger
from stellarscale.errors import InputError
from stellarscale.kernels.healpix import ORDER
from stellarscale.products.steps import Summary

PLOT_ROWS = 200_000
SKY_ORDER = 6
SUFFIXES = {".fits": "fits", ".fit": "fits", ".csv": "csv", ".vot": "votable", ".xml": "votable", ".parquet": "parquet"}


def describe_catalog(path: Path) -> Summary:
    """Rows, partitions, position columns, provenance, and every column with type, unit and description."""
    stored = open_stored(path)
    orders = [pixel.order for pixel in stored.pixels]
    columns = [_column(field) for field in stored.schema]
    return {
        "catalog": str(stored.root),
        "name": stored.properties.name,
        "rows": stored.num_rows,
        "partitions": len(stored.pixels),
        "orders": f"{min(orders)} to {max(orders)}" if orders else "none",
        "position": f"{stored.properties.ra}, {stored.properties.dec}",
        "properties": {k: v for k, v in stored.properties.extra.items() if k.startswith("stellarscale_")},
        "columns": columns,
    }


def verify_catalog(path: Path, *, deep: bool) -> Summary:
    """Problems of a catalogue; checksums come from the receipts where the catalogue still has them."""
    report = verify(path, deep=deep, checksums=_checksums(path) if deep else None)
    return {
        "catalog": str(path),
        "partitions": report.partitions,
        "rows": report.rows,
        "problems": [str(problem) for problem in report.problems],
    }


def _checksums(path: Path) -> dict[Pixel, str]:
    """What the receipts say that the files of a catalogue must be, where they are still there."""
    ledger = Ledger(path)
    receipts = [receipt for stage in ledger.stages() for receipt in ledger.receipts(stage).values()]
    return {Pixel.parse(r["pixel"]): r["checksum"] for r in receipts if r.get("checksum") and "pixel" in r}


def export_catalog(
    path: Path, out: Path, *, kind: str | None, columns: list[str] | None, subset: str | None
) -> Summary:
    """Write a catalogue as one file; the format comes from the suffix when none is given.

    Raises
    ------
    InputError
        If the suffix names no format.
    """
    part = parse_subset(subset) if subset is not None else None
    rows = export(open_stored(path), out, format=_format(out, kind), columns=columns, subset=part)
    return {"file": str(out), "rows": rows}


def export_paper(path: Path, out: Path, *, kind: str | None, subset: str | None) -> Summary:
    """Write the table that paper I publishes; how many stars it has, and how many it has not and why.

    Raises
    ------
    InputError, SchemaError
        If the catalogue is of another product, the suffix names no format, or a column of the table is missing.
    """
    part = parse_subset(subset) if subset is not None else None
    stored, paper = open_stored(path), load_paper_table()
    product = stored.properties.extra.get("stellarscale_product", "sages")
    if product != "sages":
        raise InputError(
            f"the table that paper I publishes is not for product {product}",
            where=path,
            seen=f"product {product}",
            needed="a catalogue of the product sages; --out writes any other",
        )
    done = export_paper_table(stored, out, paper, format=_format(out, kind), subset=part)
    return {
        "file": str(out),
        "rows": done.rows,
        "left_out": {"neither dwarf nor giant": done.other_class, "failing a cut": done.failed_cuts},
        "columns_left_out": ", ".join(done.columns_left_out) or "none",
    }


def _format(out: Path, kind: str | None) -> str:
    chosen = kind or SUFFIXES.get(out.suffix.lower())
    if chosen is None:
        raise InputError(
            "the suffix names no format of the export",
            where=out,
            seen=out.suffix or "no suffix",
            needed=f"one of {' '.join(SUFFIXES)}, or --format",
        )
    return chosen


def plot_stored(path: Path, out: Path) -> Summary:
    """Draw a catalogue's sky map and, as far as it has the columns, its diagrams."""
    from stellarscale.report.plots import plot_catalog

    stored = open_stored(path)
    files = plot_catalog(sample_rows(stored), sky_counts(stored), out)
    return {"files": [str(file) for file in files]}


def sample_rows(stored: StoredCatalog, rows: int = PLOT_ROWS) -> pa.Table:
    """About this many rows from all partitions, evenly thinned along the sky, without spectra."""
    step = max(1, -(-stored.num_rows // rows))
    spectra = wide_columns(stored.schema)
    columns = [name for name in stored.schema.names if name not in spectra]
    tables = (read_pixel(stored, pixel, columns=columns) for pixel in stored.pixels)
    parts = [table if step == 1 else table.take(np.arange(0, table.num_rows, step)) for table in tables]
    return pa.concat_tables(parts) if parts else stored.schema.empty_table().select(columns)


def sky_counts(stored: StoredCatalog) -> Any:
    """Rows per HEALPix pixel, for the sky map."""
    from stellarscale.report.content import SkyCounts

    keys = read_columns(stored, ["_healpix_29"])["_healpix_29"].to_numpy() >> (2 * (ORDER - SKY_ORDER))
    pixels, counts = np.unique(keys, return_counts=True)
    return SkyCounts(order=SKY_ORDER, ipix=pixels, counts=counts)


def run_status(run_dir: Path) -> Summary:
    """How far a run, or one catalogue's making, has come; its steps by the time when they began.

    Catalogues in a store that several runs share are among them once a step of this run has taken them as input.

    Raises
    ------
    InputError
        If the directory holds neither.
    """
    found = {path.parent.parent for path in run_dir.rglob(f"{HIDDEN}/run.json")}
    outs = [out for out in found if not out.name.startswith(".")]  # what is being removed is hidden
    if not outs:
        raise InputError("there is no run here", where=run_dir, needed=f"a directory with {HIDDEN}/run.json")
    whole = Ledger(run_dir).run().get("step") == "run"
    known = _with_inputs(outs) if whole else {out.resolve(): Ledger(out).run() for out in outs}
    steps = [(out, content) for out, content in known.items() if content["step"] != "run"]
    steps.sort(key=lambda step: (step[1]["started_at"], str(step[0])))
    return {
        "run": str(run_dir),
        "finished": f"{sum('finished' in content for _, content in steps)} of the {len(steps)} steps begun",
        "steps": [_step(Ledger(out), content, run_dir.resolve()) for out, content in steps],
    }


def _with_inputs(outs: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """``run.json`` of these directories, and of the inputs, at any distance, that were made by a step too."""
    found: dict[Path, dict[str, Any]] = {}
    waiting = [out.resolve() for out in outs]
    while waiting:
        out = waiting.pop()
        content = {} if out in found else Ledger(out).run()
        if content:
            found[out] = content
            waiting += [Path(item["path"]).resolve() for item in content.get("inputs", ())]
    return found


def _step(ledger: Ledger, content: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    done = {stage: len(ledger.receipts(stage)) for stage in ledger.stages()}
    finished = content.get("finished")
    rows = sum(int(r.get("rows_out", 0)) for r in ledger.receipts(ledger.stages()[-1]).values()) if done else 0
    if not done and finished is not None:  # a step of one task has no receipts
        done, rows = dict(content.get("tasks", {})), int(finished.get("written", 0))
    return {
        "step": content["step"],
        "where": str(ledger.out.relative_to(run_dir) if ledger.out.is_relative_to(run_dir) else ledger.out),
        "state": _state(content),
        "tasks_done": sum(done.values()),
        "tasks": sum(content["tasks"].values()) if "tasks" in content else None,
        "rows": rows,
        "started": content["started_at"],
    }


def _state(content: dict[str, Any]) -> str:
    """Finished, running, or neither; of a process on another machine nothing is known."""
    if "finished" in content:
        return "finished"
    process = content.get("process")
    if process is None:
        return "failed or killed"
    if process["host"] != socket.gethostname():
        return f"not finished, on {process['host']}"
    return "running" if _is_alive(process["pid"]) else "failed or killed"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there, and somebody else's
        return True
    return True


def _column(field: pa.Field) -> dict[str, str]:
    metadata = field.metadata or {}
    unit, text = metadata.get(b"unit", b"").decode(), metadata.get(b"description", b"").decode()
    return {"name": field.name, "type": str(field.type), "unit": unit or "-", "description": text or "-"}
