"""Lists of stars that are left out of the empirical sample, e.g. variable stars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from stellarscale.errors import InputError
from stellarscale.settings.sample import Exclusion


def read_exclusions(exclusions: Sequence[Exclusion], kind: pa.DataType) -> dict[str, pa.Array]:
    """Ids of the stars in every list that is a file, by the name of the list.

    Parameters
    ----------
    exclusions : sequence of Exclusion
        Those that name a matched column are passed over.
    kind : DataType
        Type of the column of star ids that the lists are compared with.

    Raises
    ------
    InputError
        If a file does not exist, cannot be read, has no such column, or its ids are not of that type.
    """
    return {item.name: _read(item, kind) for item in exclusions if item.file is not None}


def _read(exclusion: Exclusion, kind: pa.DataType) -> pa.Array:
    assert exclusion.file is not None, "called for files"
    path = Path(exclusion.file)
    try:
        if path.suffix == ".parquet":
            column = pq.read_table(path, columns=[exclusion.id]).column(exclusion.id)
            if pa.types.is_floating(column.type):
                raise pa.ArrowInvalid("ids stored as floating-point numbers have lost digits")
            ids = column.cast(kind)
        else:
            options = pa_csv.ConvertOptions(include_columns=[exclusion.id], column_types={exclusion.id: kind})
            ids = pa_csv.read_csv(path, convert_options=options).column(0)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(
            f"the list of stars to leave out ({exclusion.name}) cannot be used",
            where=path,
            seen=error,
            needed=f"a .csv or .parquet file with a column {exclusion.id} of type {kind}",
        ) from error
    return ids.combine_chunks().drop_null()
