"""Small cut-outs of point sources with TPV or TAN headers, written with astropy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.io import fits
from reference.mock_catalog import write_mock

from stellarscale.kernels.healpix import pixel_of
from stellarscale.kernels.tpv import ImageWcs, identity_pv, sky_to_pixel

SCALE_DEG = 0.4976 / 3600
DISTORTION = {(1, 1): 1.0004, (1, 5): 0.02, (2, 1): 0.9997, (2, 6): -0.015, (1, 7): 3.0, (2, 10): -2.0}


@dataclass(frozen=True)
class Shot:
    """A cut-out to make: where, how deep, how sharp, what its header says (None: the card is left out)."""

    ra: float
    dec: float
    size: int = 64
    shift_px: tuple[float, float] = (0.0, 0.0)
    turn_deg: float = 0.0
    sky: float = 100.0
    zero_point: float | None = 25.0
    fwhm_arcsec: float | None = 2.5
    psf_px: float = 5.0
    noise: float = 0.0
    projection: str = "TPV"
    name: str | None = None


def wcs_of(shot: Shot) -> ImageWcs:
    """Coordinates of a shot: the middle of the image is at its position, moved by its shift; x grows to the west."""
    turn = np.radians(shot.turn_deg)
    cd = SCALE_DEG * np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    pv = identity_pv()
    if shot.projection == "TPV":
        for (axis, term), value in DISTORTION.items():
            pv[axis - 1, term] = value
    middle = (shot.size - 1) / 2 + 1
    crpix = np.array([middle + shot.shift_px[0], middle + shot.shift_px[1]])
    return ImageWcs(crpix, np.array([shot.ra, shot.dec]), cd, pv)


def header_of(shot: Shot) -> fits.Header:
    """The header of a shot."""
    wcs = wcs_of(shot)
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = f"RA---{shot.projection}", f"DEC--{shot.projection}"
    for axis in (1, 2):
        header[f"CUNIT{axis}"] = "deg"
        header[f"CRPIX{axis}"], header[f"CRVAL{axis}"] = wcs.crpix[axis - 1], wcs.crval[axis - 1]
        for other in (1, 2):
            header[f"CD{axis}_{other}"] = wcs.cd[axis - 1, other - 1]
    if shot.projection == "TPV":
        for (axis, term), value in DISTORTION.items():
            header[f"PV{axis}_{term}"] = value
    for key, value in (("ZPAPPROX", shot.zero_point), ("QAFWHM", shot.fwhm_arcsec), ("EXTNAME", shot.name)):
        if value is not None:
            header[key] = value
    header["EXPTIME"] = 100.0
    return header


def image_of(shot: Shot, stars: Sequence[tuple[float, float, float]], seed: int = 0) -> np.ndarray:
    """Counts of Gaussian stars (ra, dec, counts) on a flat sky; the zero-point of the header is that of the counts."""
    y, x = np.mgrid[: shot.size, : shot.size].astype(float)
    sigma = shot.psf_px / 2.3548
    image = np.full(x.shape, shot.sky)
    for ra, dec, counts in stars:
        x0, y0 = sky_to_pixel(wcs_of(shot), ra, dec)
        image += counts / (2 * np.pi * sigma**2) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2))
    return image + np.random.default_rng(seed).normal(0, shot.noise, image.shape) if shot.noise else image


def write_cutout(
    path: Path, shot: Shot, stars: Sequence[tuple[float, float, float]], *, dtype: str = "f4", **cards
) -> Path:
    """One image as a primary unit; further cards replace those of the header, None removes one."""
    header = header_of(shot)
    for key, value in cards.items():
        header.pop(key, None)
        if value is not None:
            header[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(image_of(shot, stars).astype(dtype), header).writeto(path, overwrite=True)
    return path


@dataclass(frozen=True)
class FakeSurvey:
    """Catalogues of stars, detections and exposures with the files of their cut-outs."""

    stars: Path
    detections: Path
    images: Path
    files: str
    ids: np.ndarray
    flux: np.ndarray


def write_survey(root: Path, *, n_stars: int = 40, bands: str = "gr", size: int = 24, seed: int = 1) -> FakeSurvey:
    """Two detections a band of each star, some of which lie in another partition than the star; fluxes at 25 mag."""
    rng = np.random.default_rng(seed)
    ra, dec = 45.0 + rng.uniform(-1, 1, n_stars), rng.uniform(-1, 1, n_stars)
    ra[:4], dec[:4] = 45.0 + np.array([2e-5, -2e-5, 0, 0]), [0, 0, 2e-5, -2e-5]  # where four base pixels meet
    ids, flux = rng.permutation(n_stars).astype(np.int64) + 12_000, 10 ** rng.uniform(3, 4.5, n_stars)
    exposures = [(1000 + number, band, 100.0 + number, 25.0 + 0.1 * number) for number, band in enumerate(bands * 2)]
    files = str(root / "cutouts" / "{shard}" / "{object_id}" / "{image_id}-{ccd}.fits")
    rows = []
    for star in range(n_stars):
        for image_id, band, sky, zero_point in exposures:
            shot = Shot(
                ra[star], dec[star], size=size, shift_px=tuple(rng.uniform(-2, 2, 2)), turn_deg=rng.uniform(-3, 3),
                sky=sky, zero_point=None, fwhm_arcsec=2.0, psf_px=4.0,
            )  # fmt: skip
            counts = flux[star] * 10 ** (0.4 * (zero_point - 25.0))
            names = {"object_id": ids[star], "image_id": image_id, "ccd": 3, "shard": f"{ids[star] % 1000:03d}"}
            write_cutout(Path(files.format(**names)), shot, [(ra[star], dec[star], counts)])
            offset = rng.uniform(-2, 2, 2) / 3600
            rows.append((ids[star], image_id, 3, band, ra[star] + offset[0], dec[star] + offset[1], 1))
    paths = [root / name for name in ("stars", "detections", "images")]
    _write(paths[0], {"object_id": ids, "ra": ra, "dec": dec, "ebv": np.full(n_stars, 0.1, np.float32)}, "object_id")
    names = ("object_id", "image_id", "ccd", "band", "ra", "dec", "use")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    _write(
        paths[1], {**columns, "ccd": np.array(columns["ccd"], np.int16)}, "image_id", stellarscale_repeated_ids="true"
    )
    image_id, _, sky, zero_point = (np.array(values) for values in zip(*exposures, strict=True))
    place = np.linspace(0, 300, len(exposures))
    table = {"image_id": image_id, "ra": place, "dec": place * 0, "background": sky, "zpapprox": zero_point}
    _write(paths[2], {**table, "fwhm_arcsec": np.full(len(exposures), 2.0)}, "image_id")
    return FakeSurvey(*paths, files, ids, flux)


def _write(root: Path, columns: dict, id_column: str, **properties: str) -> None:
    table = pa.table(columns)
    sky = pixel_of(table["ra"].to_numpy(), table["dec"].to_numpy())
    table = table.add_column(0, "_healpix_29", pa.array(sky)).sort_by([("_healpix_29", "ascending")])
    write_mock(root, table, max_rows=64, row_group_rows=50, stellarscale_id=id_column, **properties)
