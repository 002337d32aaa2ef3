"""From photo files to mask files, any number of them: photos are read, segmented and forgotten."""

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

_MOST_BYTES = 1 << 28
"""of probabilities that wait to be written while more are computed"""


class Outcome(NamedTuple):
    """What became of a photo."""

    photo: PhotoFile
    problem: str = ""
    """why it was skipped"""
    covered: Sequence[float] = ()
    """the share of it that each prompt covers, 0 to 1"""
    presence: Sequence[float] = ()
    """of each prompt, 0 to 1"""


class _Read(NamedTuple):
    number: int
    photo: PhotoFile
    pixels: RGB | None
    problem: str


def segment_files(
    segmenter: Segmenter, prompts: EmbeddedPrompts, photos: Sequence[PhotoFile], files: MaskFiles
) -> Generator[Outcome, None, None]:
    """Segment photos and write what they show, in order; what cannot be read is skipped.

    Reading and writing go on while the model computes; no more than a few photos are held, and of
    large results one.
    """
    read: deque[_Read] = deque()

    def readable() -> Iterator[RGB]:
        for one in work_ahead(_read, enumerate(photos)):
            read.append(one)
            if one.pixels is not None:
                yield one.pixels

    def answered() -> Iterator[tuple[_Read, Segmentation | None]]:
        for result in segmenter.many(readable(), prompts):
            while read[0].pixels is None:
                yield read.popleft(), None
            yield read.popleft(), result
            del result  # written by now or soon, while the next is computed
        yield from ((one, None) for one in read)

    def write(answer: tuple[_Read, Segmentation | None]) -> Outcome:
        (number, photo, pixels, problem), result = answer
        if result is None:
            return Outcome(photo, problem)
        covered = files.write(photo, number, pixels, result)
        return Outcome(photo, "", covered, result.presence.tolist())

    yield from work_ahead(write, answered(), _bytes, _MOST_BYTES)


def _bytes(answer: tuple[_Read, Segmentation | None]) -> int:
    result = answer[1]
    return 0 if result is None else result.probability.nbytes


def _read(numbered: tuple[int, PhotoFile]) -> _Read:
    number, photo = numbered
    try:
        return _Read(number, photo, load_photo(photo.path), "")
    except (OSError, ValueError) as error:
        return _Read(number, photo, None, str(error))


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
