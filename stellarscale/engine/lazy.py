"""A catalogue that is read only when asked: parts of the sky, columns, matches, and Dask dataframes of it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.pixels import Pixel, pixels_touching
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import StoredCatalog, open_stored, read_pixel
from stellarscale.catalog.subset import Subset, parse_subset
from stellarscale.catalog.writer import finish_catalog, write_pixel
from stellarscale.config import MatchStep
from stellarscale.engine.matchplan import match_config, match_margin_arcsec, pair_properties
from stellarscale.engine.tasks import MatchTask, matched_table
from stellarscale.errors import CatalogError, SchemaError
from stellarscale.partition.match import output_schema
from stellarscale.schema import parse_mapping

Step = partial[pa.Table]
ROLES = tuple(f"stellarscale_{role}" for role in ("id", "pmra", "pmdec", "epoch_column"))
COUNTS = tuple(f"stellarscale_{count}" for count in ("rows_in", "rejected", "duplicates"))


def open_catalog(path: str | Path) -> Catalog:
    """Open a HATS catalogue lazily.

    Raises
    ------
    CatalogError
        If the directory is no HATS catalogue.
    """
    stored = open_stored(path)
    return Catalog(stored, stored.schema)


@dataclass(frozen=True)
class Catalog:
    """A view of a stored catalogue; every method returns a new view, nothing is read before `compute`.

    Parameters
    ----------
    stored : StoredCatalog
        What is on disk.
    schema : pa.Schema
        Columns that a partition of this view has.
    subsets : tuple of Subset
        Regions and samples; a row must be in all of them.
    steps : tuple of callable
        Functions (table, pixel) -> table applied to each partition, in order.
    """

    stored: StoredCatalog
    schema: pa.Schema
    subsets: tuple[Subset, ...] = ()
    steps: tuple[Step, ...] = ()

    def __repr__(self) -> str:
        """Name, size, and what the view does; a catalogue may have hundreds of columns and thousands of partitions."""
        stored = self.stored
        size = f"{stored.properties.rows:,} rows in {len(stored.pixels):,} partitions"
        view = [f"{len(self.subsets)} subset(s)"] if self.subsets else []
        view += [f"{len(self.steps)} step(s)"] if self.steps else []
        text = f"<Catalog {stored.properties.name}: {size}, {len(self.schema):,} columns"
        return f"{text}; a view with {', '.join(view)}>" if view else f"{text}>"

    def cone(self, ra_deg: float, dec_deg: float, radius_deg: float) -> Catalog:
        """Rows within a radius of a position, all in degrees."""
        return self._with_subset("cone:" + _numbers(ra_deg, dec_deg, radius_deg))

    def box(self, ra_min_deg: float, ra_max_deg: float, dec_min_deg: float, dec_max_deg: float) -> Catalog:
        """Rows between right ascensions (through 0 when the first is larger) and declinations."""
        return self._with_subset("box:" + _numbers(ra_min_deg, ra_max_deg, dec_min_deg, dec_max_deg))

    def polygon(self, corners_deg: Sequence[tuple[float, float]]) -> Catalog:
        """Rows inside a convex polygon with corners (ra, dec) in degrees."""
        return self._with_subset("polygon:" + ";".join(_numbers(ra, dec) for ra, dec in corners_deg))

    def pixels(self, pixels: Sequence[tuple[int, int]]) -> Catalog:
        """Rows inside HEALPix pixels (order, ipix), NESTED."""
        return self._with_subset("pixels:" + ",".join(f"{order}/{ipix}" for order, ipix in pixels))

    def sample(self, fraction: float) -> Catalog:
        """A share of the rows, chosen by their place on the sky: the same ones every time, however stored."""
        return self._with_subset("sample:" + _numbers(fraction))

    def columns(self, names: Sequence[str]) -> Catalog:
        """Only these columns (and ``_healpix_29``).

        Raises
        ------
        SchemaError
            If a column is not there.
        """
        missing = [name for name in names if name not in self.schema.names]
        if missing:
            known = ", ".join(self.schema.names)
            raise SchemaError("no such columns", seen=", ".join(missing), needed=f"some of {known}")
        chosen = list(dict.fromkeys(["_healpix_29", *names]))
        schema = pa.schema([self.schema.field(name) for name in chosen])
        return replace(self, schema=schema, steps=(*self.steps, partial(_select, chosen)))

    def crossmatch(self, other: Catalog | str | Path, *, radius_arcsec: float, **options: Any) -> Catalog:
        """Match with a stored catalogue; options are those of :class:`stellarscale.config.MatchStep`.

        Raises
        ------
        SchemaError
            If a column of the result would have two sources, or the position was not selected.
        CatalogError
            If `other` is a view with regions or steps of its own: write it first.
        ConfigError
            If an option is not known or its value makes no sense.
        """
        right = open_catalog(other) if isinstance(other, str | Path) else other
        if right.subsets or right.steps:
            raise CatalogError("the right side of a match must be a whole stored catalogue", cause="write it first")
        if options.get("keep") == "mutual" and any(step.func is not _select for step in self.steps):
            raise CatalogError(
                "a mutual match needs all rows of the left catalogue, and earlier steps may have changed them",
                cause="write the view first, and match what was written",
            )
        settings = {"catalog": str(right.stored.root), "radius_arcsec": radius_arcsec, **options}
        step = parse_mapping(MatchStep, settings, where="crossmatch")
        left = replace(self.stored, schema=self.schema)
        config = match_config(left, right.stored, step)
        margin = match_margin_arcsec(self.stored, right.stored, config)
        schema = output_schema(self.schema, right.stored.schema, config)
        task = MatchTask(self.stored.root, right.stored.root, self.stored.root, config, margin, _joined(self.subsets))
        marks = {f"stellarscale_{name}": value for name, value in pair_properties(config).items()}
        properties = replace(self.stored.properties, extra={**self.stored.properties.extra, **marks})
        stored = replace(self.stored, properties=properties)
        return replace(self, stored=stored, schema=schema, steps=(*self.steps, partial(_match, task)))

    def map_partitions(self, function: Callable[[pa.Table], pa.Table]) -> Catalog:
        """Apply an importable function from table to table; the new schema is that of its result on no rows."""
        schema = function(self.schema.empty_table()).schema
        return replace(self, schema=schema, steps=(*self.steps, partial(_call, function)))

    @property
    def partitions(self) -> tuple[Pixel, ...]:
        """Stored partitions that this view touches, along the sky."""
        pixels = list(self.stored.pixels)
        for subset in self.subsets:
            pixels = pixels_touching(pixels, subset.ranges())
        return tuple(pixels)

    def partition(self, pixel: Pixel) -> pa.Table:
        """Read and work through one partition here and now."""
        position = (self.stored.properties.ra, self.stored.properties.dec)
        ranges = self.subsets[0].ranges() if self.subsets else None
        table = read_pixel(self.stored, pixel, columns=self._read_columns(), ranges=ranges)
        for subset in self.subsets:
            table = table.filter(pa.array(subset.mask(table, *position)))
        for step in self.steps:
            table = step(table, pixel)
        if table.schema.names != self.schema.names:
            seen, needed = ", ".join(table.schema.names), ", ".join(self.schema.names)
            raise SchemaError("a step returned other columns than it declared", seen=seen, needed=needed)
        return table

    def _read_columns(self) -> list[str] | None:
        """What the first step leaves and the regions before it need; None for all."""
        if not self.steps or self.steps[0].func is not _select:
            return None
        position = [self.stored.properties.ra, self.stored.properties.dec] if self.subsets else []
        return list(dict.fromkeys([*self.steps[0].args[0], *position]))

    def compute(self) -> pa.Table:
        """Read everything into one Arrow table, partitions in parallel."""
        import dask

        parts = dask.compute(*[dask.delayed(self.partition)(pixel) for pixel in self.partitions], scheduler="threads")
        return pa.concat_tables(parts) if parts else self.schema.empty_table()

    def to_dask(self) -> Any:
        """Dask dataframe of Arrow-backed columns, indexed by ``_healpix_29`` with known divisions.

        Raises
        ------
        CatalogError
            If the view touches no partition.
        """
        import dask.dataframe as dd

        pixels = self.partitions
        if not pixels:
            raise CatalogError("the view touches no partition", where=self.stored.root, cause="an empty region")
        divisions = [*(pixel.first for pixel in pixels), pixels[-1].last]
        meta = _frame(self.schema.empty_table())
        return dd.from_map(self._frame, list(pixels), meta=meta, divisions=tuple(divisions), label="read-hats")

    def write(self, out: str | Path) -> Catalog:
        """Write this view as a new HATS catalogue, and open it.

        Raises
        ------
        CatalogError
            If the directory exists and is not empty; nothing is left behind when the writing fails.
        SchemaError
            If the view has lost its position.
        """
        import dask

        root = Path(out)
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise CatalogError("the output directory already holds something", where=root, needed="a new directory")
        self._check_writable()
        unfinished = root.with_name(f".{root.name}.{uuid.uuid4().hex[:8]}.unfinished")
        try:
            records = dask.compute(
                *[dask.delayed(self._write_one)(unfinished, pixel) for pixel in self.partitions], scheduler="threads"
            )
            pixels = [record.pixel for record in records if record.rows]
            finish_catalog(unfinished, self._properties(root.name), self.schema, pixels)
            unfinished.rename(root)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return open_catalog(root)

    def _check_writable(self) -> None:
        position = (self.stored.properties.ra, self.stored.properties.dec)
        missing = [name for name in ("_healpix_29", *position) if name not in self.schema.names]
        if missing:
            raise SchemaError(
                "a catalogue cannot be without its position", where=self.stored.root, needed=", ".join(missing)
            )

    def _properties(self, name: str) -> CatalogProperties:
        """Properties of a catalogue of this view: only roles whose column it still has."""
        old = self.stored.properties
        extra = {key: value for key, value in old.extra.items() if key.startswith("stellarscale_")}
        gone = [role for role in ROLES if extra.get(role) not in {None, *self.schema.names}]
        gone += ["stellarscale_epoch_yr"] if "stellarscale_epoch_column" in gone else []
        extra = {key: value for key, value in extra.items() if key not in {*gone, *COUNTS}}
        return CatalogProperties(name=name, ra=old.ra, dec=old.dec, extra=extra)

    def _write_one(self, root: Path, pixel: Pixel) -> Any:
        return write_pixel(root, pixel, self.partition(pixel))

    def _frame(self, pixel: Pixel) -> Any:
        return _frame(self.partition(pixel))

    def _with_subset(self, text: str) -> Catalog:
        subset = parse_subset(text)
        if not self.steps:
            return replace(self, subsets=(*self.subsets, subset))
        position = (self.stored.properties.ra, self.stored.properties.dec)
        missing = [name for name in position if name not in self.schema.names]
        if missing:
            raise SchemaError("a region needs the position", needed=", ".join(missing), cause="choose the region first")
        # What was done before must not change, so the rows are cut where the call stands.
        return replace(self, steps=(*self.steps, partial(_within, subset, position)))


@dataclass(frozen=True)
class _All:
    """Rows that are in every one of several subsets."""

    subsets: tuple[Subset, ...]

    def mask(self, table: pa.Table, ra: str, dec: str) -> NDArray[np.bool_]:
        return np.logical_and.reduce([subset.mask(table, ra, dec) for subset in self.subsets])


def _joined(subsets: tuple[Subset, ...]) -> Any:
    return _All(subsets) if subsets else None


def _numbers(*values: float) -> str:
    """Numbers as a subset's text has them; numpy's own among them."""
    return ",".join(repr(float(value)) for value in values)


def _within(subset: Subset, position: tuple[str, str], table: pa.Table, pixel: Pixel) -> pa.Table:
    return table.filter(pa.array(subset.mask(table, *position)))


def _select(names: list[str], table: pa.Table, pixel: Pixel) -> pa.Table:
    return table.select(names)


def _call(function: Callable[[pa.Table], pa.Table], table: pa.Table, pixel: Pixel) -> pa.Table:
    return function(table)


def _match(task: MatchTask, table: pa.Table, pixel: Pixel) -> pa.Table:
    return matched_table(task, pixel, table)


def _frame(table: pa.Table) -> Any:
    import pandas as pd

    return table.to_pandas(types_mapper=pd.ArrowDtype).set_index("_healpix_29")
