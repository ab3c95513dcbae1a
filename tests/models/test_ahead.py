"""Items made ahead of their use: in order, no more than allowed, errors at their place."""

from __future__ import annotations

import threading

import pytest

from stellarscale.errors import InputError
from stellarscale.models.ahead import ahead


def test_the_next_item_is_made_while_one_is_worked_on():
    made, begun = [], threading.Event()

    def items():
        for number in range(4):
            made.append(number)
            if number == 1:
                begun.set()
            yield number

    for number in ahead(items()):
        if number == 0:
            assert begun.wait(5), "the second item was not begun while the first was worked on"
    assert made == [0, 1, 2, 3]
    assert list(ahead([])) == []


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_wait_than_allowed(most):
    made = []
    third = threading.Event()

    def items():
        for number in range(20):
            made.append(number)
            if number == most:
                third.set()
            yield number

    coming = ahead(items(), most=most)
    assert next(coming) == 0
    assert third.wait(5)
    assert made == list(range(most + 1))
    assert list(coming) == list(range(1, 20))


@pytest.mark.parametrize("most", [1, 3])
def test_what_fails_is_raised_at_its_place(most):
    def items():
        yield 1
        raise InputError("a damaged row group")

    coming = ahead(items(), most=most)
    assert next(coming) == 1
    with pytest.raises(InputError, match="damaged row group"):
        next(coming)


def test_nothing_more_is_made_once_the_caller_has_enough():
    made = []
    coming = ahead(map(made.append, range(100)), most=3)
    next(coming)
    coming.close()
    assert len(made) <= 5
