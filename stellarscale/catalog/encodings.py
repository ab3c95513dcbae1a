"""Which encoding and which codec each column of a partition file gets; see ``writer.open_parquet`` for the reasons."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from stellarscale.catalog.wide import has_format


def encodings_of(schema: pa.Schema) -> tuple[list[str], dict[str, str]]:
    """Columns with a dictionary, and the encoding of the others (by leaf path for lists)."""
    strings: list[str] = []
    encodings: dict[str, str] = {}
    for field in schema:
        kind, leaf = field.type, field.name
        if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
            kind, leaf = kind.value_type, f"{field.name}.list.element"
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
            if not (field.metadata or {}).get(b"ucd", b"").startswith(b"meta.id;meta.main"):
                strings.append(leaf)
        elif pa.types.is_float32(kind) or pa.types.is_float64(kind):
            encodings[leaf] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_integer(kind):
            encodings[leaf] = "DELTA_BINARY_PACKED"
    return strings, encodings


Packing = tuple[str | dict[str, str], int | dict[str, int] | None]


def compression_of(schema: pa.Schema, codec: str, level: int | None) -> Packing:
    """One codec and level for all columns; by column, and by leaf for nested ones, where there are stamps."""
    plain = {field.name: "none" for field in schema if has_format(field)}
    if not plain:
        return codec, level
    packed = [leaf for field in schema if field.name not in plain for leaf in _leaves(field.name, field.type)]
    return dict.fromkeys(packed, codec) | plain, None if level is None else dict.fromkeys(packed, level)


def _leaves(path: str, kind: pa.DataType) -> Iterator[str]:
    """Names that Parquet gives the columns of numbers and strings that a column consists of."""
    if pa.types.is_struct(kind):
        for child in kind:
            yield from _leaves(f"{path}.{child.name}", child.type)
    elif pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path
