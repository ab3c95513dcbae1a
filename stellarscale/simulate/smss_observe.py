"""Observe one block of the mock: pixels of every exposure, a cut-out a star, and its magnitude measured on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.settings.stamps import BANDS
from stellarscale.simulate.observe import MAG_PER_RELATIVE_FLUX, TRUTH_EPOCH, displace, select, year_of_mjd
from stellarscale.simulate.plan import Columns
from stellarscale.simulate.smss_exposures import CHIP_PX, FULL_WELL, GAIN, SCALE_ARCSEC
from stellarscale.simulate.smss_files import SPOILT, cutout_name, header_bytes, wcs_cards, write_cutout
from stellarscale.simulate.smss_pixels import APERTURE_ARCSEC, Box, Exposed, Sums, aperture_sums, expose, rays_seen
from stellarscale.simulate.smss_wcs import sky_to_chip

CUTOUT_PX = 56
POINTING_PX, POINTING_MOST_PX = 1.0, 4.0
SPOILT_SHARE = 0.004
SKY_UNEVEN = 0.002
REJECTED_SHARE = 0.02
SATURATED_USED = 0.05
CALIBRATION_MAG = 0.003
ASTROMETRY_ARCSEC = 0.06


@dataclass
class Tally:
    """What there is of each kind among the cut-outs of one block."""

    spoilt: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in SPOILT})
    kinds: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("missing_pixels", "cosmic_ray", "at_edge", "saturated"), 0)
    )


@dataclass(frozen=True)
class Pairs:
    """Every star on every exposure of its group, ordered by exposure.

    Parameters
    ----------
    star, exposure, object_id : ndarray of int, shape (n,)
        Rows of the block's stars and exposures, and the stars' identifiers.
    place : ndarray of float64, shape (n, 2)
        Pixel on the chip, from 0.
    flux : ndarray of float64, shape (n,)
        Counts.
    box : ndarray of int, shape (n, 4)
        Cut-out on the chip.
    detected : ndarray of bool, shape (n,)
        Whether the star is on the chip and was detected in the band.
    spoilt : ndarray of int, shape (n,)
        What is wrong with the file: a place in ``SPOILT``, or -1.
    """

    star: NDArray[np.int64]
    exposure: NDArray[np.int64]
    object_id: NDArray[np.int64]
    place: NDArray[np.float64]
    flux: NDArray[np.float64]
    box: NDArray[np.int64]
    detected: NDArray[np.bool_]
    spoilt: NDArray[np.int64]


def observe_block(
    sky: Columns, exposures: Columns, undetected: NDArray[np.bool_], rng: np.random.Generator, folder: Path
) -> tuple[Columns, Columns, Tally]:
    """Make and write the cut-outs of one block, and measure them.

    Parameters
    ----------
    sky, exposures : dict of ndarray
        Stars and exposures of the block.
    undetected : ndarray of bool, shape (stars, bands)
        Bands in which a star has no detections.
    rng : numpy.random.Generator
        Stream of the pixels.
    folder : Path
        Folder of the mock.

    Returns
    -------
    detections : dict of ndarray
        A row a detection: ``star``, ``exposure``, ``x_px``, ``y_px`` (from 0), ``ra``, ``dec``, ``mag``, ``mag_err``
        (NaN where the counts are not positive), ``flags``, ``nimaflags``, ``use_in_clipped``.
    blends : dict of ndarray
        A row for each star on each exposure: ``star``, ``exposure``, ``others`` (flux of other stars over its own
        within the aperture).
    tally : Tally
    """
    pairs = _pair(sky, exposures, undetected, rng)
    detected = pairs.star[pairs.detected]
    for object_id in sky["object_id"][np.unique(detected)].tolist():
        (folder / cutout_name(object_id, 0, 0)).parent.mkdir(parents=True, exist_ok=True)
    tally, sums = Tally(), []
    edges = np.searchsorted(pairs.exposure, np.arange(len(exposures["group"]) + 1))
    for number, (start, stop) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        sums.append(_observe(number, slice(start, stop), pairs, exposures, rng=rng, folder=folder, tally=tally))
    measured = Sums(*np.concatenate(sums, axis=1))
    rows = np.flatnonzero(pairs.detected)
    detections = _detections(rows, pairs, Sums(*np.stack(measured)[:, rows]), sky, exposures, rng)
    tally.kinds["saturated"] += int((measured.peak[rows] >= FULL_WELL).sum())
    blends: Columns = {"star": pairs.star, "exposure": pairs.exposure, "others": measured.others}
    return detections, blends, tally


def _pair(sky: Columns, exposures: Columns, undetected: NDArray, rng: np.random.Generator) -> Pairs:
    """Where every star is on every exposure of its group, and the part of the chip that its cut-out takes."""
    first, last = (np.searchsorted(sky["group"], exposures["group"], side) for side in ("left", "right"))
    exposure = np.repeat(np.arange(len(first)), last - first)
    star = np.arange(len(exposure)) - np.repeat(np.cumsum(last - first) - last, last - first)
    seen, shot = select(sky, star), select(exposures, exposure)
    years = year_of_mjd(shot["mjd"]) - TRUTH_EPOCH
    ra, dec = displace(seen["ra"], seen["dec"], pmra=seen["pmra"], pmdec=seen["pmdec"], years=years)
    place = np.stack(sky_to_chip(ra, dec, shot), axis=1)
    magnitude = np.stack([seen[f"true_{band}"] for band in BANDS])[shot["band"], np.arange(len(star))]
    aim = np.clip(rng.normal(0.0, POINTING_PX, place.shape), -POINTING_MOST_PX, POINTING_MOST_PX)
    corner = np.round(place + aim - (CUTOUT_PX - 1) / 2.0)
    box = np.clip(np.concatenate([corner, corner + CUTOUT_PX], axis=1), 0, [*CHIP_PX, *CHIP_PX]).astype(np.int64)
    on_chip = ((place >= 0.0) & (place <= np.array(CHIP_PX) - 1.0)).all(axis=1)
    detected = on_chip & ~undetected[star, shot["band"]]
    flux = 10.0 ** (0.4 * (shot["zero_point"] - magnitude))
    return Pairs(star, exposure, seen["object_id"], place, flux, box, detected, _spoil(detected, rng))


def _spoil(detected: NDArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """The few files that are wrong in each way of ``SPOILT``."""
    spoilt = np.full(len(detected), -1)
    rows = rng.permutation(np.flatnonzero(detected))
    each = max(1, int(SPOILT_SHARE * len(rows))) if len(rows) >= 4 * len(SPOILT) else 0
    for place in range(len(SPOILT)):
        spoilt[rows[place * each : (place + 1) * each]] = place
    return spoilt


def _observe(
    number: int,
    rows: slice,
    pairs: Pairs,
    exposures: Columns,
    *,
    rng: np.random.Generator,
    folder: Path,
    tally: Tally,
) -> NDArray[np.float64]:
    """Render one exposure about its stars, write their cut-outs, return the sums over their apertures."""
    place, flux, box = pairs.place[rows], pairs.flux[rows], pairs.box[rows]
    sky = exposures["background"][number] * (1.0 + rng.normal(0.0, SKY_UNEVEN))
    psf = exposures["psf"][number]
    # The primary is on the chip by construction, so there always is something to render.
    inside = box[(box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])]
    scene = Box(*inside[:, :2].min(axis=0).tolist(), *inside[:, 2:].max(axis=0).tolist())
    exposed = expose(scene, place, flux, psf=psf, sky=sky, rng=rng)
    cards = _cards(number, exposures)
    for pair in (rows.start + np.flatnonzero(pairs.detected[rows])).tolist():
        x0, y0, x1, y1 = pairs.box[pair].tolist()
        here = np.s_[y0 - scene.y0 : y1 - scene.y0, x0 - scene.x0 : x1 - scene.x0]
        _write(pair, Exposed(exposed.image[here], exposed.struck[here]), pairs, cards, folder, tally)
    corner, radius_px = np.array(scene[:2], dtype=float), APERTURE_ARCSEC / SCALE_ARCSEC
    sums = aperture_sums(exposed.image, corner, place, flux, psf=psf, sky=sky, radius_px=radius_px)
    if exposed.struck.any():
        sums.lost_px[:] += [rays_seen(exposed.struck, at - corner, radius_px, rng) for at in place]
    return np.stack(sums)


def _write(pair: int, part: Exposed, pairs: Pairs, cards: dict[str, Any], folder: Path, tally: Tally) -> None:
    """Write one cut-out, spoilt if that is its lot, and count what it shows."""
    spoilt, object_id = int(pairs.spoilt[pair]), int(pairs.object_id[pair])
    kind = SPOILT[spoilt] if spoilt >= 0 else ""
    x0, y0, x1, y1 = pairs.box[pair].tolist()
    own = {"object_id": object_id, "width": x1 - x0, "height": y1 - y0}
    own |= {"CRPIX1": cards["CRPIX1"] - x0, "CRPIX2": cards["CRPIX2"] - y0}
    header = header_bytes(cards | own, None if kind == "no_zpapprox" else cards["zpapprox"])
    name = cutout_name(object_id, int(cards["image_id"]), int(cards["ccd"]))
    write_cutout(folder / name, header, part.image, spoilt=kind)
    if kind:
        tally.spoilt[kind].append(name)
    tally.kinds["missing_pixels"] += bool(np.isnan(part.image).any())
    tally.kinds["cosmic_ray"] += bool(part.struck.any())
    tally.kinds["at_edge"] += part.image.shape != (CUTOUT_PX, CUTOUT_PX)


def _cards(number: int, exposures: Columns) -> dict[str, Any]:
    """Header values that all cut-outs of an exposure have in common, the reference pixel that of the chip."""
    shot = {name: values[number] for name, values in exposures.items()}
    cards: dict[str, Any] = {"band": BANDS[shot["band"]], "image_id": shot["image_id"], "ccd": shot["ccd"]}
    cards |= {"date": str(shot["start"]), "mjd": shot["mjd"], "exptime": shot["exptime_s"], "gain": GAIN}
    cards |= {"fwhm": shot["fwhm_arcsec"], "saturate": FULL_WELL}
    cards["zpapprox"] = float(shot["zpapprox"])
    return cards | wcs_cards(shot["crval"], shot["crpix"], shot["cd"], shot["pv"])


def _detections(
    rows: NDArray, pairs: Pairs, sums: Sums, sky: Columns, exposures: Columns, rng: np.random.Generator
) -> Columns:
    """Aperture photometry with aperture correction of every detection, and whether the clipped mean uses it."""
    n, star, exposure = len(rows), pairs.star[rows], pairs.exposure[rows]
    counts = sums.counts / sums.own
    with np.errstate(divide="ignore", invalid="ignore"):
        mag = exposures["zero_point"][exposure] - 2.5 * np.log10(counts)
        error = MAG_PER_RELATIVE_FLUX * np.sqrt(sums.variance) / sums.counts
    mag = mag + rng.normal(0.0, CALIBRATION_MAG, n)
    measured = (sums.counts > 0.0) & (error < 1.0)
    saturated = sums.peak >= FULL_WELL
    use = measured & (sums.lost_px == 0) & (rng.random(n) >= REJECTED_SHARE)
    use &= ~saturated | (rng.random(n) < SATURATED_USED)
    years = year_of_mjd(exposures["mjd"][exposure]) - TRUTH_EPOCH
    target = select(sky, star)
    arcsec = np.hypot(ASTROMETRY_ARCSEC, np.where(measured, error, 1.0)) * 1000.0
    shift = rng.standard_normal((2, n)) * arcsec
    ra, dec = displace(target["ra"], target["dec"], pmra=target["pmra"], pmdec=target["pmdec"], years=years)
    ra, dec = displace(ra, dec, pmra=shift[0], pmdec=shift[1], years=1.0)
    return {
        "star": star,
        "exposure": exposure,
        "x_px": pairs.place[rows, 0],
        "y_px": pairs.place[rows, 1],
        "ra": ra,
        "dec": dec,
        "mag": np.where(measured, mag, np.nan),
        "mag_err": np.where(measured, np.hypot(error, CALIBRATION_MAG), np.nan),
        "flags": np.where(saturated, 4, 0),
        "nimaflags": sums.lost_px.astype(np.int64),
        "use_in_clipped": use.astype(np.int64),
    }
