"""Alignment of stamps: the kernel against reproject_interp, in pairs in one process, one thread.

A star has a stack of cut-outs of chips like SkyMapper's: TPV polynomials of degree three, turned and flipped, the
star anywhere on its chip. Both bring the cut-outs to the grid of a reference. The kernel gets images and coordinates
and fits its map; the peer gets its WCS objects ready-made, with and without its check of the way back.

Also measured: how far an affine map alone is from the full map, for distortions from none to large.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from typing import Any

import numpy as np
from measuring import machine, show, timed

TOLERANCE = 1e-6  # of the peak
SCALE_DEG = 0.4976 / 3600
CHIP_PX = (2048, 4096)
CUTOUT_PX = (52, 61)
CORNER = (5, 6)
DISTORTIONS_PX = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=200, help="stacks for the kernel")
    parser.add_argument("--images", type=int, default=24, help="cut-outs of a star")
    parser.add_argument("--loop", type=int, default=100, help="stamps for the peer")
    parser.add_argument("--size", type=int, default=48, help="rows and columns of a stamp")
    parser.add_argument("--distortion", type=float, default=5.0, help="of the polynomial at 2000 pixels, pixels")
    parser.add_argument("--max-distortion", type=float, default=0.01, help="of the affine map, pixels")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of timings")
    parser.add_argument("--quick", action="store_true", help="few stamps and one pair")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.quick:
        options.stars, options.loop, options.repeats = 10, 12, 1
    return options


def chip(rng: np.random.Generator, distortion_px: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CRPIX, CD and PV of a chip; the polynomial moves pixels at 2000 from the reference by about the distortion."""
    from stellarscale.kernels.tpv import identity_pv

    angle, pv = rng.uniform(0, 2 * math.pi), identity_pv()
    pv[:, 1:3] += rng.normal(0, 1e-3, (2, 2))
    for degree, terms in ((2, slice(4, 7)), (3, slice(7, 11))):
        size = distortion_px / 3 * SCALE_DEG / (2000 * SCALE_DEG) ** degree
        pv[:, terms] = rng.normal(0, size, pv[:, terms].shape)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.array(CHIP_PX) / 2, SCALE_DEG * turn @ np.diag([rng.choice([-1.0, 1.0]), 1.0]), pv


def cutout(rng: np.random.Generator, ra: float, dec: float, distortion_px: float) -> Any:
    """World coordinates of a cut-out with a star, anywhere on its chip, near its centre."""
    from stellarscale.kernels.tpv import ImageWcs, pixel_to_sky, sky_to_pixel

    crpix, cd, pv = chip(rng, distortion_px)
    centre = pixel_to_sky(ImageWcs(crpix, np.array([ra, dec]), cd, pv), *rng.uniform(0, CHIP_PX))
    wcs = ImageWcs(crpix, np.array(centre), cd, pv)
    first = np.floor(sky_to_pixel(wcs, ra, dec)) - rng.integers(26, 32, 2)
    return ImageWcs(crpix - first, wcs.crval, cd, pv)


def scene(rng: np.random.Generator) -> np.ndarray:
    """A star of 3 to 6 pixels full width, neighbours and noise."""
    shape = rng.integers(*CUTOUT_PX, 2)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image, width = rng.normal(0, 0.003, shape), rng.uniform(3, 6)
    for number in range(4):
        row, column = shape / 2 + rng.uniform(-2, 2, 2) if number == 0 else rng.uniform(0, shape)
        flux = 1.0 if number == 0 else rng.uniform(0, 0.5)
        image += flux * np.exp(-4 * math.log(2) * ((y - row) ** 2 + (x - column) ** 2) / width**2)
    return image


def mock_stars(n: int, options: argparse.Namespace) -> list[tuple[list[np.ndarray], list, Any]]:
    """Images, their coordinates and the reference of each star."""
    rng = np.random.default_rng(1)
    images, stars = [scene(rng) for _ in range(200)], []
    for _ in range(n):
        ra, dec = rng.uniform(0, 360), rng.uniform(-85, 5)
        wcs = [cutout(rng, ra, dec, options.distortion) for _ in range(options.images)]
        stars.append(([images[each].copy() for each in rng.integers(0, len(images), len(wcs))], wcs, wcs[0]))
    return stars


def astropy_wcs(wcs: Any, shape: tuple[int, ...], corner: tuple[int, int] = (0, 0)) -> Any:
    """The same coordinates as an object of astropy, the first pixel moved to a corner."""
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    header = Header({"NAXIS": 2, "NAXIS1": shape[1], "NAXIS2": shape[0], "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"})
    for i in (1, 2):
        header[f"CUNIT{i}"] = "deg"
        header[f"CRPIX{i}"], header[f"CRVAL{i}"] = wcs.crpix[i - 1] - corner[i - 1], wcs.crval[i - 1]
        for j in (1, 2):
            header[f"CD{i}_{j}"] = wcs.cd[i - 1, j - 1]
        for j in np.flatnonzero(wcs.pv[i - 1]):
            header[f"PV{i}_{j}"] = wcs.pv[i - 1, j]
    return WCS(header)


def by_kernel(stars: list, options: argparse.Namespace) -> list:
    """Align all images of all stars."""
    return [align(star, options) for star in stars]


def align(star: tuple, options: argparse.Namespace) -> Any:
    """Align the images of a star."""
    from stellarscale.kernels.stamp_align import align_stack

    return align_stack(*star, CORNER, size_px=options.size, max_distortion_px=options.max_distortion)


def one_by_one(stars: list, options: argparse.Namespace) -> None:
    """Align all images as a run does: a star's stamps are gone when the next star's are made."""
    for star in stars:
        align(star, options)


