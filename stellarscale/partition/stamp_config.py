"""Columns that the making of stamps reads and makes."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from stellarscale.errors import SchemaError
from stellarscale.flags import COLUMN
from stellarscale.partition.cuts import check_numbers, cut_columns
from stellarscale.schema import field_metadata
from stellarscale.settings.stamps import StampSettings
from stellarscale.stamp_columns import coverage_field, stamp_field


@dataclass(frozen=True)
class StampConfig:
    """How stamps are made, and the columns of the stars' positions (degrees)."""

    stamps: StampSettings
    ra: str = "ra"
    dec: str = "dec"

    @property
    def counts(self) -> tuple[str, ...]:
        """Columns of the number of detections in each band."""
        return tuple(f"n_detections_{band}" for band in self.stamps.bands)


def detection_columns(settings: StampSettings) -> list[str]:
    """Columns of the detections that :func:`make_stamps` reads, without repeats."""
    columns = settings.columns
    names = [columns.object_id, columns.image_id, columns.ccd, columns.band]
    names += [name for name in (columns.zero_point, columns.background, columns.fwhm) if name is not None]
    return list(dict.fromkeys([*names, *cut_columns(settings.use)]))


def image_columns(settings: StampSettings) -> list[str]:
    """Columns of the exposures that :func:`make_stamps` reads."""
    columns = settings.image_columns
    named = (columns.zero_point, columns.background, columns.fwhm)
    return [columns.image_id, *(name for name in named if name is not None)]


def output_schema(stars: pa.Schema, config: StampConfig) -> pa.Schema:
    """Schema of the stars with their stamps.

    Raises
    ------
    SchemaError
        If the stars lack a column that is needed, or have one of a name that is made.
    """
    settings = config.stamps
    numbers = [config.ra, config.dec]
    numbers += [settings.reddening.column] if settings.reddening and settings.reddening.column else []
    check_numbers(stars, numbers, where="stars")
    _check_there(stars, [settings.object_id], where="stars")
    layout = settings.format
    made = [stamp_field(layout), coverage_field(layout), *(_count_field(name) for name in config.counts)]
    taken = sorted({field.name for field in made} & set(stars.names))
    if taken:
        raise SchemaError(
            "the stars have columns of names that the stamps get",
            seen=", ".join(taken),
            needed="stars without stamps",
            cause="the catalogue holds stamps already",
        )
    flags = [] if COLUMN in stars.names else [flags_field()]
    return pa.schema([*stars, *made, *flags], metadata=stars.metadata)


def check_sources(stars: pa.Schema, detections: pa.Schema, images: pa.Schema | None, config: StampConfig) -> None:
    """Raise :class:`SchemaError` if detections or exposures lack a column, or ids are of types that cannot be equal."""
    settings = config.stamps
    _check_there(detections, detection_columns(settings), where="detections")
    check_numbers(detections, cut_columns(settings.use), where="detections")
    _check_equal(
        ("stars", stars.field(settings.object_id)), ("detections", detections.field(settings.columns.object_id))
    )
    if images is not None:
        columns = image_columns(settings)
        _check_there(images, columns, where="images")
        check_numbers(images, columns[1:], where="images")
        _check_equal(("detections", detections.field(settings.columns.image_id)), ("images", images.field(columns[0])))


def rejects_schema(detections: pa.Schema, config: StampConfig) -> pa.Schema:
    """Fields of the record of detections that are in no stamp: which they are, ``reason``, ``detail`` (may be null)."""
    columns = config.stamps.columns
    named = {"object_id": columns.object_id, "image_id": columns.image_id, "ccd": columns.ccd, "band": columns.band}
    fields = [pa.field(name, detections.field(source).type) for name, source in named.items()]
    return pa.schema([*fields, pa.field("reason", pa.string()), pa.field("detail", pa.string())])


def flags_field() -> pa.Field:
    """Field of the flags, for stars that had none."""
    return pa.field(COLUMN, pa.int32(), metadata=field_metadata("", "meta.code.qual", "quality flags: sum of bits"))


def _count_field(name: str) -> pa.Field:
    band = name.rpartition("_")[2]
    text = f"detections in {band} of which the stamp is the mean"
    return pa.field(name, pa.int16(), metadata=field_metadata("", "meta.number", text))


def _check_there(schema: pa.Schema, names: list[str], *, where: str) -> None:
    missing = [name for name in names if name not in schema.names]
    if missing:
        raise SchemaError(
            "columns that the stamps need are missing",
            where=where,
            seen=", ".join(schema.names),
            needed=", ".join(missing),
            cause="`stamps` of the job names columns of another catalogue, or they were not imported",
        )


def _check_equal(ours: tuple[str, pa.Field], theirs: tuple[str, pa.Field]) -> None:
    """Values of both fields can be compared as they are."""
    (one, left), (other, right) = ours, theirs
    if left.type != right.type:
        raise SchemaError(
            "ids of different types cannot be equal",
            where=f"{left.name} of the {one}, {right.name} of the {other}",
            seen=f"{left.type} and {right.type}",
            needed="one type",
        )
