"""All plots of a catalogue as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from matplotlib.figure import Figure

from stellarscale.report.content import SkyCounts
from stellarscale.report.plots_sky import plot_sky
from stellarscale.report.plots_stars import (
    has_kiel,
    parameter_columns,
    plot_colour_magnitude,
    plot_kiel,
    plot_parameters,
)
from stellarscale.report.plots_style import png


def star_figures(
    stars: pa.Table, *, colour_column: str, absolute_column: str, class_names: Mapping[int, str] | None = None
) -> dict[str, Figure]:
    """The diagrams a table has columns for, by name: ``kiel``, ``colour_magnitude``, ``parameters``."""
    figures: dict[str, Figure] = {}
    if has_kiel(stars):
        figures["kiel"] = plot_kiel(stars)
    if {colour_column, absolute_column} <= set(stars.column_names):
        figures["colour_magnitude"] = plot_colour_magnitude(stars, colour_column, absolute_column, class_names)
    if parameter_columns(stars):
        figures["parameters"] = plot_parameters(stars, class_names)
    return figures


def plot_catalog(
    stars: pa.Table,
    sky: SkyCounts | None,
    out: Path,
    *,
    colour_column: str = "bp_rp_0",
    absolute_column: str = "m_g_0",
    class_names: Mapping[int, str] | None = None,
) -> list[Path]:
    """Write the plots a catalogue has columns for as PNG files.

    Parameters
    ----------
    stars : pyarrow.Table
        A sample of the rows; see :class:`stellarscale.report.content.ReportContent` for the columns used.
    sky : SkyCounts, optional
        Counts of the whole catalogue.
    out : Path
        Directory, made when absent.

    Returns
    -------
    list of Path
        Files written, as far as they apply: ``sky.png``, ``kiel.png``, ``colour_magnitude.png``,
        ``parameters.png``.
    """
    figures = {} if sky is None else {"sky": plot_sky(sky)}
    figures |= star_figures(
        stars, colour_column=colour_column, absolute_column=absolute_column, class_names=class_names
    )
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, drawn in figures.items():
        path = out / f"{name}.png"
        path.write_bytes(png(drawn))
        written.append(path)
    return written
