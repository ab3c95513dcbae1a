"""A mock sky with known truth, written in the surveys' own file formats, quirks included."""

from __future__ import annotations

from stellarscale.simulate.run import simulate_sky

__all__ = ["simulate_sky"]
