"""Settings of the image stamps: where detections and cut-outs are, and what is made of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from stellarscale.frozen import Frozen
from stellarscale.settings.cuts import Cut
from stellarscale.settings.features import Reddening
from stellarscale.stamp_columns import StampFormat

SEARCH_ARCSEC = 15.0
"""How far from its star a detection is looked for; which star it belongs to is a matter of the id."""

BANDS = ("u", "v", "g", "r", "i", "z")
EXTINCTION = {"u": 4.294, "v": 4.026, "g": 2.986, "r": 2.288, "i": 1.588, "z": 1.206}


class DetectionColumns(Frozen):
    """Columns of the catalogue of detections."""

    object_id: str = Field("object_id", description="the star")
    image_id: str = Field("image_id", description="the exposure")
    ccd: str = Field("ccd", description="its chip")
    band: str = Field("band", description="name of the filter")
    zero_point: str | None = Field(None, description="magnitude of one count; null: of the images, or the header")
    background: str | None = Field(None, description="sky, counts a pixel; null: of the images, or the border")
    fwhm: str | None = Field(None, description="seeing, arcsec; null: of the images, or the header")


class ImageColumns(Frozen):
    """Columns of the table of exposures."""

    image_id: str = Field("image_id", description="the exposure")
    zero_point: str | None = Field("zpapprox", description="magnitude of one count; null: the header's ZPAPPROX")
    background: str | None = Field("background", description="sky, counts a pixel; null: the cut-out's border")
    fwhm: str | None = Field("fwhm_arcsec", description="seeing, arcsec; null: the header's QAFWHM")


class StampSettings(Frozen):
    """How the stamps of stars are made of their detections (paper III, section 2.3)."""

    detections: str = Field("detections", description="catalogue of detections, a row each")
    images: str | None = Field(None, description="catalogue of exposures; null: their values are in the headers")
    columns: DetectionColumns = DetectionColumns()
    image_columns: ImageColumns = ImageColumns()
    object_id: str = Field("object_id", description="column of the stars")
    use: tuple[Cut, ...] = Field((), description="cuts that a detection must pass")
    files: str = Field(
        description="FITS cut-outs: a path with {object_id}, {image_id}, {ccd}, {band}, {shard} (object_id modulo 1000)"
    )
    bands: tuple[str, ...] = Field(BANDS, min_length=1, description="in the order of the planes")
    size_px: int = Field(48, ge=8, le=512, description="rows and columns of a stamp")
    reference_band: str = Field("r", description="band of the detection that the others are aligned to")
    zero_point: float = Field(25.0, description="magnitude of unit flux after scaling")
    zero_points: tuple[float, float] = Field(
        (10.0, 40.0), description="magnitudes of one count that can be: tables and headers with others are not believed"
    )
    softening: dict[str, float] = Field(
        default_factory=lambda: dict.fromkeys(BANDS, 5.0), description="band: flux at which the stretch turns"
    )
    dtype: Literal["float16", "float32"] = Field("float16", description="of a stored pixel")
    reddening: Reddening | None = Field(None, description="E(B-V) of each star; null: no dereddening")
    extinction: dict[str, float] = Field(EXTINCTION, description="band: A / E(B-V), with E(B-V) as in SFD98")
    saturation: float | None = Field(None, gt=0, description="counts, sky included, from which a pixel is missing")
    max_distortion_px: float = Field(
        0.01, gt=0, description="error of the affine map above which the full map of the header is used"
    )
    max_missing: float = Field(
        0.1, ge=0, le=1, description="share of a band's pixels that may be missing in a star that gets parameters"
    )

    @property
    def format(self) -> StampFormat:
        """What a stamp of these settings is."""
        softening = tuple(self.softening[band] for band in self.bands)
        dereddened = self.reddening is not None
        return StampFormat(self.bands, self.size_px, self.dtype, softening, self.zero_point, dereddened)

    @model_validator(mode="after")
    def _bands_complete(self) -> StampSettings:
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"a band is named twice: {', '.join(self.bands)}")
        if self.reference_band not in self.bands:
            raise ValueError(f"reference_band {self.reference_band!r} is none of the bands {', '.join(self.bands)}")
        if not self.zero_points[0] < self.zero_points[1]:
            raise ValueError("`zero_points` must rise: {:g} to {:g} holds no magnitude".format(*self.zero_points))
        for name in ("softening", *(["extinction"] if self.reddening else [])):
            missing = sorted(set(self.bands) - set(getattr(self, name)))
            if missing:
                raise ValueError(f"`{name}` has no value for {', '.join(missing)}")
        if any(self.softening[band] <= 0 for band in self.bands):
            raise ValueError("`softening` must be above 0 in every band")
        return self
