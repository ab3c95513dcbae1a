"""Places of sorted keys among others, against a plain loop over the keys that are left."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.kernels.keys import places_among

some_keys = st.lists(st.integers(-5, 12), max_size=25).map(sorted)


def places_loop(found, keys):
    free = [(key, place) for place, key in enumerate(found)]
    places = []
    for key in keys:
        match = next(((k, place) for k, place in free if k == key), None)
        places.append(-1 if match is None else match[1])
        if match is not None:
            free.remove(match)
    return places


@given(some_keys, some_keys)
def test_places_agree_with_the_loop(found, keys):
    places = places_among(np.array(found, dtype=np.int64), np.array(keys, dtype=np.int64))
    assert places.tolist() == places_loop(found, keys)
