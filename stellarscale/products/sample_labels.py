"""Labels of the empirical sample: offsets to the reference, tolerances, the catalogue that serves each star."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.errors import InputError
from stellarscale.kernels.label_transfer import LabelOffset, first_of, label_offset, within
from stellarscale.partition.features import floats
from stellarscale.products.sample_roll import Roll, best_rows
from stellarscale.settings.sample import LABELS, CmdBranch, LabelCatalog, LabelColumns, SampleSelection

OFFSETS = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("catalog", "branch", "label", "method")),
        *(pa.field(name, pa.float64()) for name in ("added", "mean", "sigma")),
        pa.field("stars", pa.int64()),
    ]
)


@dataclass(frozen=True)
class CatalogOffset:
    """Offset of one label of one catalogue on one branch.

    Attributes
    ----------
    catalog, branch, label : str
        Whose offset it is; the label is one of ``teff`` (K), ``logg``, ``m_h`` (dex).
    offset : LabelOffset
        What is added, the fit and its histogram.
    """

    catalog: str
    branch: str
    label: str
    offset: LabelOffset


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labels of every row, NaN and -1 where a row gets none.

    Attributes
    ----------
    values : ndarray, shape (n, 3)
        In the order of ``LABELS``, offsets applied.
    source : ndarray of int64, shape (n,)
        Number of the label catalogue.
    offsets : tuple of CatalogOffset
        Every offset that was used.
    """

    values: NDArray[np.float64]
    source: NDArray[np.int64]
    offsets: tuple[CatalogOffset, ...]


def transfer_labels(table: pa.Table, roll: Roll, snr: NDArray[np.float64], config: SampleSelection) -> Labelled:
    """Label the rows that are in and take out those without labels (paper II, section 2.2).

    Offsets are fitted branch by branch over the best spectrum of each star. Tolerances are applied catalogue by
    catalogue, and the preferred catalogue is chosen among those that agree with the reference: a star whose first
    catalogue is beyond the tolerance is labelled by the next. The paper does not say which of the two comes first.

    Parameters
    ----------
    table : Table
        Rows with the label columns of the config.
    roll : Roll
        Rows that are in; those without labels are taken out, each with its reason.
    snr : ndarray, shape (n,)
        Signal to noise of each row.
    config : SampleSelection
        Reference, label catalogues and tolerances.

    Raises
    ------
    InputError
        If a catalogue that serves a branch with stars has no star in common with the reference, and no offset given.
    """
    reference = _values(table, config.reference)
    roll.drop(np.logical_not(np.isfinite(reference).all(axis=1)), "no labels of the reference")
    given = [_values(table, catalog.columns) for catalog in config.catalogs]
    complete = np.zeros((len(given), table.num_rows), dtype=bool)
    agreeing = np.zeros_like(complete)
    offsets: list[CatalogOffset] = []
    for number, branch in enumerate(config.branches):
        rows = roll.of(number)
        best = best_rows(roll.star, snr, rows)
        for place, catalog in enumerate(config.catalogs):
            if not (catalog.serves(branch.name) and rows.any()):
                continue
            found = _offsets(given[place][best], reference[best], catalog, branch)
            offsets += found
            given[place][rows] += [item.offset.added for item in found]
            complete[place, rows] = np.isfinite(given[place][rows]).all(axis=1)
            limits = np.array(branch.tolerance.values)
            agreeing[place, rows] = within(given[place][rows], reference[rows], limits)
    roll.drop(np.logical_not(complete.any(axis=0)), "no labels of a catalogue")
    roll.drop(np.logical_not(agreeing.any(axis=0)), "labels beyond the tolerance")
    return _chosen(given, first_of(agreeing), offsets)


def offsets_table(offsets: Sequence[CatalogOffset]) -> pa.Table:
    """One row per offset: what is added, the fitted mean and sigma, how many stars, and how it came about.

    ``method`` is ``fit``, ``median`` (too few stars for a fit, or none converged) or ``given``; ``mean`` and
    ``sigma`` are null where no star is in both catalogues.
    """
    rows: list[dict[str, object]] = []
    for item in offsets:
        fit = item.offset.fit
        method = "given" if item.offset.given else "fit" if fit is not None and fit.converged else "median"
        row: dict[str, object] = {"catalog": item.catalog, "branch": item.branch, "label": item.label, "method": method}
        row |= {"added": item.offset.added, "stars": fit.n if fit else 0}
        row |= {"mean": fit.mean if fit else None, "sigma": fit.sigma if fit else None}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=OFFSETS)


def _values(table: pa.Table, columns: LabelColumns) -> NDArray[np.float64]:
    values = np.stack([floats(table, name) for name in columns.names], axis=1)
    return np.where(np.isfinite(values), values, np.nan)


def _offsets(
    values: NDArray[np.float64], reference: NDArray[np.float64], catalog: LabelCatalog, branch: CmdBranch
) -> list[CatalogOffset]:
    """Offsets of the three labels; values and reference are those of one spectrum per star, shape (m, 3)."""
    known = catalog.offsets.get(branch.name)
    result = []
    for place, label in enumerate(LABELS):
        given = None if known is None else known[place]
        if given is None and not np.isfinite(values[:, place]).any():
            raise InputError(
                "a label catalogue has no star in common with the reference",
                where=f"catalogs.{catalog.name}: {catalog.columns.names[place]}, branch {branch.name}",
                seen=f"{len(values):,} stars of the branch with labels of the reference, none with this label",
                needed="stars in both, or `offsets` given for the branch",
                cause="the catalogue was matched to no star of this branch, does not give this label, or should "
                "not serve the branch (`branches`)",
            )
        offset = label_offset(values[:, place], reference[:, place], given=given)
        result.append(CatalogOffset(catalog.name, branch.name, label, offset))
    return result


def _chosen(given: list[NDArray[np.float64]], source: NDArray[np.int64], offsets: list[CatalogOffset]) -> Labelled:
    values = np.full((len(source), len(LABELS)), np.nan)
    for place, labels in enumerate(given):
        values[source == place] = labels[source == place]
    return Labelled(values, source, tuple(offsets))
