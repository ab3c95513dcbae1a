"""VOParquet 1.0: the columns' units, UCDs and descriptions as a VOTable without data in the Parquet metadata.

Standard: "VOParquet Convention", IVOA Note 1.0 (2025): the key ``IVOA.VOTable-Parquet.content`` holds a
VOTable whose FIELDs are the columns. astropy's own Parquet writer makes a document that is not valid by the
VOTable schema, hence the tree is built here.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pyarrow as pa

VERSION_KEY = b"IVOA.VOTable-Parquet.version"
CONTENT_KEY = b"IVOA.VOTable-Parquet.content"

# Strings are of any length, but astropy's reader cannot join a column declared so ("*") to that of the data; with a
# bound it can, and a string that is longer is read whole.
STRING_SIZE = "64*"

_DATATYPES: list[tuple[Any, str]] = [
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_int8, "short"),
    (pa.types.is_uint8, "unsignedByte"),
    (pa.types.is_int16, "short"),
    (pa.types.is_uint16, "int"),
    (pa.types.is_int32, "int"),
    (pa.types.is_uint32, "long"),
    (pa.types.is_int64, "long"),
    (pa.types.is_uint64, "long"),
    (pa.types.is_float16, "float"),
    (pa.types.is_float32, "float"),
    (pa.types.is_float64, "double"),
]


def vo_metadata(schema: pa.Schema) -> dict[bytes, bytes]:
    """Key-value metadata that makes a Parquet file of this schema a VOParquet file.

    Parameters
    ----------
    schema : pa.Schema
        Its field metadata ``unit``, ``ucd`` and ``description`` are used. A unit that is no VOUnit is left
        out of the ``unit`` attribute and named in the description; a UCD that is not valid is left out.
    """
    bare = schema.remove_metadata()
    return {VERSION_KEY: b"1.0", CONTENT_KEY: _content(bare.serialize().to_pybytes())}


@lru_cache(maxsize=64)
def _content(serialized_schema: bytes) -> bytes:
    # Building the XML takes tens of milliseconds; a run writes thousands of files of one schema.
    return build_votable(pa.ipc.read_schema(pa.py_buffer(serialized_schema)))


def build_votable(schema: pa.Schema, *, name: str | None = None) -> bytes:
    """VOTable document, in UTF-8, with one FIELD per column that VOTable can describe, and no DATA."""
    from astropy.io.votable import tree

    document = tree.VOTableFile(version="1.4")
    resource = tree.Resource()
    document.resources.append(resource)
    table = tree.TableElement(document, name=name)
    resource.tables.append(table)
    sink = io.BytesIO()
    with _deprecated_units():
        for field in schema:
            shape = datatype_of(field.type)
            if shape is not None:
                table.fields.append(_field(document, field, *shape))
        document.to_xml(sink)
    # astropy writes its version and, with it, a comment; the file must not depend on them.
    return _without_comments(sink.getvalue())


def datatype_of(kind: pa.DataType) -> tuple[str, str | None] | None:
    """VOTable datatype and arraysize of an Arrow type; None when VOTable has none (structures, dates)."""
    if pa.types.is_dictionary(kind):
        return datatype_of(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "char", STRING_SIZE
    if pa.types.is_fixed_size_binary(kind):
        return "unsignedByte", str(kind.byte_width)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "unsignedByte", "*"
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = datatype_of(kind.value_type)
        size = str(kind.list_size) if pa.types.is_fixed_size_list(kind) else "*"
        return (inner[0], size) if inner and inner[1] is None else None
    return next(((name, None) for test, name in _DATATYPES if test(kind)), None)


def vo_unit(text: str) -> str | None:
    """The unit in VOUnits syntax; None when it is no VOUnit (``dex``, ``log(cm/s2)``)."""
    from astropy import units

    with _deprecated_units():
        for syntax in ("vounit", "generic"):
            try:
                return units.Unit(text, format=syntax).to_string("vounit")
            except ValueError:
                continue
    return None


@contextmanager
def _deprecated_units() -> Iterator[None]:
    """Deprecated units (Angstrom) are still VOUnits, and nobody need be warned of them."""
    from astropy import units

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", units.UnitsWarning)
        yield


def describe(field: pa.Field) -> tuple[str | None, str | None, str]:
    """Unit (VOUnits), UCD and description of a column, each checked."""
    metadata = field.metadata or {}
    unit = metadata.get(b"unit", b"").decode()
    description = metadata.get(b"description", b"").decode()
    known = vo_unit(unit) if unit else None
    if unit and known is None:
        description = f"{description} (unit: {unit})".strip()
    return known, _valid_ucd(metadata.get(b"ucd", b"").decode()), description


def _valid_ucd(ucd: str) -> str | None:
    from astropy.io.votable.ucd import check_ucd

    return ucd if ucd and check_ucd(ucd, check_controlled_vocabulary=True) else None


def _field(document: Any, field: pa.Field, datatype: str, arraysize: str | None) -> Any:
    from astropy.io.votable import tree

    unit, ucd, description = describe(field)
    fixed = (field.metadata or {}).get(b"arraysize")  # the width of strings, where all have the same
    size = {} if arraysize is None else {"arraysize": fixed.decode() if fixed else arraysize}
    element = tree.Field(document, name=field.name, datatype=datatype, unit=unit, ucd=ucd, **size)
    if description:
        element.description = description
    return element


def _without_comments(xml: bytes) -> bytes:
    return re.sub(rb"<!--.*?-->\n?", b"", xml, flags=re.DOTALL)
