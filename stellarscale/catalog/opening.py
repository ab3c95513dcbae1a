"""What a directory holds: the properties, partitions and schema of a HATS catalogue, whoever wrote it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stellarscale.catalog import footers, layout
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.properties import CatalogProperties, parse_lines
from stellarscale.catalog.writer import SKY_FIELD
from stellarscale.errors import CatalogError, SchemaError


@dataclass(frozen=True)
class StoredCatalog:
    """A catalogue on disk.

    Parameters
    ----------
    root : Path
        Its directory (of the primary table, when a collection was opened).
    properties : CatalogProperties
        What ``hats.properties`` says.
    schema : pa.Schema
        Columns that a read gives: ``_healpix_29`` first, hive columns left out.
    pixels : tuple of Pixel
        Partitions along the sky.
    """

    root: Path
    properties: CatalogProperties
    schema: pa.Schema
    pixels: tuple[Pixel, ...]

    def rows_of(self, pixel: Pixel) -> int:
        """Rows of a partition, from the footers."""
        groups = footers.row_groups(self.root)
        if groups is not None and pixel in groups.counts:
            return groups.counts[pixel]
        return sum(footers.file_footer(path).num_rows for path in files_of(self, pixel))

    @property
    def num_rows(self) -> int:
        """Rows of the catalogue, from the footers."""
        return sum(self.rows_of(pixel) for pixel in self.pixels)


def open_stored(path: Path | str) -> StoredCatalog:
    """Open a HATS catalogue, or the primary table of a HATS collection.

    Raises
    ------
    CatalogError
        If the directory is no HATS catalogue; tells what was found there.
    SchemaError
        If the columns of the position are not there.
    """
    root = _primary(Path(path))
    properties = read_properties(root)
    pixels = tuple(sorted(list_pixels(root), key=lambda pixel: pixel.sky_key))
    stored = StoredCatalog(root, properties, _schema(root, properties, pixels), pixels)
    if properties.kind in {"object", "source"}:
        require_columns(stored.schema, [properties.ra, properties.dec], root)
    return stored


def read_properties(root: Path) -> CatalogProperties:
    """Read the properties of a catalogue's directory; errors as :func:`open_stored`."""
    for path in (layout.properties_path(root), layout.old_properties_path(root)):
        if path.is_file():
            return CatalogProperties.from_text(_text_of(path), where=path)
    raise _no_catalog(root)


def list_pixels(root: Path) -> list[Pixel]:
    """Partitions of ``partition_info.csv``; without it those of ``_metadata``, or else of the files there."""
    path = layout.partition_info_path(root)
    if path.is_file():
        return _listed(path)
    groups = footers.row_groups(root)
    if groups is not None:
        return list(groups.pixels)
    found = (layout.pixel_of_path(str(file)) for file in layout.pixel_files(root))
    return [pixel for pixel in found if pixel is not None]


def files_of(catalog: StoredCatalog, pixel: Pixel) -> list[Path]:
    """Files of a partition: one, or several where the writer made a directory of each partition."""
    path = layout.pixel_path(catalog.root, pixel, catalog.properties.suffix)
    return sorted(path.glob("*.parq*")) if path.is_dir() else [path]


def require_columns(schema: pa.Schema, columns: list[str], where: object) -> None:
    """Raise :class:`SchemaError`, naming the columns there are, unless all are there."""
    missing = [name for name in columns if name not in schema.names]
    if missing:
        raise SchemaError(
            "the catalogue has no such column",
            where=where,
            seen=", ".join(schema.names),
            needed=", ".join(repr(name) for name in missing),
        )


def without_housekeeping(schema: pa.Schema) -> pa.Schema:
    """Drop schema metadata that describes a file (pandas, VOTable), keep what describes the data."""
    noise = (b"pandas", b"ARROW:", b"IVOA.")
    kept = {key: value for key, value in (schema.metadata or {}).items() if not key.startswith(noise)}
    return schema.with_metadata(kept or None)


def _primary(path: Path) -> Path:
    if not path.is_dir():
        raise CatalogError("there is no such catalogue", where=path, needed="the directory of a HATS catalogue")
    collection = layout.collection_path(path)
    if not collection.is_file():
        return path
    entries = parse_lines(_text_of(collection))
    name = entries.get("hats_primary_table_url", "")
    if not name or not (path / name).is_dir():
        raise CatalogError(
            "the collection's primary table is not there",
            where=collection,
            seen=f"hats_primary_table_url={name}",
            needed="the name of a catalogue's directory inside the collection",
        )
    return path / name


def _no_catalog(root: Path) -> CatalogError:
    found = sorted(path.name for path in root.iterdir())
    cause = "the catalogue was not finished" if layout.dataset_directory(root).is_dir() else None
    if "catalog_info.json" in found:
        cause = "a HiPSCat catalogue, older than HATS: import it with hats-import first"
    return CatalogError(
        "the directory is no HATS catalogue",
        where=root,
        seen=", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "") or "nothing",
        needed=f"{layout.PROPERTIES}, {layout.DATASET}/",
        cause=cause,
    )


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CatalogError(
            "a file of the catalogue is damaged", where=path, seen=error.reason, needed="UTF-8 text"
        ) from error


def _listed(path: Path) -> list[Pixel]:
    rows = list(csv.DictReader(_text_of(path).splitlines()))
    try:
        return [Pixel.parse(f"{int(row['Norder'])}/{int(row['Npix'])}") for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise CatalogError(
            "the list of partitions is damaged",
            where=path,
            seen=error,
            needed="columns Norder and Npix of pixels",
        ) from error


def _schema(root: Path, properties: CatalogProperties, pixels: tuple[Pixel, ...]) -> pa.Schema:
    for path in (layout.common_metadata_path(root), layout.metadata_path(root)):
        if path.is_file():
            stored = footers.file_footer(path).schema.to_arrow_schema()
            break
    else:
        if not pixels:
            raise CatalogError("a catalogue without partitions has no schema", where=root, needed="_common_metadata")
        stored = pq.read_schema(files_of(StoredCatalog(root, properties, pa.schema([]), pixels), pixels[0])[0])
    return _given(stored, properties)


def _given(stored: pa.Schema, properties: CatalogProperties) -> pa.Schema:
    """The schema of what a read gives."""
    if properties.kind == "index":
        return without_housekeeping(stored)
    fields = [f for f in stored if f.name not in layout.HIVE_COLUMNS and f.name != layout.SKY_COLUMN]
    sky = stored.field(layout.SKY_COLUMN) if layout.SKY_COLUMN in stored.names else SKY_FIELD
    return without_housekeeping(pa.schema([sky.with_type(pa.int64()), *fields], metadata=stored.metadata))
