"""The answer sheet: what each mock star really is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.simulate import galaxy, sages, stars
from stellarscale.simulate.plan import Columns
from stellarscale.simulate.text import arrow_text, chosen_text

_UNITS = {
    "ra": "deg", "dec": "deg", "distance_pc": "pc", "parallax_mas": "mas", "pmra": "mas/yr",
    "pmdec": "mas/yr", "rv_kms": "km/s", "teff_k": "K", "ebv": "mag",
}  # fmt: skip
_FLOAT64 = ("ra", "dec", "distance_pc", "parallax_mas", "pmra", "pmdec")
_FLOAT32 = ("rv_kms", "teff_k", "logg", "fe_h", "ebv", *(f"abs_{band}" for band in stars.BANDS))


def _field(name: str, dtype: pa.DataType) -> pa.Field:
    unit = "mag" if name.startswith("abs_") else _UNITS.get(name)
    return pa.field(name, dtype, metadata={"unit": unit} if unit else None)


TRUTH_SCHEMA = pa.schema(
    [
        pa.field("star_id", pa.int64()),
        *(_field(name, pa.float64()) for name in _FLOAT64),
        *(_field(name, pa.float32()) for name in _FLOAT32),
        pa.field("class", pa.int8(), metadata={"description": "0 giant, 1 dwarf, 2 hot subdwarf, 3 white dwarf"}),
        pa.field("cluster", pa.string()),
        pa.field(
            "companion_of",
            pa.int64(),
            metadata={"description": "star_id of the close neighbour it was put by"},
        ),
        pa.field("source_id", pa.int64(), metadata={"description": "Gaia source_id, null when Gaia missed it"}),
        pa.field("sage_id", pa.string(), metadata={"description": "SAGES id, null when SAGES missed it"}),
    ]
)


def truth_table(sky: Columns, *, in_gaia: NDArray, in_sages: NDArray) -> pa.Table:
    """Truth of one chunk.

    Parameters
    ----------
    sky : dict of ndarray
        True stars.
    in_gaia, in_sages : ndarray of int
        Rows of the stars that the two surveys carry; the others have null ids.

    Returns
    -------
    pyarrow.Table
        ``TRUTH_SCHEMA``, one row per star.
    """
    n = len(sky["star_id"])
    unseen_gaia, unseen_sages = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
    unseen_gaia[in_gaia], unseen_sages[in_sages] = False, False
    alone = sky["primary"] < 0
    sage_ids = arrow_text(sages.sage_id(sky["star_id"]))
    columns = {"star_id": pa.array(sky["star_id"]), "class": pa.array(sky["kind"].astype(np.int8))}
    columns |= {name: pa.array(sky[name]) for name in _FLOAT64}
    columns |= {name: pa.array(sky[name].astype(np.float32)) for name in _FLOAT32}
    columns["cluster"] = chosen_text([*(c.name for c in galaxy.CLUSTERS), None], sky["cluster"] % 5)
    columns["companion_of"] = pa.array(sky["star_id"][np.where(alone, 0, sky["primary"])], mask=alone)
    columns["source_id"] = pa.array(sky["source_id"], mask=unseen_gaia)
    columns["sage_id"] = pc.if_else(pa.array(unseen_sages), pa.scalar(None, pa.string()), sage_ids)
    return pa.table([columns[field.name] for field in TRUTH_SCHEMA], schema=TRUTH_SCHEMA)
