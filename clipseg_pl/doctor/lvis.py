"""Whether LVIS can be read."""

from collections.abc import Iterator
from pathlib import Path

from clipseg_pl.doctor import published
from clipseg_pl.doctor.findings import (
    Finding,
    State,
    beside_published,
    busy,
    no_folder,
    read_of,
    spread,
    sum_up,
)
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.lvis import LVIS, SOURCE
from datamodules.toy.writers.folder import MANIFEST


def check_lvis(root: Path, every: bool) -> Iterator[Finding]:
    """Read the annotations of both splits, look for all photos and open some.

    Args:
        root: folder that holds LVIS.
        every: open all photos, not `SAMPLE` of each split.
    """
    folder = root / "LVIS"
    if not folder.is_dir():
        yield no_folder(folder, SOURCE)
        return
    missing = dict[str, None]()
    for split in ("train", "val"):
        try:
            with busy(f"reading the annotations of LVIS {split}"):
                lvis = LVIS(root, [split])
        except DatasetNotFoundError as error:
            missing |= dict.fromkeys(error.missing)
            continue
        except ValueError as error:
            yield Finding("wrong", split, f"{error}; get it anew from {SOURCE}")
            continue
        counts = f"{len(lvis.images):,} photos, {len(lvis.pairs):,} masks"
        known = beside_published(
            [len(lvis.names)],
            [published.LVIS_CATEGORIES],
            "{:,} categories",
            (folder / MANIFEST).is_file(),
        )
        yield sum_up(split, [("ok", counts), known, *_photos(lvis, every)])
    for part in missing:
        yield Finding("missing", part, f"get it from {SOURCE}")


def _photos(lvis: LVIS, every: bool) -> Iterator[tuple[State, str]]:
    """Whether the photos are there, and some of them readable and of the size annotated."""
    absent = [image for image in lvis.images if not lvis.photo_file(image).is_file()]
    if absent:
        says = f"{len(absent):,} photos are missing ({lvis.photo_file(absent[0])})"
        yield "wrong", f"{says}: get them from {SOURCE}"
    present = sorted(set(lvis.images).difference(absent))
    opened, problems = spread(present, every), list[str]()
    with busy("reading photos of LVIS"):
        for image in opened:
            try:
                lvis.photo(image)
            except (OSError, ValueError) as error:
                problems.append(str(error))
    if opened:
        yield "ok", f"{read_of(opened, present)} photos read"
    if problems:
        yield "wrong", f"{len(problems):,} of them cannot serve, the first is {problems[0]}"
