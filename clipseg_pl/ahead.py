"""Reading and writing beside computing."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREADS = 2  # each may hold a photo, or its masks


def work_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply a function to items in threads; yields in order, never more than a few ahead.

    Items are drawn in the thread of the caller. What the function raises is raised here.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        begun: deque[Future[Result]] = deque()
        for item in items:
            begun.append(threads.submit(function, item))
            if len(begun) > _THREADS:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
