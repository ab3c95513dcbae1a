"""The keys of a job file, told by the classes that check them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from stellarscale.config import PRODUCTS
from stellarscale.errors import ConfigError
from stellarscale.schema import Frozen


@dataclass(frozen=True)
class Key:
    """A key of a job file: its dotted name, what it takes, its default, what it means."""

    name: str
    kind: str
    default: str
    description: str


def product_of(prefix: str = "") -> str:
    """The product whose keys to show where none is named: sages, or the only one that has keys that begin so."""
    known = [name for name in PRODUCTS if any(key.name.startswith(prefix) for key in _keys(PRODUCTS[name], ""))]
    return known[0] if len(known) == 1 else "sages"


def job_keys(prefix: str = "", product: str = "sages") -> list[Key]:
    """Every key of a product's job file, or those whose dotted name begins with a prefix.

    ``<name>`` stands for a name of the user's choice, ``[]`` for the items of a list.

    Raises
    ------
    ConfigError
        If no key begins so.
    """
    every = list(_keys(PRODUCTS[product], ""))
    keys = [key for key in every if key.name.startswith(prefix)]
    if not keys:
        heads = sorted({key.name.split(".")[0].removesuffix("[]") for key in every})
        others = [name for name in PRODUCTS if any(key.name.startswith(prefix) for key in _keys(PRODUCTS[name], ""))]
        if prefix in PRODUCTS:
            cause = f"it is a product: keys --product {prefix}"
        elif others:
            cause = f"it is a key of another product: --product {' or '.join(others)}"
        else:
            cause = None
        raise ConfigError(
            f"no key of a job of the product {product} begins so",
            seen=prefix,
            needed=f"one of {', '.join(heads)}",
            cause=cause,
        )
    return keys


def other_products(prefix: str = "", product: str = "sages") -> str:
    """A sentence that says whose keys are shown, and in which products keys that begin so differ, or are the same."""
    shown = job_keys(prefix, product)
    same: list[str] = []
    different: list[str] = []
    for name in PRODUCTS:
        theirs = [key for key in _keys(PRODUCTS[name], "") if key.name.startswith(prefix)]
        if name != product and theirs:
            (same if theirs == shown else different).append(name)
    told = [f"Keys of the product {product}."]
    if different:
        told.append(f"Other ones for {_options(different)}.")
    if same:
        told.append(f"The same for {_options(same)}.")
    if not (same or different):
        told.append("No other product has any that begin so.")
    return " ".join(told)


def _options(products: list[str]) -> str:
    return " and ".join(f"--product {name}" for name in products)


def keys_text(keys: list[Key]) -> str:
    """The keys for a terminal: name, what it takes and its default on one line, the meaning below."""
    lines = []
    for key in keys:
        taken = key.kind + (f", {key.default}" if key.default else "")
        lines += [f"{key.name}  ({taken})", f"    {key.description}"]
    return "\n".join(lines)


def _keys(model: type[Frozen], prefix: str) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        inner, mark = _inner(field.annotation)
        path = f"{prefix}{name}{mark}"
        if inner is None:
            yield Key(path, _kind(field.annotation), _default(field), field.description or "")
            continue
        meaning = field.description or (inner.__doc__ or "").split("\n")[0]
        yield Key(path, "section", _default(field) if field.is_required() else "", meaning)
        yield from _keys(inner, f"{path}.")


def _inner(annotation: Any) -> tuple[type[Frozen] | None, str]:
    """The class of a section, and how its place is written: plain, by name or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return annotation, ""
    marks = {dict: ".<name>", tuple: "[]", Union: "", types.UnionType: "", Annotated: ""}
    origin = get_origin(annotation)
    if origin not in marks:
        return None, ""
    for argument in get_args(annotation):
        inner, mark = _inner(argument)
        if inner is not None:
            return inner, marks[origin] + mark
    return None, ""


def _kind(annotation: Any) -> str:
    """A type in a user's words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return " | ".join(str(argument) for argument in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(_kind(argument) for argument in arguments)
    if origin is dict:
        return f"map of {_kind(arguments[1])}"
    if origin is tuple:
        listed = arguments[:1] if arguments[-1] is Ellipsis else arguments
        return f"list of {_kind(listed[0])}" if arguments[-1] is Ellipsis else f"[{', '.join(map(_kind, listed))}]"
    names = {str: "text", int: "integer", float: "number", bool: "true | false", type(None): "null", Any: "any"}
    return names.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(needed)"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "null"
    if isinstance(value, tuple):
        return f"[{', '.join('null' if item is None else str(item) for item in value)}]"
    return str(value) if value != "" else '""'
