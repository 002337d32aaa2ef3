"""Whether PhraseCut's photos are there, and of the sizes that they were annotated in."""

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.progress import track

from clipseg_pl.images import image_size
from datamodules.datasets.files import DatasetNotFoundError

SOURCE = "https://github.com/ChenyunWu/PhraseCutDataset"
MISSING_SHARE = 0.1
"""of a split's photos that may be missing; their tasks are skipped and counted"""
_MISSING = "on photos that are missing or unreadable"


def photos_that_differ(images: Path, sizes: Mapping[int, tuple[int, int]]) -> dict[int, str]:
    """Compare the headers of photos with their annotated sizes.

    Args:
        images: folder of `<image id>.jpg`.
        sizes: annotated height and width by image id.

    Returns:
        Ids whose photo cannot serve, and why their tasks are skipped.

    Raises:
        DatasetNotFoundError: if more than a tenth is missing or unreadable.
    """

    def check(item: tuple[int, tuple[int, int]]) -> str:
        image, annotated = item
        found = image_size(images / f"{image}.jpg")
        if found is None:
            return _MISSING
        return "" if found == annotated else "on photos of another size than annotated"

    with ThreadPoolExecutor(8) as pool:
        answers = track(
            pool.map(check, sizes.items()),
            description=f"checking photos in {images.parent.name}",
            total=len(sizes),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        wrong = {image: answer for image, answer in zip(sizes, answers, strict=True) if answer}
    _refuse_stopped_download(images, wrong, len(sizes))
    return wrong


def _refuse_stopped_download(images: Path, wrong: dict[int, str], needed: int) -> None:
    """A few photos may be lost; more is a download that stopped early."""
    missing = [image for image, reason in wrong.items() if reason == _MISSING]
    if len(missing) > MISSING_SHARE * needed:
        raise DatasetNotFoundError(
            f"PhraseCut: looked in {images}; found {needed - len(missing)} of the {needed} photos "
            f"annotated; missing or unreadable are {len(missing)}, {missing[0]}.jpg the first. "
            f"Get them from {SOURCE}"
        )
