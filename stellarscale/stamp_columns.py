"""Image stamps as Arrow columns: the pixels of a star in all bands as one binary value of fixed size.

The field says what the bytes are: bands, size, dtype, the stretch of each band and the zero-point of the fluxes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.errors import SchemaError
from stellarscale.schema import field_metadata

STAMP = "stamp"
COVERAGE = "stamp_coverage"
_FORMAT = b"stamp_format"
_VERSION = 1


@dataclass(frozen=True)
class StampFormat:
    """What the bytes of a stamp mean: band, row, column, the last one fastest.

    Attributes
    ----------
    bands : tuple of str
        In the order of the planes.
    size_px : int
        Rows and columns of a plane.
    dtype : str
        ``float16`` or ``float32``, little-endian.
    softening : tuple of float
        Of each band: a pixel holds asinh(flux / softening).
    zero_point : float
        Magnitude (AB) of a source of unit flux.
    dereddened : bool
        Whether fluxes are those before the dust.
    """

    bands: tuple[str, ...]
    size_px: int
    dtype: str
    softening: tuple[float, ...]
    zero_point: float
    dereddened: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        return len(self.bands), self.size_px, self.size_px

    @property
    def pixels(self) -> int:
        """Pixels of all bands."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of a stamp."""
        return self.pixels * np.dtype(self.dtype).itemsize


def stamp_field(layout: StampFormat) -> pa.Field:
    """Arrow field of the column ``stamp``; NaN is a pixel that no detection covers."""
    shape = "x".join(map(str, layout.shape))
    text = (
        f"image stamp: {shape} {layout.dtype} little-endian, bands {' '.join(layout.bands)}, "
        f"rows, columns; asinh(flux / softening), softening {' '.join(f'{each:g}' for each in layout.softening)}, "
        f"flux of magnitude {layout.zero_point:g} is 1; NaN: not covered"
    )
    about = {"version": _VERSION, **{name: getattr(layout, name) for name in layout.__dataclass_fields__}}
    metadata = {**field_metadata("", "obs.image", text), _FORMAT: json.dumps(about).encode()}
    return pa.field(STAMP, pa.binary(layout.nbytes), metadata=metadata)


def coverage_field(layout: StampFormat) -> pa.Field:
    """Arrow field of the column ``stamp_coverage``: detections that cover each pixel, uint8 in the stamp's shape."""
    text = f"detections in the mean of each pixel of the stamp: {'x'.join(map(str, layout.shape))} uint8"
    return pa.field(COVERAGE, pa.binary(layout.pixels), metadata=field_metadata("", "meta.number;obs.image", text))


def format_of(schema: pa.Schema) -> StampFormat:
    """What the stamps of a table are.

    Raises
    ------
    SchemaError
        If there is no column of stamps, or its field does not say what the bytes are.
    """
    if STAMP not in schema.names:
        raise SchemaError("the table holds no stamps", seen=", ".join(schema.names[:20]), needed=f"a column {STAMP!r}")
    field = schema.field(STAMP)
    text = (field.metadata or {}).get(_FORMAT)
    if text is None or not pa.types.is_fixed_size_binary(field.type):
        raise SchemaError(
            "the column is no stamp",
            where=f"column {STAMP}",
            seen=str(field.type) + ("" if text else ", no format in its metadata"),
            needed="fixed_size_binary with its format in the metadata",
            cause="a catalogue of another program, or columns written without their metadata",
        )
    layout = _format_told(text)
    if layout.nbytes != field.type.byte_width:
        raise SchemaError(
            "stamps of another shape than their field says",
            where=f"column {STAMP}",
            seen=f"{field.type.byte_width} bytes",
            needed=f"{layout.nbytes} bytes for {'x'.join(map(str, layout.shape))} {layout.dtype}",
        )
    return layout


def _format_told(text: bytes) -> StampFormat:
    """The format that a field's metadata tell; it may have been written by anyone."""
    try:
        about = json.loads(text)
        if about.pop("version") != _VERSION:
            raise ValueError("another version")
        layout = StampFormat(**{**about, "bands": tuple(about["bands"]), "softening": tuple(about["softening"])})
        if len(layout.softening) != len(layout.bands):
            raise ValueError(f"{len(layout.softening)} values of softening for {len(layout.bands)} bands")
        if layout.dtype not in ("float16", "float32"):
            raise ValueError(f"pixels of type {layout.dtype}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SchemaError(
            "the metadata of the stamps do not say what their bytes are",
            where=f"column {STAMP}",
            seen=f"{text.decode(errors='replace')[:300]} ({error})",
            needed=f"bands, size_px, dtype, softening, zero_point, dereddened, as in version {_VERSION}",
            cause="written by another version of the program, or damaged",
        ) from error
    return layout


def binary_array(values: NDArray, kind: pa.DataType, *, null: NDArray[np.bool_] | None = None) -> pa.Array:
    """Rows of an array as fixed-size binary, without a copy if it is contiguous; ``null`` rows have no value."""
    flat = np.ascontiguousarray(values).reshape(len(values), math.prod(values.shape[1:]))
    if flat.shape[1] * flat.itemsize != kind.byte_width and len(values):
        raise ValueError(f"rows of {flat.shape[1] * flat.itemsize} bytes for {kind}")
    valid = None if null is None or not null.any() else pa.py_buffer(np.packbits(~null, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(flat.view(np.uint8).reshape(-1))])


def binary_rows(column: pa.ChunkedArray | pa.Array, dtype: str, shape: tuple[int, ...]) -> NDArray:
    """A fixed-size binary column as (n_rows, *shape); no copy when it is one chunk. Null rows hold any bytes."""
    array = column
    if isinstance(column, pa.ChunkedArray):  # `combine_chunks` copies a single chunk too
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray) or not len(array):
        return np.empty((0, *shape), dtype=dtype)
    width = array.type.byte_width
    data = np.frombuffer(array.buffers()[1], dtype=np.uint8, count=len(array) * width, offset=array.offset * width)
    return data.view(np.dtype(dtype).newbyteorder("<")).reshape(len(array), *shape)


def stamps_of(table: pa.Table | pa.RecordBatch) -> NDArray[np.floating]:
    """Stretched stamps (n_rows, n_bands, size, size) in their stored dtype; no copy when the column is one chunk."""
    layout = format_of(table.schema)
    return binary_rows(table.column(STAMP), layout.dtype, layout.shape)
