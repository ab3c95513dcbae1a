"""Diagrams of the stars of a catalogue: Kiel, colour - absolute magnitude, histograms of the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stellarscale.report.labels import compact, in_plot, several, with_unit
from stellarscale.report.plots_style import (
    CYCLE,
    GREY,
    MANY,
    Room,
    binned_median,
    cells_of,
    colour_bar,
    density,
    empty,
    image,
    limits,
    panels,
    plain_counts,
    round_ticks,
    styled,
)

MOST_POINTS = 20_000
CELLS = 110
BARS = Room(right=1.0, between=1.3, bottom=0.8)  # room for colour bars, and a legend below


def column_values(stars: pa.Table, name: str) -> NDArray[np.float64]:
    """A numeric column as float64, nulls as NaN."""
    column = stars.column(name).combine_chunks()
    return np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def class_column(stars: pa.Table) -> str | None:
    """The column of class codes, if there is one."""
    return next((name for name in ("class", "class_code") if name in stars.column_names), None)


def metallicity_column(stars: pa.Table) -> str | None:
    """The column of metallicities, if there is one."""
    return next((name for name in ("fe_h", "m_h") if name in stars.column_names), None)


def has_kiel(stars: pa.Table) -> bool:
    """Whether the table has what a Kiel diagram needs."""
    return {"teff", "logg"} <= set(stars.column_names)


@styled
def plot_kiel(stars: pa.Table) -> Figure:
    """Kiel diagram: density of stars, and the median metallicity where a metallicity column is there.

    Parameters
    ----------
    stars : pyarrow.Table
        Columns ``teff`` (K), ``logg`` (dex) and, when present, ``fe_h`` or ``m_h`` (dex).
    """
    metals = metallicity_column(stars)
    teff, logg = column_values(stars, "teff"), column_values(stars, "logg")
    values = column_values(stars, metals) if metals else np.full(len(teff), np.nan)
    good = np.isfinite(teff) & np.isfinite(logg)
    teff, logg, values = teff[good], logg[good], values[good]
    drawn, grid = panels(11.0 if metals else 6.0, 4.6, (1, 2 if metals else 1), room=BARS, share=(True, True))
    extent = (*limits(teff, cut=0.05, least=100.0), *limits(logg, cut=0.05, least=0.2))
    if len(teff) == 0:
        for axes in grid[0]:
            empty(axes, "no star has both parameters")
    else:
        colour_bar(density(grid[0, 0], teff, logg, extent), grid[0, 0], "stars per cell")
        grid[0, 0].set_title(_title(len(teff)))
        if metals:
            _metals(grid[0, 1], teff, logg, values, extent, metals)
    for axes in grid[0]:
        axes.set_xlabel(with_unit("teff", "K"))
        axes.grid(True)
    grid[0, 0].set_ylabel(with_unit("logg", "dex"))
    _flip(grid[0, 0], x=True)
    return drawn


def _title(number: int) -> str:
    return f"Density of {compact(number)} stars" if number > MANY else several(number, "star")


def _metals(axes: Axes, teff: NDArray, logg: NDArray, values: NDArray, extent: tuple[Any, ...], name: str) -> None:
    kept = np.isfinite(values)
    if not kept.any():
        empty(axes, f"no star has {name}")
        return
    low, high = limits(values[kept], cut=2.0, pad=0.0, least=0.1)
    options: dict[str, Any] = {"cmap": "cividis", "vmin": low, "vmax": high}
    if kept.sum() > MANY:
        median = binned_median(teff[kept], logg[kept], values[kept], extent, cells_of(axes, CELLS))
        cells: Any = image(axes, median, extent, **options)
        axes.set_title(f"Median {in_plot(name)} per cell")
    else:
        cells = axes.scatter(teff[kept], logg[kept], c=values[kept], s=9, linewidths=0, **options)
        axes.set_title(f"Coloured by {in_plot(name)}")
    colour_bar(cells, axes, with_unit(name, "dex"))


def _flip(axes: Axes, *, x: bool) -> None:
    """Magnitudes and log g grow downward, temperature to the left."""
    if x and not axes.xaxis_inverted():
        axes.invert_xaxis()
    if not axes.yaxis_inverted():
        axes.invert_yaxis()


@styled
def plot_colour_magnitude(
    stars: pa.Table, colour: str, absolute: str, class_names: Mapping[int, str] | None = None
) -> Figure:
    """Colour - absolute magnitude diagram (paper I, Fig. 1): density, and classes where they are known.

    Parameters
    ----------
    stars : pyarrow.Table
        Columns named by ``colour`` and ``absolute`` (mag) and, when present, ``class`` (integer code).
    class_names : mapping of int to str, optional
        Names of the codes for the legend.
    """
    classes = class_column(stars)
    x, y = column_values(stars, colour), column_values(stars, absolute)
    code = column_values(stars, classes) if classes else np.full(len(x), np.nan)
    good = np.isfinite(x) & np.isfinite(y)
    x, y, code = x[good], y[good], code[good]
    drawn, grid = panels(11.0 if classes else 6.0, 4.9, (1, 2 if classes else 1), room=BARS, share=(True, True))
    extent = (*limits(x, cut=0.05, least=0.1), *limits(y, cut=0.05, least=0.5))
    if len(x) == 0:
        for axes in grid[0]:
            empty(axes, "no star has both magnitudes")
    else:
        colour_bar(density(grid[0, 0], x, y, extent), grid[0, 0], "stars per cell")
        grid[0, 0].set_title(_title(len(x)))
        if classes:
            _by_class(grid[0, 1], x, y, code, class_names or {})
    for axes in grid[0]:
        axes.set_xlabel(with_unit(colour, "mag"))
        axes.grid(True)
    grid[0, 0].set_ylabel(with_unit(absolute, "mag"))
    _legend_below(drawn)
    _flip(grid[0, 0], x=False)
    return drawn


def _by_class(axes: Axes, x: NDArray, y: NDArray, code: NDArray, names: Mapping[int, str]) -> None:
    axes.set_title("Classes")
    for colour, label, chosen in _classes(code, names):
        index = np.flatnonzero(chosen)
        index = index[:: max(len(index) // MOST_POINTS, 1)]
        size = 1.6 if len(x) > MANY else 4.0
        axes.plot(x[index], y[index], "o", ms=size, mew=0, alpha=0.55, color=colour, rasterized=True)
        axes.plot([], [], "o", ms=6, mew=0, color=colour, label=f"{label} ({compact(chosen.sum())})")


def _classes(code: NDArray, names: Mapping[int, str]) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Colour, label and mask of each class, the most common first so that rare ones are drawn on top."""
    present = sorted({int(value) for value in np.unique(code[np.isfinite(code)])})
    listed = sorted({*names, *present})
    rows = [
        (CYCLE[listed.index(value) % len(CYCLE)], names.get(value, f"class {value}"), code == value)
        for value in present
    ]
    if not np.isfinite(code).all():
        rows.append((GREY, "no class", ~np.isfinite(code)))
    return sorted(rows, key=lambda row: -int(row[2].sum()))


