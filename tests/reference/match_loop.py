"""Cross-match by looking at every pair: slow, plain loops that the fast kernel must agree with."""

from __future__ import annotations

import math

from reference.propagate_loop import propagate_star


def separation_loop(ra1, dec1, ra2, dec2):
    """Separation of one pair in arcsec, from the chord between unit vectors."""
    chord = math.dist(_vector(ra1, dec1), _vector(ra2, dec2))
    return math.degrees(2.0 * math.asin(min(0.5 * chord, 1.0))) * 3600.0


def _vector(ra_deg, dec_deg):
    ra, dec = math.radians(ra_deg % 360.0), math.radians(dec_deg)
    return math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)


def match_loop(left_ra, left_dec, right_ra, right_dec, radius_arcsec, keep):
    """Pairs as (left, right, separation) and the candidates of each left row; one radius per left row."""

    def separation(i, j):
        return separation_loop(left_ra[i], left_dec[i], right_ra[j], right_dec[j])

    return _match(len(left_ra), len(right_ra), separation, radius_arcsec, keep, (left_dec, left_ra))


def match_moving_loop(left, right, radius_arcsec, keep):
    """As `match_loop` for sides (ra, dec, pmra, pmdec, epoch): one moves to the epoch of the other's row."""

    def separation(i, j):
        one, other = (
            [column[i] for column in left if column is not None],
            [column[j] for column in right if column is not None],
        )
        if right[2] is not None:
            one, other = other, one
        ra, dec, pmra, pmdec, epoch = one
        return separation_loop(*propagate_star(ra, dec, pmra, pmdec, other[-1] - epoch), other[0], other[1])

    radii = [radius_arcsec] * len(left[0])
    return _match(len(left[0]), len(right[0]), separation, radii, keep, (left[1], left[0]))


def _match(n_left, n_right, separation, radius_arcsec, keep, place):
    candidates = {}
    for i in range(n_left):
        near = [(separation(i, j), j) for j in range(n_right)]
        candidates[i] = sorted((s, j) for s, j in near if s <= radius_arcsec[i])
    n_candidates = [len(candidates[i]) for i in range(n_left)]
    pairs = [(i, j, s) for i in range(n_left) for s, j in candidates[i]]
    if keep != "all":
        pairs = [(i, near[0][1], near[0][0]) for i, near in candidates.items() if near]
    if keep == "mutual":
        pairs = [(i, j, s) for i, j, s in pairs if _nearest_left(j, candidates, place) == i]
    return pairs, n_candidates


def _nearest_left(j, candidates, place):
    dec, ra = place
    suitors = [(s, dec[i], ra[i], i) for i, near in candidates.items() for s, other in near if other == j]
    return min(suitors)[-1]
