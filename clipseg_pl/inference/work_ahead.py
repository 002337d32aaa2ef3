"""Apply a function to a stream of items in background threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int = 2,
    size: Callable[[Item], int] = lambda item: 0,
    max_size: int = 0,
) -> Iterator[Result]:
    """Apply a function to items in threads and yield the results in order.

    Items are produced lazily, in the thread of the caller. Exceptions of the function are raised
    when its result is due.

    Args:
        function: function of one item.
        items: input items.
        threads: number of threads, and of items that are pending while the caller works. Each
            thread may hold a photo or its masks in memory.
        size: returns the size of an item in bytes.
        max_size: total size of pending items above which no new item is produced.
    """
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[tuple[Future[Result], int]] = deque()
        for item in items:
            pending.append((pool.submit(function, item), size(item)))
            del item  # free the memory before the next item is produced
            while len(pending) > threads or sum(held for _, held in pending) > max_size:
                yield pending.popleft()[0].result()
        while pending:
            yield pending.popleft()[0].result()
