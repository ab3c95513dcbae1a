"""Where everything is inside a HATS catalogue: the only home of its paths."""

from __future__ import annotations

import re
from pathlib import Path

from stellarscale.catalog.pixels import Pixel

SKY_COLUMN = "_healpix_29"
HIVE_COLUMNS = frozenset({"Norder", "Dir", "Npix", "margin_Norder", "margin_Dir", "margin_Npix"})
DATASET = "dataset"
PROPERTIES = "hats.properties"
OLD_PROPERTIES = "properties"
COLLECTION = "collection.properties"
WORKING_DIRECTORY = ".stellarscale"
PIXELS_PER_DIRECTORY = 10_000

_PIXEL_PATH = re.compile(r"Norder=(\d+)/Dir=\d+/Npix=(\d+)")


def dataset_directory(root: Path) -> Path:
    """Directory of the Parquet files."""
    return root / DATASET


def relative_pixel_path(pixel: Pixel, suffix: str = ".parquet") -> str:
    """Path of a partition below ``dataset/``, with forward slashes, as ``_metadata`` holds it."""
    directory = pixel.ipix // PIXELS_PER_DIRECTORY * PIXELS_PER_DIRECTORY
    name = f"Npix={pixel.ipix}{'' if suffix == '/' else suffix}"
    return f"Norder={pixel.order}/Dir={directory}/{name}"


def pixel_path(root: Path, pixel: Pixel, suffix: str = ".parquet") -> Path:
    """Path of a partition's file (or its directory, for the suffix ``/``)."""
    return dataset_directory(root) / relative_pixel_path(pixel, suffix)


def pixel_of_path(path: str) -> Pixel | None:
    """Partition that a path belongs to; None when it is no partition's path."""
    found = _PIXEL_PATH.search(path.replace("\\", "/"))
    return Pixel(int(found[1]), int(found[2])) if found else None


def pixel_files(root: Path) -> list[Path]:
    """Every partition file (or partition directory) that is there, in path order."""
    return sorted(dataset_directory(root).glob("Norder=*/Dir=*/Npix=*"))


def properties_path(root: Path) -> Path:
    """The catalogue's properties."""
    return root / PROPERTIES


def old_properties_path(root: Path) -> Path:
    """The name that readers before HATS 1.0 look for."""
    return root / OLD_PROPERTIES


def collection_path(root: Path) -> Path:
    """Properties of a collection: a catalogue with its margins and indexes."""
    return root / COLLECTION


def partition_info_path(root: Path) -> Path:
    """List of partitions."""
    return root / "partition_info.csv"


def skymap_path(root: Path) -> Path:
    """HEALPix map of row counts."""
    return root / "skymap.fits"


def metadata_path(root: Path) -> Path:
    """Footers of all partitions in one file."""
    return dataset_directory(root) / "_metadata"


def common_metadata_path(root: Path) -> Path:
    """Schema of all partitions."""
    return dataset_directory(root) / "_common_metadata"


def thumbnail_path(root: Path) -> Path:
    """A few rows from all over the catalogue."""
    return dataset_directory(root) / "data_thumbnail.parquet"


def index_part_path(root: Path, part: int) -> Path:
    """One part of an id index."""
    return dataset_directory(root) / "index" / f"part.{part}.parquet"


def working_directory(root: Path) -> Path:
    """Hidden directory for what is needed only while the catalogue is made."""
    return root / WORKING_DIRECTORY
