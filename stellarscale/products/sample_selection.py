"""The empirical sample: branches of the diagram, supplement, exclusions, labels, one spectrum per star."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.errors import InputError
from stellarscale.kernels.cmd import Branch, colour_bins, fit_branch, offset_from
from stellarscale.partition.features import floats
from stellarscale.partition.sample import rejects_table
from stellarscale.products.sample_labels import CatalogOffset, Labelled, transfer_labels
from stellarscale.products.sample_roll import Roll, best_rows
from stellarscale.settings.sample import LABELS, CmdBranch, SampleSelection, Supplement

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class BranchFit:
    """A branch of the diagram as it was fitted.

    Attributes
    ----------
    config : CmdBranch
        Ranges, degree and half width asked for.
    branch : Branch
        Means, polynomial and band.
    colour, magnitude : ndarray, shape (n,)
        Dereddened BP - RP and absolute magnitude in G of every star of the subclasses within the distance limit.
    """

    config: CmdBranch
    branch: Branch
    colour: NDArray[np.float64]
    magnitude: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SampleResult:
    """The empirical sample and how it came about.

    Attributes
    ----------
    sample : Table
        The id of the spectrum under its own name, ``source_id``, ``snr_i``, ``branch``, ``teff`` (K), ``logg``,
        ``m_h`` (dex), ``label_source``, ``supplement`` (bool: joined without lying on a branch), ``distance_pc``,
        ``bp_rp_0``, ``m_g_0``, and the columns ``config.keep``.
    rejects : Table
        Rows of the input that are not in the sample, each with its reason.
    steps : Table
        ``step``, ``branch``, ``spectra``, ``stars``: what each step left, in order.
    branches : dict of str to BranchFit
        Branches that had stars, by name.
    offsets : tuple of CatalogOffset
        Offsets of every catalogue, branch and label.
    """

    sample: pa.Table
    rejects: pa.Table
    steps: pa.Table
    branches: dict[str, BranchFit]
    offsets: tuple[CatalogOffset, ...]


def select_sample(
    table: pa.Table, config: SampleSelection, *, excluded: Mapping[str, pa.Array] | None = None
) -> SampleResult:
    """Make the empirical sample out of rows that passed the cuts of single rows (paper II, sections 2.1 and 2.2).

    In this order: repeated ids, exclusions, distance and ranges and band of each branch, supplement, labels, best
    spectrum of each star. Where the paper is silent: fits use one spectrum per star, the best; the supplement's stars
    pass the cuts of single rows, the exclusions and the labels as all others do, and are spared the distance limit,
    the ranges and the band; a band ends where the bins of its fit end.

    Parameters
    ----------
    table : Table
        Rows of :func:`stellarscale.partition.sample.sample_rows`, of all partitions.
    config : SampleSelection
        Every number of the selection.
    excluded : mapping of str to Array, optional
        Star ids of the exclusions that are files, by the name of the exclusion.

    Raises
    ------
    InputError
        If no row is given, a branch has too few stars in its bins, a label catalogue has nothing in common with
        the reference, or no star is left. A branch without any stars is skipped and said.
    """
    if table.num_rows == 0:
        raise InputError("no spectrum passes the cuts of single rows", needed="spectra to select from")
    names = [branch.name for branch in config.branches]
    roll = Roll(_codes(table[config.cuts.star]), _numbers(table["branch"], names), names)
    snr = floats(table, config.cuts.snr)
    roll.count("cuts of single rows")
    roll.drop(_repeated(table[config.cuts.id]), "spectrum given twice")
    _exclude(table, roll, config, excluded or {})
    fits, spared = _branches(table, roll, snr, config)
    labelled = transfer_labels(table, roll, snr, config)
    if not config.keep_all_spectra:
        best = best_rows(roll.star, snr, roll.alive)
        roll.drop(~best, "not the best spectrum of its star")
    _check_survivors(roll)
    alive = pa.array(roll.alive)
    sample = _sample_table(table, config, labelled, spared).filter(alive)
    lost = pc.invert(alive)
    rejects = rejects_table(table.filter(lost), config, roll.reasons().filter(lost))
    return SampleResult(sample, rejects, roll.steps(), fits, labelled.offsets)


def all_rejects(early: pa.Table, result: SampleResult) -> pa.Table:
    """The rejects of the cuts of single rows, then those of the selection."""
    return pa.concat_tables([early, result.rejects])


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Numbers that are equal where the values are; nulls share one."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    codes: NDArray[np.int64] = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _numbers(column: pa.ChunkedArray, names: list[str]) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = pc.index_in(column, pa.array(names)).fill_null(-1).to_numpy().astype(np.int64)
    return numbers


def _repeated(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Rows whose id an earlier row has."""
    _, first = np.unique(_codes(column), return_index=True)
    repeated = np.ones(len(column), dtype=bool)
    repeated[first] = False
    return repeated


def _exclude(table: pa.Table, roll: Roll, config: SampleSelection, excluded: Mapping[str, pa.Array]) -> None:
    for item in config.exclusions:
        if item.column is not None:
            listed = pc.is_valid(table[item.column])
        elif item.name in excluded:
            listed = pc.is_in(table[config.cuts.star], value_set=excluded[item.name])
        else:
            raise InputError("the ids of a list of stars to leave out were not handed over", where=item.name)
        roll.drop(listed.to_numpy(), item.name)


