"""Factors between the unit a file states and the unit its schema wants."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from stellarscale.errors import SchemaError

_LOG = logging.getLogger(__name__)


def conversion_factor(native: str, wanted: str, *, where: str) -> float:
    """Factor that turns native values into wanted ones; 1 when either unit is not stated.

    Raises
    ------
    SchemaError
        If the units measure different things; both are told.
    """
    native, wanted = native.strip().strip("[]"), wanted.strip()
    if not native or not wanted or native == wanted:
        return 1.0
    have, need = _unit(native), _unit(wanted)
    if have is None or need is None:
        _LOG.warning("%s: unit %r is not understood; the values are taken to be in %s", where, native, wanted)
        return 1.0
    factor = _factor(have, need)
    if factor is None:
        raise SchemaError(
            "the unit of a column cannot be converted",
            where=where,
            seen=native,
            needed=f"{wanted}, or a unit that converts to it",
            cause="a column of another meaning under the same name",
        )
    if abs(factor - 1) < 1e-12:
        return 1.0
    _LOG.info("%s: converted from %s to %s (times %.9g)", where, native, wanted, factor)
    return factor


@lru_cache(maxsize=256)
def _unit(text: str) -> Any:
    """The astropy unit, or None when no format knows the text; `mag(...)` counts as its function unit."""
    from astropy import units

    aliases = {
        "degree": "deg",
        "degrees": "deg",
        "degs": "deg",
        "magnitude": "mag",
        "mags": "mag",
        "days": "d",
    }
    text = aliases.get(text.lower(), text)
    for format_ in (None, "vounit", "cds", "fits"):
        try:
            unit: Any = units.Unit(text, format=format_)
        except (ValueError, TypeError):
            continue
        return getattr(unit, "function_unit", unit)
    return None


def _factor(have: Any, need: Any) -> float | None:
    from astropy.units import UnitConversionError

    try:
        return float(have.to(need))
    except UnitConversionError:
        return None
