"""Check PhraseCut, and compare its size with the published numbers."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clipseg_pl.doctor.findings import (
    Finding,
    State,
    checked_of,
    combine,
    compare_published,
    missing_folder,
    show_status,
    subsample,
)
from clipseg_pl.images import UnreadableImageError, read_image
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.phrasecut import FOLDER, find_files
from datamodules.datasets.phrasecut_build import (
    MISSING_SHARE,
    ON_BAD_IMAGES,
    SOURCE,
    describe_skipped,
    photos_that_differ,
    read_image_table,
    usable_tasks,
)
from datamodules.toy.writers.folder import MANIFEST

_SPLITS = ("train", "val", "miniv", "test")
_OPTIONAL = "refer_miniv.json"

_PUBLISHED = {
    "train": (71_746, 310_816),
    "val + miniv": (2_971, 20_316),
    "miniv": (100, 821),
    "test": (2_545, 14_354),
    "all splits": (77_262, 345_486),
}
"""number of images and phrases (README of github.com/ChenyunWu/PhraseCutDataset). Its row "val"
includes miniv, while `refer_val.json` does not."""
_COUNTS = "{:,} images, {:,} phrases"

Sizes = Mapping[int, tuple[int, int]]
Files = tuple[Path, Path, Path]
"""task file (a task is a phrase of an image, with its polygons), image table, photo folder"""


def check_phrasecut(root: Path, every: bool) -> Iterator[Finding]:
    """Read the annotations of all splits, and check the photos and their sizes.

    Args:
        root: folder that contains VGPhraseCut_v0.
        every: whether to open all photos instead of `SAMPLE` per split.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        yield missing_folder(folder, SOURCE)
        return
    files, missing = {}, dict[str, None]()
    for split in _SPLITS:
        try:
            files[split] = find_files(root, split)
        except DatasetNotFoundError as error:
            missing |= dict.fromkeys(error.missing)
    for part in missing:
        if part == _OPTIONAL:
            yield Finding("note", part, f"not found; only `val_split: miniv` needs it ({SOURCE})")
        else:
            yield Finding("missing", part, f"download it from {SOURCE}")
    if files:
        yield from _check_files(files, (folder / MANIFEST).is_file(), every)


def _check_files(files: Mapping[str, Files], toy: bool, every: bool) -> Iterator[Finding]:
    """Yield a finding for each split and for the total of the splits."""
    _, table, images = next(iter(files.values()))
    try:
        sizes, _ = read_image_table(table)
    except ValueError as error:
        yield Finding("wrong", table.name, f"{error}; download it again from {SOURCE}")
        return
    splits = {}
    for name, (tasks, _, _) in files.items():
        try:
            with show_status(f"reading {tasks.name}"):
                split = splits[name] = _Split(tasks, sizes)
        except ValueError as error:
            yield Finding("wrong", tasks.name, f"{error}; download it again from {SOURCE}")
            continue
        counts: tuple[State, str] = ("ok", _COUNTS.format(*split.counts))
        if name != "val":  # the published number of val includes miniv
            counts = _compare([split], name, toy)
        photos = _photos(images, split.kept, sizes, every)
        yield combine(tasks.name, [counts, *split.describe_skipped(), *photos])
    if {"val", "miniv"} <= splits.keys():
        both = [splits["val"], splits["miniv"]]
        yield combine("val + miniv", [_compare(both, "val + miniv", toy)])
    if len(splits) == len(_SPLITS):
        yield combine("all splits", [_compare(splits.values(), "all splits", toy)])


class _Split:
    """Contents of a task file.

    Raises:
        ValueError: if the file is not a JSON list of tasks.
    """

    def __init__(self, file: Path, sizes: Sizes) -> None:
        skipped: defaultdict[str, list[str]] = defaultdict(list)
        tasks, kept = 0, dict[int, None]()
        for _, image, _, _ in usable_tasks(file, sizes, skipped):
            tasks, kept[image] = tasks + 1, None
        self.kept, self.skipped = list(kept), dict(skipped)
        skipped_ids = [name for names in skipped.values() for name in names]
        # task ids are <image>__<annotations>
        images = {name.split("__")[0] for name in skipped_ids}
        others = {int(image) for image in images if image.isdecimal()}
        self.counts = len(others | kept.keys()), tasks + len(skipped_ids)

    def describe_skipped(self) -> Iterator[tuple[State, str]]:
        """Report skipped tasks, except tasks on images in the published list of wrong sizes."""
        others = {reason: ids for reason, ids in self.skipped.items() if reason != ON_BAD_IMAGES}
        if others:
            yield ("note" if self.kept else "wrong"), f"skipped tasks: {describe_skipped(others)}"
        elif not self.kept:
            yield "wrong", "no usable tasks"


def _photos(
    images: Path, needed: list[int], sizes: Sizes, every: bool
) -> Iterator[tuple[State, str]]:
    """Check that the photos of a split exist, are readable, and have the annotated size."""
    missing = [image for image in needed if not (images / f"{image}.jpg").is_file()]
    if missing:
        counts = f"{len(missing):,} of {len(needed):,} photos are missing (first: {missing[0]}.jpg)"
        unusable = len(missing) > MISSING_SHARE * len(needed)
        yield ("wrong", f"{counts}: download them from {SOURCE}") if unusable else ("note", counts)
    present = sorted(set(needed).difference(missing))
    opened = subsample(present, every)
    if not opened:
        return
    try:
        differ = photos_that_differ(images, {image: sizes[image] for image in opened})
    except DatasetNotFoundError as error:
        yield "wrong", str(error)
        return
    broken = _undecodable(images, [image for image in opened if image not in differ])
    yield "ok", f"{checked_of(opened, present)} photos checked"
    if broken:
        yield "wrong", f"{len(broken):,} of them cannot be decoded (first: {broken[0]})"
    for reason, count in Counter(differ.values()).items():
        first = next(image for image in differ if differ[image] == reason)
        yield "note", f"skipped tasks {reason}: {count} photos (first: {first}.jpg)"


def _undecodable(images: Path, needed: Sequence[int]) -> list[str]:
    """Return the errors of photos that cannot be decoded although their headers are valid.

    Training stops with an error at such a photo.
    """

    def read_error(image: int) -> str:
        try:
            read_image(images / f"{image}.jpg")
        except UnreadableImageError as error:
            return str(error)
        return ""

    with show_status(f"reading photos in {images.parent.name}"), ThreadPoolExecutor(8) as pool:
        return [error for error in pool.map(read_error, needed) if error]


def _compare(splits: Iterable[_Split], name: str, toy: bool) -> tuple[State, str]:
    """Compare the summed counts of splits, which share no images, with the published ones."""
    counts = [sum(column) for column in zip(*(split.counts for split in splits), strict=True)]
    return compare_published(counts, _PUBLISHED[name], _COUNTS, toy)
