"""Cross-match of positions on the sky, at rest or moving; arrays in, arrays out, one thread, no GIL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from stellarscale.kernels.pairs import Block, Pairs, collect_pairs, nearest_pairs, no_pairs, search_blocks
from stellarscale.kernels.sphere import (
    ARCSEC_PER_RADIAN,
    angle_from_half_chord,
    direction,
    propagate_one,
    read_only,
    velocity,
)
from stellarscale.kernels.zones import Floats, build_index

Keep = Literal["nearest", "all", "mutual"]
KEEPS = ("nearest", "all", "mutual")

# Added to the search radius of moving rows, so that rounding never loses a pair; the exact separation
# decides.
_SLACK_ARCSEC = 1e-6


class Sky(NamedTuple):
    """Positions in degrees, proper motions in mas/yr (None: there are none), epochs in Julian years."""

    ra: ArrayLike
    dec: ArrayLike
    pmra: ArrayLike | None = None
    pmdec: ArrayLike | None = None
    epoch: ArrayLike | None = None


class _Movers(NamedTuple):
    """Positions (degrees) that move by proper motion (mas/yr) from their epochs."""

    ra: Floats
    dec: Floats
    pmra: Floats
    pmdec: Floats
    epoch: Floats


@njit(nogil=True, cache=True)
def _move(movers, targets, first, last, found, radius_arcsec):
    """Keep of each mover's candidates those within the radius once it is at the epoch of the candidate."""
    ra, dec, pmra, pmdec, epoch = movers
    target_ra, target_dec, target_epoch = targets
    end, rows, separations = found
    begin, kept = 0, 0
    for i in range(first, last):
        stop = end[i - first]
        if begin < stop:
            x, y, z = direction(ra[i], dec[i])
            vx, vy, vz = velocity(ra[i], dec[i], pmra[i], pmdec[i])
        for k in range(begin, stop):
            j = rows[k]
            dt = target_epoch[j] - epoch[i]
            norm = math.sqrt(1.0 + (vx * vx + vy * vy + vz * vz) * dt * dt)  # the motion is along the tangent
            tx, ty, tz = direction(target_ra[j], target_dec[j])
            dx, dy, dz = (x + vx * dt) / norm - tx, (y + vy * dt) / norm - ty, (z + vz * dt) / norm - tz
            half_chord = 0.5 * math.sqrt(dx * dx + dy * dy + dz * dz)
            separation = ARCSEC_PER_RADIAN * angle_from_half_chord(half_chord)
            if separation <= radius_arcsec:
                rows[kept], separations[kept] = j, separation
                kept += 1
        begin = stop
        end[i - first] = kept


