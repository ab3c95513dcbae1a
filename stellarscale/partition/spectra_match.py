"""Stellar parameters of spectra from the references that resemble them most (paper II, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.flags import COLUMN, Flag
from stellarscale.kernels.wavelength import LIGHT_KMS
from stellarscale.partition.features import floats
from stellarscale.partition.references import References, place_in
from stellarscale.partition.spectra_match_schema import SpectraMatchConfig, needed_columns, output_schema
from stellarscale.settings.spectra_matching import RvRefinement, SpectraMatching
from stellarscale.spectra_columns import FLUX, IVAR, grid_of, spectra_of

__all__ = ["SpectraMatchConfig", "match_partition", "needed_columns", "output_schema"]

if TYPE_CHECKING:
    from stellarscale.kernels.clean_spectra import CleanSpectra
    from stellarscale.kernels.radial_velocity import Velocities
    from stellarscale.kernels.template_match import Matches


def match_partition(table: pa.Table, config: SpectraMatchConfig, references: References) -> pa.Table:
    """Match every spectrum of a table; no row is dropped.

    Parameters
    ----------
    table : Table
        Spectra at rest, with the columns of :func:`needed_columns`.
    config : SpectraMatchConfig
        Windows, polynomial, limits of the flags, columns kept.
    references : References
        Prepared with the same settings.

    Returns
    -------
    Table
        Schema :func:`output_schema`. Each label is the mean of those of the ``k`` best references, with the weights
        of the combination that fits best; its spread is their weighted standard deviation. The reduced chi-square
        divides by the pixels less the polynomial's coefficients and the free weights of the combination. Labels are
        null, and flagged, for spectra with too few weighted pixels or whose weighted mean flux is not positive.

    Raises
    ------
    SchemaError
        If a column is missing, or the table holds no spectra.
    InputError
        If the spectra are on another grid than the references, or end before the windows do.

    Notes
    -----
    BAD_FIT: the reduced chi-square is above ``chi2_reduced_max + mismatch ** 2 * mean(flux ** 2 * ivar)``, where the
    second term is what references that differ from the star by a part ``mismatch`` of its flux add at that signal to
    noise. EDGE_OF_GRID: see :class:`stellarscale.settings.spectra_matching.EdgeRule`.
    """
    schema = output_schema(table.schema, config)
    spectra = _spectra(table, config.matching, references)
    fit = _fit(spectra, config.matching, references)
    columns = _results(fit, config.matching, references)
    columns["n_pix"] = spectra.clean.n_pix
    columns |= _velocities(table, config.matching, columns)
    columns[COLUMN] = spectra.flags | _fit_flags(fit, spectra, config.matching, references) | _flags_of(table)
    kept = config.matching.columns
    arrays = [
        _column(columns[field.name], field.type) if field.name in columns else table[kept.get(field.name, field.name)]
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


@dataclass(frozen=True)
class _Spectra:
    """Compared pixels of all spectra, what is told from these alone, and the rows that can be matched."""

    clean: CleanSpectra
    flags: NDArray[np.int32]
    usable: NDArray[np.int64]


def _spectra(table: pa.Table, config: SpectraMatching, references: References) -> _Spectra:
    from stellarscale.kernels.clean_spectra import clean_spectra

    pixels = place_in(references, grid_of(table.schema))
    flux, ivar = spectra_of(table, FLUX)[:, pixels], spectra_of(table, IVAR)[:, pixels]
    clean = clean_spectra(flux, ivar, references.window)
    flags = np.zeros(table.num_rows, dtype=np.int32)
    enough, positive = clean.n_pix >= config.min_pixels, clean.weighted > 0
    flags[~enough] |= Flag.TOO_FEW_PIXELS
    flags[(clean.n_pix > 0) & ~positive] |= Flag.NOT_POSITIVE_FLUX
    snr = np.sqrt(clean.snr2)
    if config.snr is not None:
        told = floats(table, config.snr)
        snr = np.where(np.isfinite(told), told, snr)
    flags[snr < config.snr_min] |= Flag.LOW_SNR
    return _Spectra(clean, flags, np.flatnonzero(enough & positive))


@dataclass(frozen=True)
class _Fit:
    """What was found for the usable rows: references (0 with no weight for none), labels, shift of the velocity."""

    rows: NDArray[np.int64]
    n_rows: int
    matches: Matches
    index: NDArray[np.int32]
    weights: NDArray[np.float64]
    reduced: NDArray[np.float64]
    refined: NDArray[np.float64] | None
    shift: Velocities | None

    def everywhere(self, values: NDArray[Any], blank: float = np.nan) -> NDArray[Any]:
        """Values of the usable rows among all rows."""
        result = np.full((self.n_rows, *values.shape[1:]), blank, dtype=values.dtype)
        result[self.rows] = values
        return result


def _fit(spectra: _Spectra, config: SpectraMatching, references: References) -> _Fit:
    from stellarscale.kernels.template_match import match_spectra

    rows, n_rows = spectra.usable, len(spectra.flags)
    flux, ivar = spectra.clean.flux, spectra.clean.ivar
    if len(rows) < n_rows:
        flux, ivar = flux[rows], ivar[rows]
    matches = match_spectra(flux, ivar, references.templates, k=config.k, candidates=config.candidates)
    there = matches.index >= 0
    index, weights = np.where(there, matches.index, 0), np.where(there, matches.weights, 0.0)
    dof = matches.n_pix - (config.order + 1) - (np.count_nonzero(weights > 0, axis=1) - 1)
    refined = references.refine(flux, ivar, matches) if references.refine is not None else None
    search, shift = config.refine_rv, None
    if search is not None:
        shift = _shift(flux, ivar, matches, references, search, config.order)
    return _Fit(rows, n_rows, matches, index, weights, matches.chi2_combined / np.maximum(dof, 1), refined, shift)


def _shift(
    flux: NDArray[np.float32],
    ivar: NDArray[np.float32],
    matches: Matches,
    references: References,
    search: RvRefinement,
    order: int,
) -> Velocities:
    """Velocity left relative to the best reference."""
    from stellarscale.kernels.radial_velocity import refine_velocity, velocity_grid

    grid_kms = velocity_grid(search.half_range_kms, search.step_kms)
    best = np.ascontiguousarray(matches.index[:, 0], dtype=np.int32)
    step = references.grid.step_dex
    return refine_velocity(flux, ivar, references.flux, best, step_dex=step, grid_kms=grid_kms, order=order)


def _results(fit: _Fit, config: SpectraMatching, references: References) -> dict[str, NDArray[Any]]:
    """Labels, their spreads, chi-square and references of all rows; NaN, or -1 for an id, where there is none."""
    columns: dict[str, NDArray[Any]] = {}
    near = references.labels[fit.index]
    mean = np.einsum("ij,ijk->ik", fit.weights, near)
    mean[~fit.weights.any(axis=1)] = np.nan
    spread = np.sqrt(np.einsum("ij,ijk->ik", fit.weights, (near - mean[:, None]) ** 2))
    value = mean if fit.refined is None else np.where(np.isfinite(fit.refined), fit.refined, mean)
    for number, label in enumerate(config.labels):
        columns[label] = fit.everywhere(value[:, number])
        columns[f"{label}_spread"] = fit.everywhere(spread[:, number])
    columns["chi2"] = fit.everywhere(fit.matches.chi2_combined)
    columns["chi2_reduced"] = fit.everywhere(fit.reduced)
    ids = np.where(fit.matches.index >= 0, references.rows[fit.index], np.int32(-1))
    columns["reference_ids"] = fit.everywhere(ids, -1)
    columns["reference_weights"] = fit.everywhere(fit.weights, 0.0)
    if fit.shift is not None:
        columns["rv_shift"] = fit.everywhere(fit.shift.velocity_kms)
        columns["rv_shift_err"] = fit.everywhere(fit.shift.err_kms)
    return columns


def _fit_flags(fit: _Fit, spectra: _Spectra, config: SpectraMatching, references: References) -> NDArray[np.int32]:
    flags = np.zeros(fit.n_rows, dtype=np.int32)
    limit = config.chi2_reduced_max + config.mismatch**2 * spectra.clean.snr2[fit.rows]
    flags[fit.rows[fit.reduced > limit]] |= Flag.BAD_FIT
    at_edge = np.einsum("ij,ijk->ik", fit.weights, references.at_edge[fit.index]) > 0.5
    flags[fit.rows[at_edge.any(axis=1)]] |= Flag.EDGE_OF_GRID
    if fit.shift is not None:
        flags[fit.rows[fit.shift.at_limit]] |= Flag.RV_AT_LIMIT
    return flags


def _velocities(
    table: pa.Table, config: SpectraMatching, columns: dict[str, NDArray[Any]]
) -> dict[str, NDArray[np.float64]]:
    """The pipeline's velocity, with the shift on top where one was found inside of the search range."""
    if config.rv is None:
        return {}
    velocity = floats(table, config.rv)
    if config.refine_rv is None:
        unknown = np.full(table.num_rows, np.nan)
        return {"rv": velocity, "rv_err": unknown if config.rv_err is None else floats(table, config.rv_err)}
    err = columns["rv_shift_err"]
    shift = np.where(np.isfinite(err), columns["rv_shift"], 0.0)
    # Factors 1 + v/c multiply; the shift was found at rest.
    return {
        "rv": velocity + shift * (1.0 + velocity / LIGHT_KMS),
        "rv_err": np.where(np.isfinite(velocity), err, np.nan),
    }


def _flags_of(table: pa.Table) -> NDArray[np.int32]:
    if COLUMN not in table.schema.names:
        return np.zeros(table.num_rows, dtype=np.int32)
    return pc.fill_null(table[COLUMN], 0).to_numpy().astype(np.int32)


def _column(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """A column of numbers, NaN as null, or of lists."""
    if pa.types.is_fixed_size_list(kind):
        flat = np.ascontiguousarray(values, dtype=kind.value_type.to_pandas_dtype()).ravel()
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind)
    return pa.array(values, from_pandas=True).cast(kind)
