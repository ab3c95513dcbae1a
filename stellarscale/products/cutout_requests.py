"""Which cut-outs a job needs: the detections of its stars, and the command that fetches them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import StoredCatalog, open_stored, read_pixel, read_ranges
from stellarscale.config import Job, digest_of
from stellarscale.engine.ledger import keep_apart, open_ledger
from stellarscale.engine.progress import Progress
from stellarscale.errors import InputError
from stellarscale.kernels import healpix
from stellarscale.partition.cuts import cut_columns, passes
from stellarscale.products.adql import acf_job
from stellarscale.products.cutouts_download import LAYOUT, download_cutouts
from stellarscale.products.inputs import checked_inputs, import_catalogs, run_directory, store_of
from stellarscale.products.matching import match_chain
from stellarscale.products.selection import labelled_stars, select_stars
from stellarscale.products.steps import Summary, session
from stellarscale.settings.acf import AcfJob
from stellarscale.settings.evaluation import Evaluation
from stellarscale.settings.stamps import SEARCH_ARCSEC, StampSettings
from stellarscale.surveys.cutout_service import CutoutRequest, CutoutService

_PIXEL_ARCSEC = 0.4976
_SPARE_PX = 4  # the stamp's edge is interpolated, and need not lie on the pixels of the cut-out
log = logging.getLogger(__name__)


def fetch_cutouts(
    job: Job,
    out: Path,
    *,
    detections: Path | None = None,
    cluster: str = "threads",
    size_deg: float | None = None,
    **service: Any,
) -> Summary:
    """Fetch the cut-outs of the stars that get parameters and, where the job trains, of those with labels.

    The catalogues are imported, matched and selected as the run itself does it, and it finds them done.

    Parameters
    ----------
    job : Job
        Of the product ``acf``.
    out : Path
        Folder to make or to go on with.
    detections : Path, optional
        HATS catalogue of detections, to fetch the cut-outs of all of them instead, each around its own position.
    cluster : str
        As ``--cluster``.
    size_deg : float, optional
        Side of a cut-out; that of :func:`stamp_side_deg` when absent.
    **service
        Settings of :class:`stellarscale.surveys.cutout_service.CutoutService`.

    Returns
    -------
    dict
        As :func:`stellarscale.products.cutouts_download.download_cutouts`.

    Raises
    ------
    ConfigError
        If the job is of another product, or a setting of the service cannot be.
    InputError
        If there is no detection to fetch.
    """
    made = acf_job(job)
    side = stamp_side_deg(made.stamps.size_px) if size_deg is None else size_deg
    asked = CutoutService(size_deg=side, **service)
    _tell_place(made.stamps, out)
    stars, found = _catalogs(made, cluster) if detections is None else ([], detections)

    def tables() -> Iterator[pa.Table]:
        return _of_stars(stars, found, made.stamps) if detections is None else _of_all(found, made.stamps)

    total = sum(len(table) for table in tables())
    if not total:
        raise InputError(
            "there is no detection to fetch",
            where=found,
            seen=f"{sum(open_stored(path).num_rows for path in stars):,} stars" if stars else None,
            needed="detections that pass `stamps.use`, in the bands of the job",
            cause="detections of another part of the sky, or cuts that nothing passes",
        )
    requests = (request for table in tables() for request in _requests(table))
    return download_cutouts(requests, out, asked, total=total, progress=Progress())


def _catalogs(job: AcfJob, cluster: str) -> tuple[list[Path], Path]:
    """Stars and detections; the catalogues are made where the run makes them, and what is compared is left out."""
    lean = job.model_copy(update={"evaluation": Evaluation(), "stamps": job.stamps.model_copy(update={"images": None})})
    run = run_directory(job)
    files = checked_inputs(lean)
    keep_apart(run, [path for paths in files.values() for path in paths])
    ledger = open_ledger(run, step="run", digest=digest_of(job.product, job.name), about={})
    with session(cluster) as on:
        catalogs, steps = import_catalogs(on, lean)
        matched = match_chain(on, lean.match, catalogs, store_of(lean), steps=steps)
        stars = [select_stars(on, lean, matched, ledger.out / "catalogs" / "selected", steps)]
        if lean.pretrained is None:
            stars.append(labelled_stars(on, lean, catalogs, matched, steps))
    return stars, catalogs[lean.stamps.detections]


def stamp_side_deg(size_px: int) -> float:
    """Side of a cut-out that holds a stamp of so many pixels however the two are turned to each other."""
    return (math.ceil(size_px * math.sqrt(2.0)) + _SPARE_PX) * _PIXEL_ARCSEC / 3600.0


def star_requests(stars: Sequence[Path], detections: Path, settings: StampSettings) -> Iterator[CutoutRequest]:
    """One request for each usable detection of each star, along the sky.

    Parameters
    ----------
    stars : sequence of Path
        Catalogues of stars; a star of several counts once.
    detections : Path
        Catalogue of detections.
    settings : StampSettings
        Columns, bands, and the cuts that a detection must pass.

    Raises
    ------
    SchemaError
        If a column is missing.
    """
    for table in _of_stars(stars, detections, settings):
        yield from _requests(table)


def _requests(table: pa.Table) -> Iterator[CutoutRequest]:
    """Requests of a table with the columns of :func:`_usable` and the place, in that order."""
    return (CutoutRequest(*row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True))


def _of_all(detections: Path, settings: StampSettings) -> Iterator[pa.Table]:
    """Usable detections of each partition, with their own positions."""
    catalog = open_stored(detections)
    place = [catalog.properties.ra, catalog.properties.dec]
    for pixel in catalog.pixels:
        table = read_pixel(catalog, pixel, columns=list(dict.fromkeys([*_wanted(settings), *place])))
        yield _usable(table, settings, place, pixel)


def _of_stars(stars: Sequence[Path], detections: Path, settings: StampSettings) -> Iterator[pa.Table]:
    """Usable detections of the stars of each partition, with the position of the star."""
    catalogs, theirs = [open_stored(path) for path in stars], open_stored(detections)
    for number, catalog in enumerate(catalogs):
        for pixel in catalog.pixels:
            chosen = _stars_of(catalog, pixel, settings.object_id, catalogs[:number])
            own = np.array([[pixel.first, pixel.last]])
            ring = healpix.ring_around(pixel.order, pixel.ipix, SEARCH_ARCSEC)
            around = healpix.merge_ranges(np.concatenate([own, ring]))
            table = read_ranges(theirs, around, columns=_wanted(settings))
            key = settings.columns.object_id
            table = table.filter(pc.is_in(table[key], value_set=chosen["id"]))
            table = _usable(table, settings, [], pixel)
            place = pc.index_in(table[key], value_set=chosen["id"])
            yield table.append_column("ra", chosen["ra"].take(place)).append_column("dec", chosen["dec"].take(place))


def _stars_of(catalog: StoredCatalog, pixel: Pixel, key: str, before: Sequence[StoredCatalog]) -> pa.Table:
    """Id, ra and dec of the stars of a partition that no catalogue before holds."""
    ra, dec = catalog.properties.ra, catalog.properties.dec
    table = read_pixel(catalog, pixel, columns=[key, ra, dec])
    for other in before:
        known = read_ranges(other, np.array([[pixel.first, pixel.last]]), columns=[key])[key]
        table = table.filter(pc.invert(pc.is_in(table[key], value_set=known)))
    return pa.table({"id": table[key], "ra": table[ra], "dec": table[dec]}).drop_null()


def _wanted(settings: StampSettings) -> list[str]:
    return list(dict.fromkeys([*_keys(settings), *cut_columns(settings.use)]))


def _keys(settings: StampSettings) -> list[str]:
    columns = settings.columns
    return [columns.object_id, columns.image_id, columns.ccd, columns.band]


def _usable(table: pa.Table, settings: StampSettings, more: Sequence[str], pixel: Pixel) -> pa.Table:
    """Star, exposure, chip and band, and more columns, of the detections that stamps may use."""
    of_job = pc.is_in(table[settings.columns.band], value_set=pa.array(settings.bands))
    chosen = table.filter(pc.and_(of_job, pa.array(passes(table, settings.use))))
    chosen = chosen.select([*_keys(settings), *more])
    whole = chosen.drop_null()
    if whole.num_rows < chosen.num_rows:
        log.warning("%s: %d detections name no exposure and are not asked for", pixel, chosen.num_rows - whole.num_rows)
    return whole


def _tell_place(settings: StampSettings, out: Path) -> None:
    expected = Path(settings.files).absolute()
    if expected != (out / LAYOUT).absolute():
        log.warning("the job looks for its cut-outs in %s, and these go to %s", expected, (out / LAYOUT).absolute())
