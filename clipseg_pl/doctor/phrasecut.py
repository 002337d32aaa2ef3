"""Whether PhraseCut can be read, and how it compares with the published one."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
from clipseg_pl.images import UnreadableImageError, read_image
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.phrasecut import FOLDER, find_files
from datamodules.datasets.phrasecut_build import (
    MISSING_SHARE,
    ON_BAD_IMAGES,
    SOURCE,
    describe_skipped,
    photos_that_differ,
    read_sizes,
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
"""images and phrases (README of ChenyunWu/PhraseCutDataset); its row "val" holds miniv, which
`refer_val.json` does not"""
_COUNTS = "{:,} images, {:,} phrases"

Sizes = Mapping[int, tuple[int, int]]
Files = tuple[Path, Path, Path]
"""tasks, image table, folder of photos"""


def check_phrasecut(root: Path, every: bool) -> Iterator[Finding]:
    """Read the annotations of all splits, look for the photos, compare the sizes of some.

    Args:
        root: folder that holds VGPhraseCut_v0.
        every: read all photos, not `SAMPLE` of each split.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        yield no_folder(folder, SOURCE)
        return
    files, missing = {}, dict[str, None]()
    for split in _SPLITS:
        try:
            files[split] = find_files(root, split)
        except DatasetNotFoundError as error:
            missing |= dict.fromkeys(error.missing)
    for part in missing:
        if part == _OPTIONAL:
            yield Finding("note", part, f"not there; only val_split: miniv reads it ({SOURCE})")
        else:
            yield Finding("missing", part, f"get it from {SOURCE}")
    if files:
        yield from _read(files, (folder / MANIFEST).is_file(), every)


def _read(files: Mapping[str, Files], drawn: bool, every: bool) -> Iterator[Finding]:
    """A line for each split, and one for the splits together."""
    _, table, images = next(iter(files.values()))
    try:
        sizes = read_sizes(table)
    except ValueError as error:
        yield Finding("wrong", table.name, f"{error}; get it anew from {SOURCE}")
        return
    splits = {}
    for name, (tasks, _, _) in files.items():
        try:
            with busy(f"reading {tasks.name}"):
                split = splits[name] = _Split(tasks, sizes)
        except ValueError as error:
            yield Finding("wrong", tasks.name, f"{error}; get it anew from {SOURCE}")
            continue
        counts: tuple[State, str] = ("ok", _COUNTS.format(*split.counts))
        if name != "val":  # the published number of val holds miniv's
            counts = _beside([split], name, drawn)
        photos = _photos(images, split.kept, sizes, every)
        yield sum_up(tasks.name, [counts, *split.left_out(), *photos])
    if {"val", "miniv"} <= splits.keys():
        both = [splits["val"], splits["miniv"]]
        yield sum_up("val + miniv", [_beside(both, "val + miniv", drawn)])
    if len(splits) == len(_SPLITS):
        yield sum_up("all splits", [_beside(splits.values(), "all splits", drawn)])


class _Split:
    """What a file of tasks holds.

    Raises:
        ValueError: if it holds something else.
    """

    def __init__(self, file: Path, sizes: Sizes) -> None:
        skipped: defaultdict[str, list[str]] = defaultdict(list)
        tasks, kept = 0, dict[int, None]()
        for _, image, _, _ in usable_tasks(file, sizes, skipped):
            tasks, kept[image] = tasks + 1, None
        self.kept, self.skipped = list(kept), dict(skipped)
        left_out = [name for names in skipped.values() for name in names]
        # an id is <image>__<annotations>
        owners = {name.split("__")[0] for name in left_out}
        others = {int(owner) for owner in owners if owner.isdecimal()}
        self.counts = len(others | kept.keys()), tasks + len(left_out)

    def left_out(self) -> Iterator[tuple[State, str]]:
        """What the loader skips, but for the published list of images with wrong sizes."""
        others = {reason: ids for reason, ids in self.skipped.items() if reason != ON_BAD_IMAGES}
        if others:
            yield ("note" if self.kept else "wrong"), f"skipped are {describe_skipped(others)}"
        elif not self.kept:
            yield "wrong", "no task can be used"


def _photos(
    images: Path, needed: list[int], sizes: Sizes, every: bool
) -> Iterator[tuple[State, str]]:
    """Whether the photos of a split are there, whole and of the size annotated."""
    missing = [image for image in needed if not (images / f"{image}.jpg").is_file()]
    if missing:
        says = f"{len(missing):,} of {len(needed):,} photos are missing ({missing[0]}.jpg)"
        lost = len(missing) > MISSING_SHARE * len(needed)
        yield ("wrong", f"{says}: get them from {SOURCE}") if lost else ("note", says)
    present = sorted(set(needed).difference(missing))
    opened = spread(present, every)
    if not opened:
        return
    try:
        differ = photos_that_differ(images, {image: sizes[image] for image in opened})
    except DatasetNotFoundError as error:
        yield "wrong", str(error)
        return
    broken = _undecodable(images, [image for image in opened if image not in differ])
    yield "ok", f"{read_of(opened, present)} photos read"
    if broken:
        yield "wrong", f"{len(broken):,} of them cannot be decoded, the first is {broken[0]}"
    for reason, count in Counter(differ.values()).items():
        first = next(image for image in differ if differ[image] == reason)
        yield "note", f"tasks {reason} are skipped: {count} photos, {first}.jpg the first"


def _undecodable(images: Path, needed: Sequence[int]) -> list[str]:
    """What is said of photos whose header is fine but not what follows; they stop a training."""

    def read(image: int) -> str:
        try:
            read_image(images / f"{image}.jpg")
        except UnreadableImageError as error:
            return str(error)
        return ""

    with busy(f"reading photos in {images.parent.name}"), ThreadPoolExecutor(8) as pool:
        return [said for said in pool.map(read, needed) if said]


def _beside(splits: Iterable[_Split], name: str, drawn: bool) -> tuple[State, str]:
    """The counts of some splits together, no image being in two of them."""
    counts = [sum(column) for column in zip(*(split.counts for split in splits), strict=True)]
    return beside_published(counts, _PUBLISHED[name], _COUNTS, drawn)
