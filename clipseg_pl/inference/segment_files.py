"""Segment photo files and write mask files, with only a few photos in memory at a time."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from clipseg_pl.images import RGB, load_photo
from clipseg_pl.inference.embedding import EmbeddedPrompts
from clipseg_pl.inference.mask_files import MaskFiles
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.photo_files import PhotoFile

_MAX_PENDING = 1 << 28  # bytes of probabilities that wait to be written


class Outcome(NamedTuple):
    """Result of one photo."""

    photo: PhotoFile
    problem: str = ""
    """why the photo was skipped; empty if it was segmented"""
    covered: Sequence[float] = ()
    """fraction of the photo that each mask covers, 0 to 1"""
    presence: Sequence[float] = ()
    """presence score of each mask, 0 to 1"""


class _Read(NamedTuple):
    number: int
    photo: PhotoFile
    pixels: RGB | None
    problem: str


def segment_files(
    segmenter: Segmenter, prompts: EmbeddedPrompts, photos: Sequence[PhotoFile], files: MaskFiles
) -> Generator[Outcome, None, None]:
    """Segment photos and write their results, in order. Unreadable photos are skipped.

    Threads read photos and write results while the model computes. A few photos are read ahead.
    Results that wait to be written use about 256 MiB at most, unless a single one is larger.
    """
    read: deque[_Read] = deque()

    def readable() -> Iterator[RGB]:
        for entry in work_ahead(_read, enumerate(photos)):
            read.append(entry)
            if entry.pixels is not None:
                yield entry.pixels

    def segmented() -> Iterator[tuple[_Read, Segmentation | None]]:
        for result in segmenter.many(readable(), prompts):
            while read[0].pixels is None:
                yield read.popleft(), None
            yield read.popleft(), result
            del result  # free the memory before the next photo is computed
        yield from ((entry, None) for entry in read)

    def write(item: tuple[_Read, Segmentation | None]) -> Outcome:
        (number, photo, pixels, problem), result = item
        if result is None:
            return Outcome(photo, problem)
        return Outcome(photo, "", *files.write(photo, number, pixels, result))

    yield from work_ahead(write, segmented(), _bytes, _MAX_PENDING)


def _bytes(item: tuple[_Read, Segmentation | None]) -> int:
    result = item[1]
    return 0 if result is None else result.probability.nbytes


def _read(numbered: tuple[int, PhotoFile]) -> _Read:
    number, photo = numbered
    try:
        return _Read(number, photo, load_photo(photo.path), "")
    except (OSError, ValueError) as error:
        return _Read(number, photo, None, str(error))


Item = TypeVar("Item")
Result = TypeVar("Result")

_THREADS = 2  # each may hold a photo or its masks in memory


def work_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    size: Callable[[Item], int] = lambda item: 0,
    max_size: int = 0,
) -> Iterator[Result]:
    """Apply a function to items in two threads and yield the results in order.

    Items are produced lazily, in the thread of the caller. Exceptions of the function are raised
    when its result is due.

    Args:
        function: function of one item.
        items: input items.
        size: returns the size of an item in bytes.
        max_size: total size of pending items above which no new item is produced.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        pending: deque[tuple[Future[Result], int]] = deque()
        for item in items:
            pending.append((threads.submit(function, item), size(item)))
            del item  # free the memory before the next item is produced
            while len(pending) > _THREADS or sum(held for _, held in pending) > max_size:
                yield pending.popleft()[0].result()
        while pending:
            yield pending.popleft()[0].result()
