"""Let an import that failed on some files go on when those are mended: what was spilled of the others is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from stellarscale.catalog import atomic
from stellarscale.catalog.import_plan import PLAN_FILE, ImportPlan, spill_directory
from stellarscale.catalog.spill import RECORD, SpillFiles, SpillRecord


def adopt_spilled(root: Path, plan: ImportPlan, unchanged: Sequence[int], *, before: str) -> None:
    """Make the spilled rows of unchanged files those of a new plan.

    Only for plans that differ in the content of other files alone, before any partition is written.

    Parameters
    ----------
    root : Path
        The catalogue being made.
    plan : ImportPlan
        The plan to go on with.
    unchanged : sequence of int
        Numbers of the files that are what they were; the others are read again.
    before : str
        Digest of the plan that the directory holds. What an older plan spilled is of an older file, and is dropped.
    """
    spill = spill_directory(root)
    for number in unchanged:
        path = SpillFiles.of(spill, number).directory / RECORD
        if path.is_file():
            record = SpillRecord.from_json(path.read_text(encoding="utf-8"))
            if record.digest != before:
                continue
            atomic.write_text(path, dataclasses.replace(record, digest=plan.digest).to_json())
    (spill / PLAN_FILE).unlink(missing_ok=True)
