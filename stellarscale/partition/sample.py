"""Matched spectra that may enter the empirical sample: cuts of single rows, branch, place in the diagram."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.errors import SchemaError
from stellarscale.kernels.photometry import deredden
from stellarscale.partition.features import feature_field, floats
from stellarscale.schema import field_metadata
from stellarscale.settings.sample import CmdBranch, SampleCuts, SampleSelection

PIXEL = "_healpix_29"


def sample_rows(table: pa.Table, config: SampleSelection, ebv: NDArray | None = None) -> tuple[pa.Table, pa.Table]:
    """Rows that pass the cuts of single rows, narrowed to what the selection needs, and the others with a reason.

    Absolute magnitudes come from the photogeometric distance, colours and magnitudes are freed of extinction (paper
    II, section 2.1). A missing value fails its cut. Error / parallax below the limit asks for a positive parallax.

    Parameters
    ----------
    table : Table
        Matched spectra with the columns of :func:`needed_columns`.
    config : SampleSelection
        Cuts, branches, and the columns to carry along.
    ebv : ndarray, shape (n,), optional
        E(B-V) from dust maps, needed when the config names maps.

    Returns
    -------
    kept : Table
        ``_healpix_29`` where the table has it, the columns ``config.carried``, ``branch`` (string), ``distance_pc``
        (float32), ``bp_rp_0`` and ``m_g_0`` (float32, mag).
    rejects : Table
        One row per row that is not kept: the columns of :func:`rejects_schema`. The first reason that holds counts,
        so rows in = rows kept + rows rejected.

    Raises
    ------
    SchemaError
        If a column is missing, or E(B-V) was not handed over.
    """
    _check_columns(table.schema, config)
    made = _made(table, config.cuts, _reddening(table, config.cuts, ebv))
    branch = _branches(table[config.cuts.subclass], config.branches)
    reason = np.zeros(table.num_rows, dtype=np.int32)
    cuts = _failed(table, config.cuts, made, branch)
    for number, failed in enumerate(cuts.values(), start=1):
        reason[(reason == 0) & failed] = number
    names = pa.array([config.branches[code].name if code >= 0 else None for code in range(-1, len(config.branches))])
    branch_names = names.take(pa.array(branch + 1))
    result = table.select([*([PIXEL] if PIXEL in table.schema.names else []), *config.carried])
    result = result.append_column(_branch_field(), branch_names)
    for name, values in made.items():
        result = result.append_column(_made_field(name), pa.array(values.astype(np.float32), mask=np.isnan(values)))
    lost = pa.array(reason > 0)
    reasons = pa.array(["", *cuts]).take(pa.array(reason))
    return result.filter(pc.invert(lost)), rejects_table(result.filter(lost), config, reasons.filter(lost))


def needed_columns(config: SampleSelection) -> list[str]:
    """Columns of the matched table that :func:`sample_rows` reads, without repeats."""
    cuts = config.cuts
    names = [cuts.subclass, cuts.ruwe, cuts.parallax, cuts.parallax_error, cuts.distance_pc]
    names += [name for band in cuts.bands.values() for name in (band.mag, band.err)]
    names += [name for name in (cuts.reddening.column, cuts.reddening.av_column) if name]
    return list(dict.fromkeys([*config.carried, *names]))


def rejects_schema(schema: pa.Schema, config: SampleSelection) -> pa.Schema:
    """Fields of a table of rejects: id of the spectrum, ``source_id``, ``branch`` (null: none), ``reason``."""
    return pa.schema(
        [
            pa.field(config.cuts.id, schema.field(config.cuts.id).type),
            pa.field("source_id", schema.field(config.cuts.star).type),
            pa.field("branch", pa.string()),
            pa.field("reason", pa.string()),
        ]
    )


def rejects_table(rows: pa.Table, config: SampleSelection, reasons: pa.Array) -> pa.Table:
    """The record of rows that are left out, each with its reason; see :func:`rejects_schema`."""
    columns = [rows[config.cuts.id], rows[config.cuts.star], rows["branch"], reasons]
    return pa.table(columns, schema=rejects_schema(rows.schema, config))


def reason_counts(rejects: pa.Table) -> dict[str, int]:
    """Rows lost by reason."""
    counted = rejects.group_by("reason", use_threads=False).aggregate([([], "count_all")])
    return dict(zip(counted["reason"].to_pylist(), counted["count_all"].to_pylist(), strict=True))


def _check_columns(schema: pa.Schema, config: SampleSelection) -> None:
    missing = sorted(set(needed_columns(config)) - set(schema.names))
    if missing:
        raise SchemaError(
            "the selection of the sample needs columns that the table does not have",
            seen=", ".join(schema.names),
            needed=", ".join(missing),
            cause="a catalogue of the chain is missing, or its prefix differs from the job's",
        )


def _reddening(table: pa.Table, cuts: SampleCuts, ebv: NDArray | None) -> NDArray[np.float64]:
    source = cuts.reddening
    if source.column is not None:
        return floats(table, source.column)
    if source.av_column is not None:
        return floats(table, source.av_column) / source.av_per_ebv
    if source.value is not None:
        return np.full(table.num_rows, source.value)
    if ebv is None or np.shape(ebv) != (table.num_rows,):
        raise SchemaError(
            "the job names SFD98 maps but E(B-V) was not handed over for each row",
            seen=None if ebv is None else f"shape {np.shape(ebv)}",
            needed=f"an array of {table.num_rows} values",
        )
    return np.asarray(ebv, dtype=np.float64)


def _made(table: pa.Table, cuts: SampleCuts, ebv: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    free = {name: deredden(floats(table, band.mag), ebv, band.extinction) for name, band in cuts.bands.items()}
    given = floats(table, cuts.distance_pc)
    distance = np.where(np.isfinite(given) & (given > 0), given, np.nan)
    return {
        "distance_pc": distance,
        "bp_rp_0": free["BP"] - free["RP"],
        "m_g_0": free["G"] - 5.0 * np.log10(distance) + 5.0,
    }


def _branches(subclass: pa.ChunkedArray, branches: tuple[CmdBranch, ...]) -> NDArray[np.int64]:
    """Number of the branch that each subclass belongs to, -1 where there is none."""
    # Subclasses are few and rows are many: decide once per distinct subclass.
    encoded = pc.cast(subclass, pa.string()).combine_chunks().dictionary_encode()
    known = encoded.dictionary.to_pylist()
    of = {name: n for name in known for n, branch in enumerate(branches) if name.startswith(branch.subclasses)}
    codes = np.array([*(of.get(name, -1) for name in known), -1], dtype=np.int64)
    place = pc.fill_null(encoded.indices, len(known)).to_numpy(zero_copy_only=False)
    return codes[place]


def _failed(
    table: pa.Table, cuts: SampleCuts, made: Mapping[str, NDArray[np.float64]], branch: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Which rows fail which cut, by reason; written so that NaN fails."""
    failed = {
        "no id": pc.is_null(table[cuts.id]).to_numpy(),
        "no star": pc.is_null(table[cuts.star]).to_numpy(),
        "S/N": ~(floats(table, cuts.snr) >= cuts.min_snr),
        "subclass": branch < 0,
    }
    for name, band in cuts.bands.items():
        magnitude, error = floats(table, band.mag), floats(table, band.err)
        # The paper's ratio has a meaning for positive magnitudes only; stars brighter than zero never fail it.
        relative = error < cuts.max_relative_mag_error * np.where(magnitude > 0, magnitude, np.inf)
        failed[f"photometry {name}"] = ~np.isfinite(magnitude)
        failed[f"error of {name}"] = ~((error >= 0) & (error < cuts.max_mag_error))
        failed[f"relative error of {name}"] = ~relative
    parallax, error = floats(table, cuts.parallax), floats(table, cuts.parallax_error)
    failed["RUWE"] = ~(floats(table, cuts.ruwe) < cuts.max_ruwe)
    failed["relative error of the parallax"] = ~((error >= 0) & (error < cuts.max_relative_parallax_error * parallax))
    failed["no distance"] = np.isnan(made["distance_pc"])
    failed["no E(B-V)"] = ~(np.isfinite(made["bp_rp_0"]) & np.isfinite(made["m_g_0"]))
    return failed


def _branch_field() -> pa.Field:
    metadata = field_metadata("", "src.class", "branch of the colour-magnitude diagram, from the subclass")
    return pa.field("branch", pa.string(), metadata=metadata)


def _made_field(name: str) -> pa.Field:
    if name == "distance_pc":
        return pa.field(name, pa.float32(), metadata=field_metadata("pc", "pos.distance", "photogeometric distance"))
    return feature_field(name)
