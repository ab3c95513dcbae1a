"""Which templates go on to a dearer score: the best by a cheap one, and all that its errors might hide."""

from __future__ import annotations

import numpy as np
from numba import njit

SIGMAS = 6.0


@njit(nogil=True, cache=True)
def smallest(values, done, count, seen):
    """Mark the ``count`` open entries of lowest value as done; write them to ``seen``, lowest first; return how many.

    Equal values keep their order.
    """
    size, worst = 0, np.inf
    for i in range(len(values)):
        value = values[i]
        if done[i] or (size == count and not value < worst):
            continue
        size -= size == count
        place = size
        while place > 0 and value < values[seen[place - 1]]:
            seen[place] = seen[place - 1]
            place -= 1
        seen[place] = i
        size += 1
        worst = values[seen[size - 1]]
    for place in range(size):
        done[seen[place]] = True
    return size


@njit(nogil=True, cache=True)
def not_above(values, done, limit, seen, size):
    """Append the open entries that are not above the limit (NaN is not) and mark them; return the new length."""
    for i in range(len(values)):
        if not done[i] and not values[i] > limit:
            done[i] = True
            seen[size] = i
            size += 1
    return size


@njit(nogil=True, cache=True)
def worst_of_best(values, seen, best):
    """The ``len(best)``-th smallest of the values in ``seen``, infinite where there are fewer or one is NaN.

    ``best`` is overwritten.
    """
    last = len(best) - 1
    best[:] = np.inf
    for i in seen:
        value = np.float64(values[i])
        if np.isnan(value):
            return np.inf
        if value < best[last]:
            place = last
            while place > 0 and value < best[place - 1]:
                best[place] = best[place - 1]
                place -= 1
            best[place] = value
    return best[last]


@njit(nogil=True, cache=True)
def limit_of(cheap, dear, seen, best):
    """The cheap score above which the dear one cannot be among the ``len(best)`` smallest.

    That is the worst of the best so far, less the mean difference of the scores, plus six standard deviations of
    it; infinite where a score is not finite. ``best`` is overwritten.
    """
    mean, square, n = 0.0, 0.0, len(seen)
    for i in seen:
        mean += (dear[i] - np.float64(cheap[i])) / n
    for i in seen:
        square += (dear[i] - np.float64(cheap[i]) - mean) ** 2
    limit = worst_of_best(dear, seen, best) - mean + SIGMAS * np.sqrt(square / max(n - 1, 1))
    return limit if np.isfinite(limit) else np.inf


@njit(nogil=True, cache=True)
def sort_by(values, seen):
    """Sort the numbers in ``seen`` by value, equal values by number."""
    for t in range(1, len(seen)):
        i, value = seen[t], values[seen[t]]
        place = t
        while place > 0 and (
            value < values[seen[place - 1]] or (value == values[seen[place - 1]] and i < seen[place - 1])
        ):
            seen[place] = seen[place - 1]
            place -= 1
        seen[place] = i
