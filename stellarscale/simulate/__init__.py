"""A mock sky with known truth, written in the surveys' own file formats, quirks included."""

from __future__ import annotations

from stellarscale.simulate.laspm import simulate_m_stars
from stellarscale.simulate.run import simulate_sky

__all__ = ["simulate_m_stars", "simulate_sky"]
