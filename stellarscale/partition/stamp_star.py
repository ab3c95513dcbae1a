"""The stamp of one star: which of its images can be used, the one that the others are aligned to, their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError
from stellarscale.flags import Flag
from stellarscale.kernels.stamp_align import align_stack
from stellarscale.kernels.stamp_stack import border_sky, calibrate, mask_saturated, mean_stack, stretch
from stellarscale.kernels.tpv import ImageWcs, sky_to_pixel
from stellarscale.partition.stamp_config import StampConfig
from stellarscale.partition.stamp_detections import Detections

if TYPE_CHECKING:
    from typing import Protocol

    class Cutout(Protocol):
        """What a fetched cut-out gives; see :class:`stellarscale.surveys.cutouts.Cutout`."""

        @property
        def image(self) -> NDArray[np.float64]: ...
        @property
        def wcs(self) -> ImageWcs: ...
        @property
        def zero_point(self) -> float | None: ...
        @property
        def fwhm_arcsec(self) -> float | None: ...


Fetch = Callable[[Any, Any, Any, str], "Cutout"]
Reasons = dict[int, tuple[str, str | None]]  # of a detection: why it is not used, and what the file's error says


@dataclass(frozen=True, eq=False)
class StarStamp:
    """Stamp of one star: stretched pixels and coverage, or None, its flags, and why detections were not used.

    ``other_zero_points`` counts detections in it for which the tables gave a zero-point that cannot be.
    """

    pixels: NDArray[np.floating] | None
    coverage: NDArray[np.uint8] | None
    counts: NDArray[np.int16]
    flags: int
    reasons: Reasons
    full_wcs: int = 0
    other_zero_points: int = 0


@dataclass(frozen=True, eq=False)
class _Image:
    """A detection that can be used: which it is, counts without saturated pixels, where the star is on it."""

    row: int
    image: NDArray[np.float64]
    wcs: ImageWcs
    xy: tuple[float, float]
    zero_point: float
    sky: float
    fwhm_arcsec: float
    saturated: bool


class _Unusable(Exception):
    """A detection is not used: reason, and what the file's error says."""


