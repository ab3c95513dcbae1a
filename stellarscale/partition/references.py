"""Labelled reference spectra made ready for the matcher: the compared pixels, no duplicates, the edge of the grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.partition.refinement import label_refinement
from stellarscale.settings.spectra_matching import EdgeRule, SpectraMatching

if TYPE_CHECKING:
    from stellarscale.kernels.template_match import Matches, Templates

Spectra = NDArray[np.float32]
# Labels (n, n_labels) from flux and ivar (n, n_pix) and the matches; NaN where the combined labels are to stay.
Refiner = Callable[[Spectra, Spectra, "Matches"], NDArray[np.float64]]

_NAMED_ROWS = 10


@dataclass(frozen=True, eq=False)
class References:
    """What spectra are matched against; made by :func:`prepare_references`, once per process.

    Parameters
    ----------
    templates : Templates
        The references as the matcher's kernel wants them.
    flux : ndarray of float32, shape (n_ref, n_pix)
        Their spectra on ``grid``.
    labels : ndarray of float64, shape (n_ref, n_labels)
        In the order of the settings' ``labels``.
    rows : ndarray of int32, shape (n_ref,)
        Their rows in the file, from 0.
    grid : WaveGrid
        The compared pixels, from the first window's to the last's.
    window : ndarray of bool, shape (n_pix,)
        Which of them lie in a window.
    at_edge : ndarray of bool, shape (n_ref, n_edges)
        Which references are at an edge; each label has two, lower and upper.
    duplicates : tuple of (int, int)
        Rows left out and the identical earlier row of each.
    filled : int
        Pixels without information that were interpolated.
    refine : callable, optional
        Makes better labels of the matches, see :data:`Refiner`.
    """

    templates: Templates
    flux: Spectra
    labels: NDArray[np.float64]
    rows: NDArray[np.int32]
    grid: WaveGrid
    window: NDArray[np.bool_]
    at_edge: NDArray[np.bool_]
    duplicates: tuple[tuple[int, int], ...] = ()
    filled: int = 0
    refine: Refiner | None = None


def prepare_references(
    flux: Spectra,
    ivar: Spectra | None,
    labels: NDArray[np.float64],
    grid: WaveGrid,
    config: SpectraMatching,
) -> References:
    """Cut references to the compared wavelengths, leave out duplicates, find the edge of the grid.

    Parameters
    ----------
    flux : ndarray of float32, shape (n_ref, n_grid)
        Spectra, rest frame, any scale.
    ivar : ndarray of float32, shape (n_ref, n_grid), optional
        0 where a pixel carries no information: its flux is interpolated between its neighbours. All pixels count when
        absent.
    labels : ndarray of float64, shape (n_ref, n_labels)
        In the order of ``config.labels``.
    grid : WaveGrid
        Of the spectra.
    config : SpectraMatching
        Windows, polynomial, edge rule.

    Raises
    ------
    InputError
        If there is no reference, the grid does not cover a window, a label or a weighted flux is not finite, a
        spectrum is not positive, or more of one is without information than ``config.masked_max``: rows are named. If
        labels are to be refined and the references cannot serve.
    """
    inside, window = _compared(grid, config)
    span = WaveGrid(grid.start_dex + grid.step_dex * inside.start, grid.step_dex, inside.stop - inside.start)
    cut = np.array(flux[:, inside], dtype=np.float32)
    good = np.ones(cut.shape, dtype=bool) if ivar is None else np.asarray(ivar[:, inside] > 0)
    if len(labels) != len(cut) or not len(cut):
        raise InputError("the references are incomplete", seen=f"{len(cut)} spectra, {len(labels)} rows of labels")
    labels = np.asarray(labels, dtype=np.float64).reshape(len(cut), len(config.labels))
    _refuse(
        np.asarray(~np.isfinite(labels).all(axis=1)), "references without labels", f"finite {', '.join(config.labels)}"
    )
    _refuse(
        np.asarray((~np.isfinite(cut) & good).any(axis=1)),
        "references with flux that is not finite",
        "finite flux, or ivar 0",
    )
    masked = 1.0 - good[:, window].mean(axis=1)
    _refuse(masked > config.masked_max, "references with too many masked pixels", f"at most {config.masked_max:.0%}")
    filled = _fill(cut, good)
    _refuse(np.asarray(np.median(cut[:, window], axis=1) <= 0), "references whose flux is not positive", "spectra")
    kept, duplicates = _distinct(cut)
    from stellarscale.kernels.template_match import prepare

    cut, labels = cut[kept], labels[kept]
    return References(
        prepare(cut, order=config.order),
        cut,
        labels,
        kept.astype(np.int32),
        span,
        window,
        edges(labels, config.labels, config.edge),
        duplicates,
        filled,
        label_refinement(cut, labels, config),
    )


def place_in(references: References, grid: WaveGrid) -> slice:
    """Pixels of a table's spectra that are the compared ones.

    Raises
    ------
    InputError
        If the pixels of the two grids do not align, or the spectra end before the windows do.
    """
    offset = references.grid.offset_in(grid)
    if offset is None:
        raise InputError(
            "the references are on another wavelength grid than the spectra",
            seen=f"references: {references.grid}; spectra: {grid}",
            needed="pixels at the same wavelengths",
            cause="resample the references onto the grid of the spectra, or import the spectra onto theirs",
        )
    if offset < 0 or offset + references.grid.n_pix > grid.n_pix:
        raise InputError(
            "the spectra do not cover the wavelengths that are compared",
            seen=f"spectra: {grid}",
            needed=str(references.grid),
            cause="the windows of the matching, or the grid of the import",
        )
    return slice(offset, offset + references.grid.n_pix)


def edges(labels: NDArray[np.float64], names: Sequence[str], rule: EdgeRule | None) -> NDArray[np.bool_]:
    """Which references are at the lower and upper edge of each label of the rule, shape (n_ref, 2 n_bins)."""
    if rule is None:
        return np.zeros((len(labels), 0), dtype=bool)
    near = {
        name: np.abs(values[:, None] - values[None, :]) <= rule.reach[name]
        for name, values in zip(names, labels.T, strict=True)
        if name in rule.reach
    }
    found = []
    for name, size in rule.bins.items():
        values = labels[:, list(names).index(name)]
        others = np.ones((len(labels), len(labels)), dtype=bool)
        for other, is_near in near.items():
            if other != name:
                others &= is_near
        beyond = values[None, :] - values[:, None]
        found += [~(others & (beyond < -size)).any(axis=1), ~(others & (beyond > size)).any(axis=1)]
    return np.stack(found, axis=1) if found else np.zeros((len(labels), 0), dtype=bool)


def _compared(grid: WaveGrid, config: SpectraMatching) -> tuple[slice, NDArray[np.bool_]]:
    """Pixels from the first window to the last, and which of them are in one."""
    first, last = config.span_aa
    slack = 10.0**grid.step_dex  # a grid of whole multiples of its step begins and ends up to a pixel inside
    if grid.wave_aa[0] > first * slack or grid.wave_aa[-1] * slack < last:
        raise InputError(
            "the references do not cover the wavelengths that are compared",
            seen=str(grid),
            needed=f"{first:g}-{last:g} Angstrom",
            cause="the windows of the matching, or references cut to another range",
        )
    inside = grid.window(first, last)
    window = np.zeros(grid.n_pix, dtype=bool)
    for low, high in config.windows_aa:
        window[grid.window(low, high)] = True
    return inside, window[inside]


def _refuse(bad: NDArray[np.bool_], what: str, needed: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        named = ", ".join(str(row) for row in rows[:_NAMED_ROWS]) + (", ..." if len(rows) > _NAMED_ROWS else "")
        raise InputError(f"{len(rows)} {what}", where=f"rows {named} (counted from 0)", needed=needed)


def _fill(flux: Spectra, good: NDArray[np.bool_]) -> int:
    """Interpolate what is masked between its neighbours, in place; a template needs a value everywhere."""
    pixels = np.arange(flux.shape[1])
    for row in np.flatnonzero(~good.all(axis=1) & good.any(axis=1)):
        bad = ~good[row]
        flux[row, bad] = np.interp(pixels[bad], pixels[~bad], flux[row, ~bad])
    return int((~good).sum())


def _distinct(flux: Spectra) -> tuple[NDArray[np.int64], tuple[tuple[int, int], ...]]:
    """Rows without the later ones of identical spectra, and these with the row that they repeat."""
    seen: dict[bytes, int] = {}
    first = np.array([seen.setdefault(row.tobytes(), index) for index, row in enumerate(flux)], dtype=np.int64)
    rows = np.arange(len(flux))
    return rows[first == rows], tuple((int(row), int(first[row])) for row in rows[first != rows])
