"""What is needed next is made by a thread of its own, while the caller works on what it has."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], *, most: int = 1) -> Iterator[T]:
    """The same items in their order, made by a thread of its own before they are asked for.

    Parameters
    ----------
    items : iterable
        Lazy: a generator, or ``map``. Only the thread looks at it. What it raises is raised at its place.
    most : int
        Items that are made and wait, while one is worked on.
    """
    source, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming = deque(pool.submit(next, source, end) for _ in range(most))
        try:
            while (item := coming.popleft().result()) is not end:
                coming.append(pool.submit(next, source, end))
                yield item  # type: ignore[misc]
                del item  # before the next one is waited for
        finally:
            for future in coming:
                future.cancel()
