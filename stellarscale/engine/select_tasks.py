"""What workers do for one partition of matched stars: the selection. No Dask here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import read_pixel
from stellarscale.catalog.subset import Subset
from stellarscale.catalog.writer import WriteOptions, write_pixel
from stellarscale.engine.tasks import Record, chosen_rows, record_of, stored_catalog
from stellarscale.partition.select import select_rows
from stellarscale.settings.cuts import Selection


@dataclass(frozen=True)
class SelectTask:
    """The stars of a matched catalogue that a selection takes."""

    source: Path
    out: Path
    selection: Selection
    seed: int
    subset: Subset | None = None
    write: WriteOptions = field(default_factory=WriteOptions)


def select_pixel(task: SelectTask, pixel: Pixel) -> Record:
    """Select the stars of one partition; lost ones are counted by reason."""
    catalog = stored_catalog(task.source)
    table = chosen_rows(read_pixel(catalog, pixel), task.subset, catalog)
    kept, lost = select_rows(table, task.selection, seed=task.seed, pixel=(pixel.order, pixel.ipix))
    written = write_pixel(task.out, pixel, kept, task.write)
    return {"rows_in": table.num_rows, "rejected": lost, **record_of(written)}
