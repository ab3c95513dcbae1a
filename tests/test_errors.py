from __future__ import annotations

import pickle

from stellarscale.errors import InputError, StellarscaleError


def test_a_message_has_all_its_parts_in_order():
    text = str(InputError("it broke", where="a.fits", seen=3, needed=4, cause="too short"))
    assert text == "it broke. Where: a.fits. Seen: 3. Needed: 4. Likely cause: too short."


def test_an_error_comes_back_from_a_worker_whole():
    error = InputError("it broke", where="a.fits", seen=3)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is InputError
    assert (str(again), again.where, again.seen) == (str(error), "a.fits", 3)
    assert isinstance(again, StellarscaleError)
    assert isinstance(again, ValueError)