def parameter_columns(stars: pa.Table) -> list[str]:
    """The stellar parameters a table has, in the usual order."""
    return [name for name in ("teff", "logg", "fe_h", "m_h") if name in stars.column_names]


@styled
def plot_parameters(stars: pa.Table, class_names: Mapping[int, str] | None = None) -> Figure:
    """Histograms of the parameters by class (paper I, Fig. 12); the table must have a parameter."""
    names = parameter_columns(stars)
    classes = class_column(stars)
    code = column_values(stars, classes) if classes else np.zeros(stars.num_rows)
    room = Room(bottom=0.8 if classes else 0.55, between=0.65)
    drawn, grid = panels(11.0 if len(names) > 2 else 8.0, 3.5, (1, len(names)), room=room)
    for axes, name in zip(grid[0], names, strict=True):
        values = column_values(stars, name)
        _histograms(axes, values, _classes(code, (class_names or {}) if classes else {0: "all stars"}))
        axes.set_xlabel(with_unit(name, "K" if name == "teff" else "dex"))
    grid[0, 0].set_ylabel("stars per bin")
    if classes:
        _legend_below(drawn)
    return drawn


def _legend_below(drawn: Figure) -> None:
    """One legend under all panels: inside a panel it would hide stars."""
    handles, labels = max((axes.get_legend_handles_labels() for axes in drawn.axes), key=lambda pair: len(pair[0]))
    if handles:
        columns = min(len(labels), 5)
        drawn.legend(handles, labels, loc="lower center", borderaxespad=0.1, ncols=columns, handletextpad=0.4)


def _histograms(axes: Axes, values: NDArray, classes: list[tuple[str, str, NDArray[np.bool_]]]) -> None:
    finite = np.isfinite(values)
    if not finite.any():
        empty(axes, "no star has this parameter")
    else:
        edges = np.linspace(*limits(values, least=1e-2), int(np.clip(np.sqrt(finite.sum()), 8, 60)) + 1)
        for colour, label, chosen in classes:
            if not (chosen & finite).any():
                continue
            counts, _ = np.histogram(values[chosen & finite], bins=edges)
            axes.stairs(counts, edges, color=colour, lw=1.5, label=label)
            axes.stairs(counts, edges, color=colour, alpha=0.12, fill=True)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        plain_counts(axes.yaxis)
        round_ticks(axes.xaxis)
        axes.grid(True, axis="y")