def by_reproject(pairs: list[tuple], size: int, check: bool) -> np.ndarray:
    """Align images one after the other."""
    from reproject import reproject_interp

    shape, order = (size, size), "bilinear"
    return np.array(
        [
            reproject_interp((image, wcs), reference, shape_out=shape, order=order, roundtrip_coords=check)[0]
            for image, wcs, reference in pairs
        ]
    )


def peer_input(stars: list, options: argparse.Namespace) -> list[tuple]:
    """Images with ready-made coordinates of astropy; the stars' first images are left out: they need no alignment."""
    pairs = []
    for images, wcs, reference in stars:
        to = astropy_wcs(reference, (options.size, options.size), CORNER)
        pairs += [(image, astropy_wcs(its, image.shape), to) for image, its in zip(images[1:], wcs[1:], strict=True)]
        if len(pairs) >= options.loop:
            break
    return pairs[: options.loop]


def difference(stamps: np.ndarray, others: np.ndarray) -> tuple[bool, float]:
    """Whether the footprints are the same, and the largest difference over the peak of each image."""
    same = bool((np.isfinite(stamps) == np.isfinite(others)).all())
    peak = np.nanmax(others, axis=(1, 2))
    return same, float((np.nanmax(np.abs(stamps - others), axis=(1, 2)) / peak).max())


def affine_alone(distortion_px: float, size: int, *, n: int = 40) -> dict[str, float]:
    """Distortion over stamps, and the difference of an affine map, and of the kernel's map, from the full map."""
    from scipy.ndimage import map_coordinates

    from stellarscale.kernels.stamp_align import align_stack
    from stellarscale.kernels.tpv import pixel_to_sky, sky_to_pixel

    rng, grid = np.random.default_rng(2), np.arange(size)
    x, y = (values.ravel() for values in np.meshgrid(CORNER[0] + grid, CORNER[1] + grid))
    design, found = np.stack([np.ones(x.size), x, y], axis=1), []
    nodes = np.linspace(0, size - 1, 5).round()
    fitted = np.isin(x - CORNER[0], nodes) & np.isin(y - CORNER[1], nodes)
    for _ in range(n):
        ra, dec, image = rng.uniform(0, 360), rng.uniform(-85, 5), scene(rng)
        reference, wcs = (cutout(rng, ra, dec, distortion_px) for _ in range(2))
        full = np.stack(sky_to_pixel(wcs, *pixel_to_sky(reference, x, y)), axis=1)
        affine = design @ np.linalg.lstsq(design[fitted], full[fitted], rcond=None)[0]
        exact, plain = (map_coordinates(image, at.T[::-1], order=1, cval=np.nan) for at in (full, affine))
        aligned = align_stack([image], [wcs], reference, CORNER, size_px=size, max_distortion_px=math.inf)
        peak = image.max()
        errors = [np.nanmax(np.abs(each - exact)) / peak for each in (plain, aligned.images.ravel())]
        found.append((aligned.distortion_px[0], *errors, aligned.full_wcs[0]))
    distortion, plain, smooth, full = np.transpose(found)
    return {
        "distortion_px": float(np.median(distortion)),
        "largest_distortion_px": float(distortion.max()),
        "affine_difference": float(plain.max()),
        "affine_difference_over_distortion": float(np.median(plain / distortion)),
        "kernel_difference": float(smooth.max()),
        "full_share": float(full.mean()),
    }


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Check equality, then time in pairs."""
    stars = mock_stars(options.stars, options)
    pairs = peer_input(stars, options)
    aligned = by_kernel(stars, options)
    stamps = np.concatenate([each.images[1:] for each in aligned])[: len(pairs)]
    same, largest = difference(stamps, by_reproject(pairs, options.size, True))
    full = argparse.Namespace(**{**vars(options), "max_distortion": 1e-12})
    peers = {
        "reproject": lambda: by_reproject(pairs, options.size, True),
        "reproject_no_check": lambda: by_reproject(pairs, options.size, False),
    }
    few = stars[: max(len(stars) // 10, 1)]
    rounds = [
        {"kernel": timed(lambda: one_by_one(stars, options)).wall / len(stars) / options.images}
        | {"full_map": timed(lambda: one_by_one(few, full)).wall / len(few) / options.images}
        | {name: timed(peer).wall / len(pairs) for name, peer in peers.items()}
        for _ in range(options.repeats)
    ]
    result: dict[str, Any] = {
        f"{name}_ms": round(1e3 * statistics.median(each[name] for each in rounds), 4) for name in rounds[0]
    }
    for name in peers:
        result[f"{name}_ratio"] = round(statistics.median(each[name] / each["kernel"] for each in rounds), 1)
    distortion = np.concatenate([each.distortion_px for each in aligned])
    return result | {
        "pairs": options.repeats,
        "equal": same and largest <= TOLERANCE,
        "same_footprint": same,
        "largest_difference": largest,
        "distortion_px": [round(float(value), 6) for value in np.percentile(distortion, [50, 99, 100])],
        "full_share": float(np.concatenate([each.full_wcs for each in aligned]).mean()),
        "affine": {str(each): affine_alone(each, options.size) for each in DISTORTIONS_PX},
        **machine(),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; 0 when values agree to 1e-6 of the peak and footprints are the same."""
    options = parse(argv)
    result = compare(options)
    table = {} if options.json else result.pop("affine")
    code = show(result, as_json=options.json)
    for name, row in table.items():
        print(f"{name + ' px at 2000':18s}", *(f"{key} {value:.2g}" for key, value in row.items()))
    return code


if __name__ == "__main__":
    sys.exit(main())
