"""Work on threads: the order stays, few items are alive, errors arrive."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stellarscale.kernels.in_order import in_order


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_order_is_that_of_the_items(threads):
    assert list(in_order(lambda number: number * number, range(20), threads)) == [n * n for n in range(20)]


def test_one_thread_is_the_callers_own():
    assert set(in_order(lambda _: threading.get_ident(), range(3), 1)) == {threading.get_ident()}


@pytest.mark.parametrize("threads", [1, 2])
def test_few_items_are_alive_at_once(threads):
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    for done, _ in enumerate(in_order(lambda number: number, items(), threads)):
        assert taken - done <= threads + 1


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_arrives_after_the_results_before_it(threads):
    def work(number: int) -> int:
        if number == 4:
            raise ValueError("the fifth")
        return number

    seen = []
    with pytest.raises(ValueError, match="the fifth"):
        seen.extend(in_order(work, range(9), threads))
    results = in_order(work, range(9), threads)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
