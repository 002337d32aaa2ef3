"""Segment photo files and write mask files, with only a few photos in memory at a time."""

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from clipseg_pl.images import RGB
from clipseg_pl.inference.embedding import EmbeddedPrompts
from clipseg_pl.inference.mask_files import MaskFiles
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.inference.work_ahead import work_ahead
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


_Numbered = tuple[int, RGB | None, Segmentation | Exception]


def segment_files(
    segmenter: Segmenter, prompts: EmbeddedPrompts, photos: Sequence[PhotoFile], files: MaskFiles
) -> Generator[Outcome, None, None]:
    """Segment photos and write their results, in order. Unreadable photos are skipped.

    Threads read photos and write results while the model computes. A few photos are read ahead.
    Results that wait to be written use about 256 MiB at most, unless a single one is larger.
    """

    def segmented() -> Iterator[_Numbered]:
        numbers = iter(range(len(photos)))
        sources = (photo.source for photo in photos)
        for pixels, result in segmenter.stream_with_pixels(sources, prompts):
            yield next(numbers), pixels, result
            del pixels, result  # free the memory before the next photo is computed

    def write(item: _Numbered) -> Outcome:
        number, pixels, result = item
        photo = photos[number]
        if isinstance(result, Exception):
            return Outcome(photo, str(result))
        return Outcome(photo, "", *files.write(photo, number, pixels, result))

    yield from work_ahead(write, segmented(), size=_bytes, max_size=_MAX_PENDING)


def _bytes(item: _Numbered) -> int:
    result = item[2]
    return 0 if isinstance(result, Exception) else result.probability.nbytes
