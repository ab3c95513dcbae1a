"""Where the data files that ship with the package are: in the wheel, or in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_directory(name: str) -> Path:
    """Directory ``schemas``, ``jobs`` or ``bench``, from the wheel or from the checkout.

    Raises
    ------
    FileNotFoundError
        If neither place holds it; the installation is damaged.
    """
    inside_checkout = {"bench": "tests/bench"}.get(name, name)
    for place in (_PACKAGE / "_resources" / name, _PACKAGE.parent / inside_checkout):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"the package's {name!r} directory was found neither in {_PACKAGE} nor beside it")
