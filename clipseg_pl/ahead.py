"""Reading and writing beside computing."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREADS = 2  # each may hold a photo, or its masks


def work_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    size: Callable[[Item], int] = lambda item: 0,
    most: int = 0,
) -> Iterator[Result]:
    """Apply a function to items in threads; yields in order, never more than a few ahead.

    Items are drawn in the thread of the caller. What the function raises is raised here.

    Args:
        function: of one item.
        items: a next one is drawn when there is room for it.
        size: bytes of an item.
        most: bytes of all that are begun when a next one is drawn.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        begun: deque[tuple[Future[Result], int]] = deque()
        for item in items:
            begun.append((threads.submit(function, item), size(item)))
            del item  # it may be large, and the next one is about to be made
            while len(begun) > _THREADS or sum(held for _, held in begun) > most:
                yield begun.popleft()[0].result()
        while begun:
            yield begun.popleft()[0].result()
