"""Proper motion one star at a time, by rotation along a great circle: slow, and not the kernel's algebra."""

from __future__ import annotations

import math

ARCSEC = math.pi / 180.0 / 3600.0


def propagate_loop(ra_deg, dec_deg, pmra_masyr, pmdec_masyr, dt_yr):
    """Positions after ``dt_yr`` as two lists.

    A straight line in space seen from its foot point's direction: after a time t the star stands an angle
    arctan(mu t) further along the great circle that it set out on.
    """
    moved = [propagate_star(*star) for star in zip(ra_deg, dec_deg, pmra_masyr, pmdec_masyr, dt_yr, strict=True)]
    return [ra for ra, _ in moved], [dec for _, dec in moved]


def propagate_star(ra_deg, dec_deg, pmra_masyr, pmdec_masyr, dt_yr):
    ra, dec = math.radians(ra_deg), math.radians(dec_deg)
    angle = math.atan(math.hypot(pmra_masyr, pmdec_masyr) * 1e-3 * ARCSEC * dt_yr)
    towards = math.atan2(pmra_masyr, pmdec_masyr)  # position angle, north through east
    z = math.sin(dec) * math.cos(angle) + math.cos(dec) * math.sin(angle) * math.cos(towards)
    east = math.sin(angle) * math.sin(towards)
    outward = math.cos(dec) * math.cos(angle) - math.sin(dec) * math.sin(angle) * math.cos(towards)
    new_ra = ra + math.atan2(east, outward)
    return math.degrees(new_ra) % 360.0, math.degrees(math.atan2(z, math.hypot(east, outward)))
