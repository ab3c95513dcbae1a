"""Stellar parameters for survey catalogues, from files to partitioned value-added catalogues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stellarscale.engine.lazy import Catalog, open_catalog

__version__ = "0.1.0"
__all__ = ["Catalog", "__version__", "open_catalog"]


def __getattr__(name: str) -> Any:
    """Load the Dask-backed names on first use, so that importing the package stays cheap."""
    if name in {"Catalog", "open_catalog"}:
        from stellarscale.engine import lazy

        return getattr(lazy, name)
    raise AttributeError(f"module 'stellarscale' has no attribute {name!r}")