def _positions(name: str, ra: ArrayLike, dec: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ra, dec = read_only(ra), read_only(dec)
    if ra.ndim != 1 or ra.shape != dec.shape:
        raise ValueError(f"{name} ra and dec must be 1-d and of one length, got {ra.shape} and {dec.shape}")
    if not np.isfinite(ra).all() or not (np.abs(dec) <= 90.0).all():
        row = int(np.flatnonzero(~np.isfinite(ra) | ~(np.abs(dec) <= 90.0))[0])
        raise ValueError(f"{name} row {row} has no usable position: ra {ra[row]}, dec {dec[row]} degrees")
    if ra.size >= 2**31:
        raise ValueError(f"{name} has {ra.size} rows; one match takes less than 2**31")
    return ra, dec


def _radii(radius_arcsec: ArrayLike, n_left: int) -> NDArray[np.float64]:
    radius = read_only(np.broadcast_to(np.asarray(radius_arcsec, dtype=np.float64), n_left))
    if not (np.isfinite(radius) & (radius >= 0.0)).all():
        raise ValueError("radius_arcsec must be finite and not negative")
    return radius


def _check_keep(keep: str) -> None:
    if keep not in KEEPS:
        raise ValueError(f"keep must be one of {', '.join(KEEPS)}, not {keep!r}")


def match(
    left_ra: ArrayLike,
    left_dec: ArrayLike,
    right_ra: ArrayLike,
    right_dec: ArrayLike,
    *,
    radius_arcsec: ArrayLike,
    keep: Keep = "nearest",
) -> Pairs:
    """Match positions within a radius.

    Parameters
    ----------
    left_ra, left_dec : array_like, shape (n_left,)
        Degrees. Rows near each other in memory should be near each other on the sky: it is faster.
    right_ra, right_dec : array_like, shape (n_right,)
        Degrees.
    radius_arcsec : float or array_like, shape (n_left,)
        A pair counts when its separation is at most this.
    keep : {'nearest', 'all', 'mutual'}
        'nearest': the nearest right row of each left row, of equals the lower right row. 'mutual': of
        those, the pairs whose left row is also the nearest to its right row, of equals the one further
        south, then of lower right ascension, then the lower left row (an order that does not depend on how
        the rows are handed in).

    Returns
    -------
    Pairs

    Raises
    ------
    ValueError
        If a position is not finite, a radius is negative, or lengths differ.
    """
    _check_keep(keep)
    left_ra, left_dec = _positions("left", left_ra, left_dec)
    right_ra, right_dec = _positions("right", right_ra, right_dec)
    radius = _radii(radius_arcsec, left_ra.size)
    if not left_ra.size or not right_ra.size:
        return no_pairs(left_ra.size)
    blocks = search_blocks(build_index(right_ra, right_dec), left_ra, left_dec, radius)
    if keep == "all":
        return collect_pairs(blocks, left_ra.size, swapped=False)
    return nearest_pairs(blocks, (left_ra, left_dec), right_ra.size, keep == "mutual", swapped=False)


@njit(nogil=True, cache=True)
def _centres(movers, first_epoch, last_epoch, radius_arcsec):
    """Where to search for the targets of each mover, degrees, and how far from there, arcsec.

    A slow mover is looked for where it is, with the radius widened by what it can move until any of the epochs;
    one that moves by more than the radius where it is in the middle of the epochs, which keeps the circle small.
    A motion along the tangent is never faster on the sky than at its own epoch.
    """
    ra, dec, pmra, pmdec, epoch = movers
    ra_out, dec_out, reach = np.empty(ra.size), np.empty(ra.size), np.empty(ra.size)
    for i in range(ra.size):
        speed = 1e-3 * math.sqrt(pmra[i] * pmra[i] + pmdec[i] * pmdec[i])
        to_first, to_last = first_epoch - epoch[i], last_epoch - epoch[i]
        motion = speed * max(abs(to_first), abs(to_last))
        ra_out[i], dec_out[i] = ra[i], dec[i]
        if motion > radius_arcsec:
            ra_out[i], dec_out[i] = propagate_one(ra[i], dec[i], pmra[i], pmdec[i], 0.5 * (to_first + to_last))
            motion = 0.5 * speed * (last_epoch - first_epoch)
        reach[i] = radius_arcsec + motion * (1.0 + 1e-9) + _SLACK_ARCSEC
    return ra_out, dec_out, reach


def _moving_blocks(movers: _Movers, targets: tuple[Floats, Floats, Floats], radius_arcsec: float) -> Iterator[Block]:
    """Blocks of movers with the targets within the radius, each at the epoch of the target."""
    epochs = float(targets[2].min()), float(targets[2].max())
    ra, dec, reach = map(read_only, _centres(movers, *epochs, radius_arcsec))
    for first, last, found in search_blocks(build_index(*targets[:2]), ra, dec, reach):
        _move(movers, targets, first, last, found, radius_arcsec)
        yield first, last, found


def _per_row(name: str, values: ArrayLike | None, n_rows: int) -> Floats:
    if values is None:
        raise ValueError(f"{name} is needed to match moving positions")
    array = read_only(np.broadcast_to(np.asarray(values, dtype=np.float64), n_rows))
    if not np.isfinite(array).all():
        raise ValueError(f"{name} of row {int(np.flatnonzero(~np.isfinite(array))[0])} is not finite")
    return array


def match_moving(left: Sky, right: Sky, *, radius_arcsec: float, keep: Keep = "nearest") -> Pairs:
    """Match positions of which one side moves, each pair at the epoch of the row that stays.

    Each candidate of the side that carries proper motions is moved to the epoch of its partner, row by row,
    before their separation is taken. When both sides carry motions the right row moves, by its own, to the
    epoch of the left row, which stays where it is.

    Parameters
    ----------
    left, right : Sky
        Positions and epochs (scalar or per row), and motions on at least one side; motions must be finite:
        what stands for a missing one is the caller's choice.
    radius_arcsec : float
        A pair counts when its separation after the motion is at most this.
    keep : {'nearest', 'all', 'mutual'}
        As in `match`.

    Returns
    -------
    Pairs
        `n_candidates` counts the right rows within the radius after the motion.

    Raises
    ------
    ValueError
        As in `match`; also if neither side moves, or an epoch or motion is missing or not finite.
    """
    _check_keep(keep)
    radius = float(_radii(radius_arcsec, 1)[0])
    swapped = right.pmra is not None
    moving, staying = (right, left) if swapped else (left, right)
    names = ("right", "left") if swapped else ("left", "right")
    ra, dec = _positions(names[0], moving.ra, moving.dec)
    movers = _Movers(
        ra, dec,
        _per_row(f"{names[0]} pmra", moving.pmra, ra.size),
        _per_row(f"{names[0]} pmdec", moving.pmdec, ra.size),
        _per_row(f"{names[0]} epoch", moving.epoch, ra.size),
    )  # fmt: skip
    ra, dec = _positions(names[1], staying.ra, staying.dec)
    targets = (ra, dec, _per_row(f"{names[1]} epoch", staying.epoch, ra.size))
    n_left, n_right = (ra.size, movers.ra.size) if swapped else (movers.ra.size, ra.size)
    if not n_left or not n_right:
        return no_pairs(n_left)
    blocks = _moving_blocks(movers, targets, radius)
    if keep == "all":
        return collect_pairs(blocks, n_left, swapped)
    place = targets[:2] if swapped else movers[:2]
    return nearest_pairs(blocks, place, n_right, keep == "mutual", swapped)
