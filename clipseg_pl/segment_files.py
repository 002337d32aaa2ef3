"""From photo files to mask files, any number of them: photos are read, segmented and forgotten."""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from clipseg_pl.ahead import work_ahead
from clipseg_pl.embedding import EmbeddedPrompts
from clipseg_pl.images import RGB, load_photo
from clipseg_pl.mask_files import MaskFiles
from clipseg_pl.photo_files import PhotoFile
from clipseg_pl.segmentation import Segmentation
from clipseg_pl.segmenter import Segmenter

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
