"""From photo files to mask files, any number of them: photos are read, segmented and forgotten."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from clipseg_pl.ahead import work_ahead
from clipseg_pl.embedding import EmbeddedPrompts
from clipseg_pl.images import RGB, load_photo
from clipseg_pl.mask_files import MaskFiles
from clipseg_pl.photo_files import PhotoFile
from clipseg_pl.segmentation import Segmentation
from clipseg_pl.segmenter import Segmenter


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
) -> Iterator[Outcome]:
    """Segment photos and write what they show, in order; what cannot be read is skipped.

    Reading and writing go on while the model computes; no more than a few photos are held.
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
        yield from ((one, None) for one in read)

    def write(answer: tuple[_Read, Segmentation | None]) -> Outcome:
        (number, photo, pixels, problem), result = answer
        if result is None:
            return Outcome(photo, problem)
        covered = files.write(photo, number, pixels, result)
        return Outcome(photo, "", covered, result.presence.tolist())

    yield from work_ahead(write, answered())


def _read(numbered: tuple[int, PhotoFile]) -> _Read:
    number, photo = numbered
    try:
        return _Read(number, photo, load_photo(photo.path), "")
    except (OSError, ValueError) as error:
        return _Read(number, photo, None, str(error))
