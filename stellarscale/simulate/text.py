"""Fixed-width text, a million strings at a time: digits as byte matrices, and Arrow arrays over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def words(text: str) -> list[str]:
    """Names between white space: how a module writes a long list of native columns."""
    return text.split()


def digits(values: NDArray, width: int) -> NDArray[np.uint8]:
    """Decimal digits of non-negative integers, zero-padded, as bytes of shape (n, width)."""
    rest = np.asarray(values, dtype=np.int64).copy()
    out = np.empty((len(rest), width), dtype=np.uint8)
    for place in range(width - 1, -1, -1):
        rest, digit = np.divmod(rest, 10)
        out[:, place] = digit + 48
    return out


def literal(text: str, n: int) -> NDArray[np.uint8]:
    """The same characters in each of ``n`` rows."""
    return np.broadcast_to(np.frombuffer(text.encode(), dtype=np.uint8), (n, len(text)))


def joined(parts: Sequence[NDArray]) -> NDArray[np.bytes_]:
    """Byte matrices side by side as one fixed-width ``S`` array."""
    block = np.ascontiguousarray(np.concatenate(parts, axis=1))
    return block.view(f"S{block.shape[1]}").ravel()


def numbered(prefix: str, values: NDArray, width: int) -> NDArray[np.bytes_]:
    """A prefix followed by zero-padded integers."""
    return joined([literal(prefix, len(values)), digits(values, width)])


def coordinate_name(ra_deg: NDArray, dec_deg: NDArray, *, prefix: str = "", decimals: tuple[int, int]) -> NDArray:
    """Sexagesimal designations ``hhmmss[..]+ddmmss[..]``, truncated, without points, as 2MASS writes them.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray, shape (n,)
        Position in degrees.
    prefix : str
        Text in front.
    decimals : tuple of int
        Decimals of the seconds of time and of arc.
    """
    n = len(ra_deg)
    time = np.floor(np.asarray(ra_deg) / 15.0 * 3600.0 * 10 ** decimals[0]).astype(np.int64)
    arc = np.floor(np.abs(dec_deg) * 3600.0 * 10 ** decimals[1]).astype(np.int64)
    sign = np.where(np.asarray(dec_deg) < 0.0, ord("-"), ord("+")).astype(np.uint8)[:, None]
    parts = [literal(prefix, n)] if prefix else []
    return joined([*parts, *_sexagesimal(time, decimals[0]), sign, *_sexagesimal(arc, decimals[1])])


def _sexagesimal(value: NDArray, decimals: int) -> list[NDArray[np.uint8]]:
    rest, fraction = np.divmod(value, 10**decimals)
    rest, seconds = np.divmod(rest, 60)
    units, minutes = np.divmod(rest, 60)
    return [digits(units, 2), digits(minutes, 2), digits(seconds, 2), digits(fraction, decimals)]


def arrow_text(values: NDArray[np.bytes_]) -> pa.Array:
    """Arrow strings over an ``S`` array whose every entry fills the whole width."""
    block = np.ascontiguousarray(values)
    offsets = np.arange(len(block) + 1, dtype=np.int32) * block.dtype.itemsize
    return pa.StringArray.from_buffers(len(block), pa.py_buffer(offsets), pa.py_buffer(block.view(np.uint8)))


def chosen_text(options: Sequence[str | None], index: NDArray) -> pa.Array:
    """Arrow strings picked from a short list by integer index."""
    return pa.array(options, pa.string()).take(pa.array(np.asarray(index, dtype=np.int64)))


def decimal(values: NDArray, places: int, *, missing: NDArray | None = None) -> pa.Array:
    """Arrow doubles rounded to a native number of decimal places, null where ``missing``."""
    return pa.array(np.round(np.asarray(values, dtype=float), places), mask=missing)


def csv_block(columns: Iterable[pa.Array | pa.Scalar], *, separator: str, null: str) -> pa.Buffer:
    """Rows of delimited text, one line each, from columns of numbers and strings.

    Parameters
    ----------
    columns : iterable of pyarrow.Array or pyarrow.Scalar
        Cells; a scalar is repeated. Numbers are written with the fewest digits that give them back.
    separator, null : str
        Between cells, and in place of a null.

    Returns
    -------
    pyarrow.Buffer
        The text, every line ended by a newline.
    """
    cells = [column.cast(pa.string()) for column in columns]
    lines = pc.binary_join_element_wise(*cells, separator, null_handling="replace", null_replacement=null)
    whole = pc.binary_join_element_wise(lines, pa.scalar("\n"), "")
    start, end = (int(offset) for offset in np.frombuffer(whole.buffers()[1], dtype=np.int32)[[0, len(whole)]])
    return whole.buffers()[2].slice(start, end - start)