def _branches(
    table: pa.Table, roll: Roll, snr: NDArray[np.float64], config: SampleSelection
) -> tuple[dict[str, BranchFit], NDArray[np.bool_]]:
    """Fit every branch, take out what is off it and readmit the supplement; which rows that spared is returned."""
    before = roll.alive.copy()
    distance, colour, magnitude = (floats(table, name) for name in ("distance_pc", "bp_rp_0", "m_g_0"))
    near, in_colour, in_magnitude = np.zeros((3, table.num_rows), dtype=bool)
    offset, half = np.full(table.num_rows, np.nan), np.zeros(table.num_rows)
    fits: dict[str, BranchFit] = {}
    for number, branch in enumerate(config.branches):
        rows = roll.of(number)
        if not rows.any():
            log.warning("no star of the branch %s is left to select from", branch.name)
            continue
        near |= rows & (distance < branch.max_distance_pc)
        in_colour |= rows & _inside(colour, branch.colour)
        in_magnitude |= rows & _inside(magnitude, branch.magnitude)
        shown = best_rows(roll.star, snr, rows & near)
        fitted = shown & in_colour & in_magnitude
        fit = _fit(colour[fitted], magnitude[fitted], branch)
        offset[rows], half[rows] = offset_from(fit, colour[rows], magnitude[rows]), fit.half_width
        fits[branch.name] = BranchFit(branch, fit, colour[shown], magnitude[shown])
    roll.drop(~near, "distance")
    roll.drop(~in_colour, "colour range")
    roll.drop(~in_magnitude, "magnitude range")
    roll.drop(np.isnan(offset), "colour beyond the fit")
    roll.drop(~(np.abs(offset) <= half), "outside the band")
    if config.supplement is None:
        return fits, np.zeros(table.num_rows, dtype=bool)
    spared = before & ~roll.alive & _supplement(table, snr, config.supplement)
    roll.readmit(spared, "supplement joined")
    return fits, spared


def _inside(values: NDArray[np.float64], limits: tuple[float, float] | None) -> NDArray[np.bool_]:
    if limits is None:
        return np.isfinite(values)
    return (values >= limits[0]) & (values <= limits[1])


def _fit(colour: NDArray[np.float64], magnitude: NDArray[np.float64], branch: CmdBranch) -> Branch:
    origin = branch.colour[0] if branch.colour else 0.0
    bins = colour_bins(colour, magnitude, width=branch.bin_width, origin=origin, min_count=branch.min_per_bin)
    try:
        return fit_branch(bins, degree=branch.degree, half_width=branch.half_width)
    except ValueError as error:
        counts = ", ".join(
            f"{low:g}-{high:g}: {n}" for low, high, n in zip(bins.low, bins.high, bins.count, strict=True)
        )
        raise InputError(
            f"the {branch.name} branch of the colour-magnitude diagram cannot be fitted: {error}",
            where=f"branches.{branch.name}",
            seen=f"{len(colour):,} stars within its distance and ranges; BP-RP {counts or 'none'}",
            needed=f"{branch.degree + 1} colour bins of {branch.min_per_bin} stars or more (`min_per_bin`)",
            cause="a small part of the sky, ranges that leave the stars out, or a wrong reddening or distance unit",
        ) from error


def _supplement(table: pa.Table, snr: NDArray[np.float64], supplement: Supplement) -> NDArray[np.bool_]:
    """Rows with a good spectrum and precise labels."""
    precise = snr > supplement.min_snr
    for name, limit in zip(supplement.errors.names, supplement.max_errors.values, strict=True):
        error = floats(table, name)
        precise &= (error >= 0) & (error < limit)
    return precise


def _check_survivors(roll: Roll) -> None:
    if roll.alive.any():
        return
    left: dict[str, int] = {}
    for row in roll.steps().to_pylist():
        left[row["step"]] = left.get(row["step"], 0) + row["spectra"]
    raise InputError(
        "no star is left in the sample",
        seen="; ".join(f"{step}: {count:,}" for step, count in left.items()) + " (spectra left after each step)",
        needed="one star or more after the last step",
        cause="the step that takes the last ones has a wrong column, unit or limit",
    )


def _sample_table(table: pa.Table, config: SampleSelection, labelled: Labelled, spared: NDArray[np.bool_]) -> pa.Table:
    """The columns of the sample for all rows of the table."""
    columns = {config.cuts.id: table[config.cuts.id], "source_id": table[config.cuts.star]}
    columns |= {"snr_i": table[config.cuts.snr], "branch": table["branch"]}
    for place, label in enumerate(LABELS):
        columns[label] = pa.array(labelled.values[:, place])
    names = pa.array([catalog.name for catalog in config.catalogs], pa.string())
    columns["label_source"] = names.take(pa.array(labelled.source, mask=labelled.source < 0))
    columns["supplement"] = pa.array(spared)
    columns |= {name: table[name] for name in ("distance_pc", "bp_rp_0", "m_g_0", *config.keep)}
    return pa.table(columns)
