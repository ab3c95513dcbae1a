"""A mock sky with known truth, written in the surveys' own file formats, quirks included."""

from __future__ import annotations

from stellarscale.simulate.laspm import simulate_m_stars
from stellarscale.simulate.run import simulate_sky
from stellarscale.simulate.smss_run import simulate_images

__all__ = ["simulate_images", "simulate_m_stars", "simulate_sky"]
