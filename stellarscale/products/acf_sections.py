"""What the sections of an acf report are drawn from: training set, networks, catalogue, stamps (paper III)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog.gather import gather_rows
from stellarscale.catalog.reader import StoredCatalog, open_stored
from stellarscale.engine.image_training_set import TABLE_FILE
from stellarscale.flags import COLUMN, decode
from stellarscale.kernels.dust import galactic
from stellarscale.models.image_errors import few_stars
from stellarscale.partition.features import floats
from stellarscale.products.image_models import TRAINING_SET, TrainedNetwork
from stellarscale.products.scan import thinned
from stellarscale.products.stamp_steps import STEP as STAMPS_STEP
from stellarscale.products.steps import Summary
from stellarscale.report.content import ExtraSection
from stellarscale.report.image_sections import (
    gallery_section,
    map_section,
    sample_section,
    training_section,
    uncertainty_section,
    value_line,
)
from stellarscale.report.labels import count
from stellarscale.report.plots_image_stars import GalleryStar
from stellarscale.report.plots_images import TrainingCurve, Uncertainty
from stellarscale.report.tables import table
from stellarscale.settings.acf import AcfJob
from stellarscale.stamp_columns import STAMP, stamps_of

PLOT_ROWS = 200_000


def sample_of(job: AcfJob, out: Path) -> ExtraSection | None:
    """Labels and parallaxes of the splits; None where the networks come from another run."""
    path = out / TRAINING_SET / TABLE_FILE
    if job.pretrained is not None or not path.is_file():
        return None
    table = pq.read_table(path, partitioning=None)
    labels = {label: floats(table, label) for label in job.units}
    return sample_section(labels, floats(table, "parallax"), table["split"].to_numpy(), job.units)


def curves_of(networks: Sequence[TrainedNetwork], models: Path) -> ExtraSection | None:
    """Loss by epoch and early looks, of the networks that this run has trained."""
    curves, looks = [], {}
    for network in networks:
        if not network.curve:
            continue
        path = models / f"{network.name}_early_look.json"
        if path.is_file():
            looks[network.name] = json.loads(path.read_text())
        look = looks.get(network.name, {}).get("epoch", 0)
        curves.append(TrainingCurve.of(network.name, network.curve, look))
    return training_section(curves, looks)


def uncertainties_of(job: AcfJob, stored: StoredCatalog) -> ExtraSection | None:
    """Spread of the dropout samples, and the calibrated error, against each parameter (paper III, Fig. 9)."""
    kinds = {"_std": "standard deviation of the dropout samples", "_err": "calibrated error"}
    names = [f"{label}{ending}" for label in job.units for ending in ("", *kinds)]
    stars, _ = thinned(stored, names, PLOT_ROWS)
    return uncertainty_section(
        {
            title: [
                Uncertainty(label, unit, floats(stars, label), floats(stars, f"{label}{ending}"))
                for label, unit in job.units.items()
                if np.isfinite(floats(stars, f"{label}{ending}")).any()
            ]
            for ending, title in kinds.items()
        }
    )


def calibration_notes(job: AcfJob, steps: Sequence[Summary]) -> list[str]:
    """What a reader must know of claimed errors that few stars calibrated; nothing where another run did it."""
    stars = {name: n for step in steps for name, n in step.get("calibrated", {}).items() if n}
    told: dict[str, list[str]] = {}
    for name in sorted(stars):  # as they come from a file of steps, too
        if few := few_stars(stars[name], job.errors):
            told.setdefault(few, []).append(name)
    return [f"Claimed errors of {', '.join(names)}: {few}." for few, names in told.items()]


def maps_of(job: AcfJob, stored: StoredCatalog) -> ExtraSection | None:
    """Kiel diagram and the Galaxy's metallicity (paper III, Figs 15 and 16); None without parallaxes in the output."""
    parallax = job.column_of(job.parallax)
    if parallax is None:
        return None
    position = (stored.properties.ra, stored.properties.dec)
    stars, _ = thinned(stored, [*job.units, parallax, *position], PLOT_ROWS)
    l_deg, b_deg = galactic(*(floats(stars, name) for name in position))
    return map_section({label: floats(stars, label) for label in job.units}, l_deg, b_deg, floats(stars, parallax))


def detections_of(steps: Sequence[Summary]) -> ExtraSection | None:
    """Detections that the stamps are made of, and why the others are in none; None where no step made stamps."""
    rows = [
        {
            "step": step["name"],
            "stars": step["written"],
            **{name: step[name] for name in ("used", "full_wcs", "unused")},
        }
        for step in steps
        if step["step"] == STAMPS_STEP
    ]
    if not rows:
        return None
    head = ["Step<", "Stars", "Detections|in stamps", "By the full map|of those", "In no stamp", "Why<"]
    cells = [
        [
            escape(row["step"]),
            *(count(row[name]) for name in ("stars", "used", "full_wcs")),
            count(sum(row["unused"].values())),
            escape("; ".join(f"{reason}: {number:,}" for reason, number in row["unused"].items())),
        ]
        for row in rows
    ]
    html = (
        "<p>The full map of the header aligns images that an affine map does not fit. The directories "
        "<code>catalogs/stamps..._rejects</code> name every detection that is in no stamp. A star that lacks a band, "
        "or much of it, has no parameters and a flag.</p>"
    )
    return ExtraSection("image_stamps", "Stamps", html + table(head, cells), (), rows)


def gallery_of(job: AcfJob, stored: StoredCatalog, stamps: Path) -> ExtraSection | None:
    """Stamps of some stars, spread evenly over the first parameter; the last ones are stars with a flag."""
    star = job.column_of(job.stamps.object_id)
    if not job.gallery or star is None:
        return None
    values = [name for label in job.units for name in (label, f"{label}_err")]
    stars, _ = thinned(stored, [star, COLUMN, *values], PLOT_ROWS)
    chosen = stars.take(_spread(stars, next(iter(job.units)), job.gallery))
    found = gather_rows(open_stored(stamps), job.stamps.object_id, chosen[star].combine_chunks(), [STAMP])
    found = found.filter(found[STAMP].is_valid()).combine_chunks()
    places = {number: place for place, number in enumerate(found[job.stamps.object_id].to_pylist())}
    pictures = stamps_of(found)
    shown = [
        _gallery_star(job, row, pictures[places[row[star]]].astype(np.float32), str(row[star]))
        for row in chosen.to_pylist()
        if row[star] in places
    ]
    return gallery_section(shown, job.stamps.bands)


def _spread(stars: pa.Table, label: str, most: int) -> NDArray[np.int64]:
    """Rows of unflagged stars at evenly spaced ranks of a parameter, and of a few flagged ones."""
    value, flagged = floats(stars, label), stars[COLUMN].fill_null(0).to_numpy() != 0
    good = np.flatnonzero(np.isfinite(value) & ~flagged)
    good = good[np.argsort(value[good], kind="stable")]
    doubtful = np.flatnonzero(flagged)[: max(most // 4, 1)]
    ranks = np.linspace(0, len(good) - 1, most - len(doubtful)).round().astype(np.int64)
    return np.concatenate([good[np.unique(ranks)] if len(good) else good, doubtful])


def _gallery_star(job: AcfJob, row: dict, stamp: NDArray[np.float32], title: str) -> GalleryStar:
    def number(name: str) -> float:
        return np.nan if row[name] is None else row[name]

    lines = [value_line(label, unit, number(label), number(f"{label}_err")) for label, unit in job.units.items()]
    return GalleryStar(title, stamp, lines, decode(row[COLUMN] or 0))
