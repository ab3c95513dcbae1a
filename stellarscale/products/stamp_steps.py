"""Image stamps of the stars of a catalogue: one step of a product."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from stellarscale.catalog.reader import open_stored
from stellarscale.engine.ledger import Ledger
from stellarscale.engine.stamp_tasks import StampTask, check_stamps, stamp_pixel
from stellarscale.partition.stamp_config import StampConfig
from stellarscale.products.inputs import run_directory
from stellarscale.products.steps import Mapped, Session, Summary, inherited, map_catalog
from stellarscale.settings.acf import AcfJob
from stellarscale.settings.stamps import StampSettings

log = logging.getLogger(__name__)

STEP = "stamps"
MOST_LOST = 0.02
"""Share of the detections that may be unusable, beside those that fail a cut of the job, without a warning."""


def make_stamp_catalog(
    on: Session, job: AcfJob, source: Path, catalogs: Mapping[str, Path], out: Path, *, name: str, steps: list[Summary]
) -> Path:
    """Make the stamps of every star of a catalogue (paper III, section 2.3).

    Parameters
    ----------
    on : Session
    job : AcfJob
        Its ``stamps`` say how; its catalogues which detections and exposures.
    source : Path
        Catalogue of stars.
    catalogs : mapping of str to Path
        Imported catalogues by the job's names.
    out : Path
        Catalogue to make; ``<out>_rejects`` beside it holds the detections that are in no stamp, a file for each
        partition.
    name : str
        What the list of steps calls it.
    steps : list
        Gets the summary: rows, and detections ``used``, ``full_wcs``, ``other_zero_points`` and ``unused`` by
        reason.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    SchemaError, ConfigError
        As :func:`stellarscale.engine.stamp_tasks.check_stamps`.
    """
    stored, settings = open_stored(source), _located(job.stamps)
    task = StampTask(
        stars=source,
        detections=catalogs[settings.detections],
        images=catalogs[settings.images] if settings.images else None,
        out=out,
        rejects=rejects_of(out),
        config=StampConfig(settings, stored.properties.ra, stored.properties.dec),
    )
    mapped = Mapped(
        step=STEP,
        source=source,
        inputs=tuple(path for path in (task.detections, task.images) if path is not None),
        out=out,
        schema=check_stamps(task),
        properties=inherited(stored.properties, out.name),
        settings={"stamps": settings.model_dump(mode="json"), "margin_arcsec": task.margin_arcsec},
    )
    done = map_catalog(on, partial(stamp_pixel, task), mapped)
    counts = detection_counts(out)
    _tell_of_unused(name, counts, out)
    if counts["other_zero_points"]:
        log.warning(
            "%s: tables give %s detections a zero-point outside %g to %g mag; that of exposure or header is used",
            name, f"{counts['other_zero_points']:,}", *settings.zero_points,
        )  # fmt: skip
    steps.append({**done, **counts, "name": name})
    return out


def stamps_of_run(job: AcfJob) -> Path:
    """Where the stamps are of the stars that get parameters."""
    return run_directory(job) / "catalogs" / "stamps"


def _tell_of_unused(name: str, counts: dict[str, Any], out: Path) -> None:
    """Say how many detections are in no stamp, and why: a warning when many are, not counting the cuts of the job."""
    unused = dict(sorted(counts["unused"].items(), key=lambda item: -item[1]))
    number, lost = sum(unused.values()), sum(n for reason, n in unused.items() if not reason.startswith("cut "))
    if number:
        log.log(
            logging.WARNING if lost > MOST_LOST * (lost + counts["used"]) else logging.INFO,
            "%s: %s of %s detections left out: %s; in %s",
            name, f"{number:,}", f"{number + counts['used']:,}",
            ", ".join(f"{reason} {n:,}" for reason, n in unused.items()), rejects_of(out),
        )  # fmt: skip


def rejects_of(out: Path) -> Path:
    """Directory of the detections that are in no stamp of a catalogue."""
    return out.with_name(f"{out.name}_rejects")


def detection_counts(out: Path) -> dict[str, Any]:
    """Detections in a catalogue's stamps, ``full_wcs`` and ``other_zero_points`` among them; ``unused`` by reason."""
    receipts = Ledger(out).receipts(STEP).values()
    unused: dict[str, int] = {}
    for receipt in receipts:
        for reason, count in receipt["unused"].items():
            unused[reason] = unused.get(reason, 0) + count
    sums = {key: sum(int(receipt[key]) for receipt in receipts) for key in ("used", "full_wcs", "other_zero_points")}
    return {**sums, "unused": dict(sorted(unused.items()))}


def _located(settings: StampSettings) -> StampSettings:
    """The settings with absolute paths: a worker need not run where the command was given."""
    files, reddening = str(Path(settings.files).absolute()), settings.reddening
    if reddening is not None and reddening.sfd98 is not None:
        reddening = reddening.model_copy(update={"sfd98": str(Path(reddening.sfd98).absolute())})
    return settings.model_copy(update={"files": files, "reddening": reddening})