@dataclass(frozen=True, eq=False)
class StampMaker:
    """All that the stamp of a star is made of; nothing here changes, so that stars may be made in threads."""

    config: StampConfig
    found: Detections
    star_of: NDArray[np.int64]
    places: tuple[NDArray[np.float64], NDArray[np.float64]]
    ebv: NDArray[np.float64]
    fetch: Fetch

    def star(self, number: int) -> StarStamp:
        """Make the stamp of one star."""
        first, last = np.searchsorted(self.found.star, (self.star_of[number], self.star_of[number] + 1))
        usable = [row for row in range(int(first), int(last)) if self.found.reason[row] is None]
        if np.isnan(self.ebv[number]):
            why: Reasons = dict.fromkeys(usable, ("no E(B-V) of the star", None))
            return self._without(Flag.INCOMPLETE_BANDS | Flag.MISSING_FEATURE, why)
        reasons: Reasons = {}
        images = list(self._images(number, usable, reasons))
        reference = self._reference(images)
        if reference is None:
            reasons |= {image.row: ("no reference image", None) for image in images}
            return self._without(Flag.INCOMPLETE_BANDS, reasons)
        return self._stacked(images, reference, self.ebv[number], reasons)

    def _images(self, number: int, rows: list[int], reasons: Reasons) -> Iterator[_Image]:
        for row in rows:
            try:
                yield self._image(number, row)
            except _Unusable as error:
                reason, detail = error.args
                reasons[row] = (reason, detail)

    def _image(self, number: int, row: int) -> _Image:
        """The cut-out of one detection, with all that is needed to use it."""
        found, settings = self.found, self.config.stamps
        cutout = self._fetched(row)
        x, y = (float(value) for value in sky_to_pixel(cutout.wcs, self.places[0][number], self.places[1][number]))
        height, width = cutout.image.shape
        if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
            raise _Unusable("does not cover the star", None)
        _check_pixels(cutout.image)
        zero_point = self._zero_point(row, cutout.zero_point)
        image, saturated = cutout.image, False
        if settings.saturation is not None:
            lost = np.argwhere(image >= settings.saturation)
            if len(lost):
                image = mask_saturated(image, settings.saturation)
                saturated = bool((np.abs(lost - (y, x)) <= settings.size_px / 2).all(axis=1).any())
        sky = found.sky[row]
        if not np.isfinite(sky):
            try:
                sky, _ = border_sky(image)
            except InputError as error:
                raise _Unusable("no sky", str(error)) from error
        fwhm = _first(found.fwhm_arcsec[row], cutout.fwhm_arcsec)
        return _Image(row, image, cutout.wcs, (x, y), zero_point, sky, fwhm, saturated)

    def _zero_point(self, row: int, of_header: float | None) -> float:
        """What the tables say, or else the header, if it can be."""
        low, high = self.config.stamps.zero_points
        known, refused = float(self.found.zero_point[row]), float(self.found.refused_zero_point[row])
        if np.isfinite(known):
            return known
        if of_header is not None and low <= of_header <= high:
            return of_header
        seen = [f"{refused:g} in the tables"] if np.isfinite(refused) else []
        seen += [] if of_header is None else [f"{of_header:g} in the header"]
        raise _Unusable("no zero-point", f"{', '.join(seen)}; needed: {low:g} to {high:g}" if seen else None)

    def _fetched(self, row: int) -> Cutout:
        found = self.found
        try:
            return self.fetch(found.object_id[row], found.image_id[row], found.ccd[row], str(found.band[row]))
        except FileNotFoundError as error:
            raise _Unusable("no file", str(error)) from error
        except InputError as error:
            raise _Unusable("unreadable file", str(error)) from error

    def _reference(self, images: list[_Image]) -> _Image | None:
        """The image that the others are aligned to; images come in the order of exposure and chip."""
        band = self.config.stamps.bands.index(self.config.stamps.reference_band)
        of_band = [image for image in images if self.found.band_index[image.row] == band]
        return min(of_band, key=lambda image: np.nan_to_num(image.fwhm_arcsec, nan=np.inf), default=None)

    def _stacked(self, images: list[_Image], reference: _Image, ebv: float, reasons: Reasons) -> StarStamp:
        settings = self.config.stamps
        size, bands = settings.size_px, self.found.band_index[[image.row for image in images]]
        fluxes = [self._flux(image, ebv) for image in images]
        corner = tuple(float(np.floor(value + 0.5) - size // 2) for value in reference.xy)
        aligned = align_stack(
            fluxes,
            [image.wcs for image in images],
            reference.wcs,
            (corner[0], corner[1]),
            size_px=size,
            max_distortion_px=settings.max_distortion_px,
        )
        mean, coverage = mean_stack(aligned.images, bands, len(settings.bands))
        # A band that stays incomplete gives no parameters: each of its detections is told, and none is in the stamp.
        kept = (np.mean(coverage == 0, axis=(1, 2)) <= settings.max_missing)[bands]
        if not kept.all():
            reasons |= {images[n].row: _little(aligned.images[n]) for n in np.flatnonzero(~kept)}
            mean, coverage = mean_stack(aligned.images[kept], bands[kept], len(settings.bands))
        pixels = stretch(mean, np.array(settings.format.softening)).astype(settings.dtype)
        flags = _flags_of(coverage, settings.max_missing)
        flags |= int(Flag.SATURATED) if any(image.saturated for image in images) else 0
        counts = np.bincount(bands[kept], minlength=len(settings.bands)).astype(np.int16)
        rows = np.array([image.row for image in images])[kept]
        others = int(np.count_nonzero(np.isfinite(self.found.refused_zero_point[rows])))
        full_wcs = int(np.count_nonzero(aligned.full_wcs[kept]))
        return StarStamp(pixels, coverage, counts, flags, reasons, full_wcs, others)

    def _flux(self, image: _Image, ebv: float) -> NDArray[np.float64]:
        settings = self.config.stamps
        extinction = 0.0
        if settings.reddening is not None:
            extinction = settings.extinction[settings.bands[self.found.band_index[image.row]]] * ebv
        return calibrate(
            image.image,
            sky=image.sky,
            zero_point=image.zero_point,
            to_zero_point=settings.zero_point,
            extinction_mag=extinction,
        )

    def _without(self, flags: int, reasons: Reasons) -> StarStamp:
        return StarStamp(None, None, np.zeros(len(self.config.stamps.bands), np.int16), int(flags), reasons)


def _check_pixels(image: NDArray[np.float64]) -> None:
    """Refuse a cut-out that shows nothing: its sky would be its only value, and the star dark."""
    finite = image[np.isfinite(image)]
    if not finite.size:
        raise _Unusable("no finite pixel", None)
    if finite.min() == finite.max():
        raise _Unusable("constant image", f"every pixel is {finite[0]:g}")


def _little(aligned: NDArray[np.float64]) -> tuple[str, str]:
    """Why a detection of a band that stays incomplete is in no stamp."""
    return "covers too little of the stamp", f"covers {int(100 * np.isfinite(aligned).mean())} % of the stamp"


def _flags_of(coverage: NDArray[np.uint8], max_missing: float) -> int:
    missing = np.mean(coverage == 0, axis=(1, 2))
    middle = coverage.shape[1] // 2  # the star's own pixel: without it, saturated in every detection, the flux is lost
    incomplete = bool((missing > max_missing).any() or (coverage[:, middle, middle] == 0).any())
    flags = int(Flag.INCOMPLETE_BANDS) if incomplete else 0
    return flags | (int(Flag.MISSING_PIXELS) if missing.any() else 0)


def _first(known: float, otherwise: float | None) -> float:
    """What the tables say, or else the header; NaN if neither."""
    return known if np.isfinite(known) else np.nan if otherwise is None else otherwise
