"""Names and numbers as readers of the field expect them, in plots (mathtext) and on the page (HTML)."""

from __future__ import annotations

import math
from html import escape

_SAMPLES = {
    "train": "training",
    "calibrate": "calibration",
    "held_out": "held-out labels",
    "held_out_wide": "held-out labels beyond the training cuts",
}
_MATH = {
    "teff": r"$T_{\rm eff}$",
    "logg": r"$\log\,g$",
    "fe_h": "[Fe/H]",
    "m_h": "[M/H]",
    "alpha_m": r"[$\alpha$/M]",
    "alpha_fe": r"[$\alpha$/Fe]",
    "parallax": "parallax",
    "ebv": r"$E(B-V)$",
}
_HTML = {
    "teff": "<i>T</i><sub>eff</sub>",
    "logg": "log <i>g</i>",
    "fe_h": "[Fe/H]",
    "m_h": "[M/H]",
    "alpha_m": "[α/M]",
    "alpha_fe": "[α/Fe]",
}
_TEXT = {"teff": "Teff", "logg": "log g", "fe_h": "[Fe/H]", "m_h": "[M/H]"}
_CATALOGUES = {name: name.upper() for name in ("apogee", "galah", "lamost", "lsp3", "pastel", "segue", "rave")}
_BANDS = {"bp": r"G_{\rm BP}", "rp": r"G_{\rm RP}", "nuv": r"{\rm NUV}", "w1": "W1", "w2": "W2"}
_SYSTEMS = {"smss": "SkyMapper"}  # of magnitudes by the alias in front; their bands are written as they are


def _band(name: str) -> str:
    if name in _BANDS:
        return _BANDS[name]
    return name if name in {"u", "v", "r", "i", "z"} else name.upper()


def in_plot(column: str) -> str:
    """Mathtext of a column: ``teff``, ``g_mag``, ``bp_rp_0`` (dereddened colour), ``m_g_0`` (absolute magnitude).

    A band ``g`` is Gaia's, unless the alias of another survey is in front: ``smss_g_mag``.
    """
    if column in _MATH:
        return _MATH[column]
    parts = column.split("_")
    if len(parts) == 3 and parts[0] in _SYSTEMS and parts[2] == "mag":
        return f"{_SYSTEMS[parts[0]]} ${parts[1]}$"
    if len(parts) >= 2 and parts[-1] == "mag":
        return f"${_band(parts[-2])}$"
    if len(parts) == 2 and parts[1] == "0":
        return f"$({_band(parts[0])})_0$" if parts[0] in _BANDS else f"${_band(parts[0])}_0$"
    if len(parts) == 3 and parts[0] == "m" and parts[2] == "0":
        return f"$M_{{{_band(parts[1])},0}}$"
    if len(parts) == 3 and parts[2] == "0":
        return f"$({_band(parts[0])}-{_band(parts[1])})_0$"
    return literal(column)


def with_unit(column: str, unit: str) -> str:
    """Axis label: the column and its unit in brackets."""
    return f"{in_plot(column)} ({literal(unit)})" if unit else in_plot(column)


def literal(text: str) -> str:
    """Text that matplotlib must not read as a formula."""
    return text.replace("$", r"\$")


def sample_name(role: str) -> str:
    """What the page calls the stars of a role: ``held_out``, ``test:apogee``."""
    return _SAMPLES.get(role) or f"labels of {role.removeprefix('test:')}"


def on_page(column: str) -> str:
    """Escaped HTML of a column or label."""
    return _HTML.get(column, escape(column))


def model_on_page(model: str) -> str:
    """Escaped HTML of a model's name that begins with its label: ``fe_h giant``."""
    label, space, rest = model.partition(" ")
    return on_page(label) + escape(space + rest)


def model_in_plot(model: str) -> str:
    """Mathtext of a model's name that begins with its label."""
    label, space, rest = model.partition(" ")
    return _MATH.get(label, literal(label)) + literal(space + rest)


def model_in_text(model: str) -> str:
    """A model's name that begins with its label, as plain text."""
    label, space, rest = model.partition(" ")
    return _TEXT.get(label, label) + space + rest


def reference_name(against: str) -> str:
    """What the page calls that which estimates are compared with: ``apogee`` is APOGEE."""
    return _CATALOGUES.get(against, against)


def magnitude_in_text(name: str) -> str:
    """A magnitude as plain text: ``smss_g_mag`` is SkyMapper g, ``g_mag`` G."""
    parts = name.split("_")
    if len(parts) == 3 and parts[0] in _SYSTEMS and parts[2] == "mag":
        return f"{_SYSTEMS[parts[0]]} {parts[1]}"
    return _band(parts[0]) if len(parts) == 2 and parts[1] == "mag" and parts[0] not in _BANDS else name


def short(value: float | None, digits: int = 3) -> str:
    """A number with about three significant digits, no exponent where it reads well; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -5 or exponent > 8:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    return f"{value:,.{max(digits - 1 - exponent, 0)}f}".replace("-", "−")


def count(value: float | None) -> str:
    """A whole number with thousands separated; a dash for none."""
    return "–" if value is None else f"{int(value):,}"


def several(value: int, noun: str) -> str:
    """``1 star``, ``2,000 stars``."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def compact(value: float) -> str:
    """A count in few characters for a plot: 950, 12.3k, 4.56M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.0f}" if abs(value) >= 10 or float(value).is_integer() else f"{value:.2g}"


def duration(seconds: float) -> str:
    """A time in the unit a reader would say it in."""
    if seconds < 0.095:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
