"""Check VOC2012, COCO2014, the lists of their benchmarks, and LVIS."""

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track

from clipseg_pl.doctor.findings import (
    Finding,
    State,
    checked_of,
    combine,
    compare_published,
    missing_folder,
    missing_parts,
    read_photos,
    show_status,
    subsample,
)
from clipseg_pl.images import UnreadableImageError, image_size
from datamodules.datasets.coco_20i import COCO_CLASSES, FOLDS, read_fold
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.labelled import (
    COCO_SOURCE,
    IGNORED,
    VOC_SOURCE,
    LabelledPhotos,
    open_coco,
    open_voc,
    read_voc_list,
)
from datamodules.datasets.lvis import LVIS
from datamodules.datasets.lvis import SOURCE as LVIS_SOURCE
from datamodules.datasets.pascal_5i import read_hsnet_list, read_pfenet_list
from datamodules.toy.writers.folder import MANIFEST

_VOC_VAL = 1_449
"""number of photos in VOC's segmentation list val.txt (VOC web page)"""
_VOC_CLASSES = 20
_PFENET_VAL = 1_449
"""number of lines of `lists/pascal/val.txt` in github.com/Jia-Research-Lab/PFENet"""
_HSNET_PASCAL = (346, 451, 725, 346)
"""number of lines of `data/splits/pascal/val/fold<k>.txt` in github.com/juhongm999/hsnet"""
_HSNET_COCO = {
    "trn": ((62_040, 95_476), (74_381, 133_927), (73_035, 141_054), (73_808, 141_016)),
    "val": ((26_052, 35_783), (15_305, 17_912), (13_138, 14_563), (12_640, 14_315)),
}
"""number of unique photos and of entries of `data/splits/coco/<part>/fold<k>.pkl` in
github.com/juhongm999/hsnet"""
_LVIS_CATEGORIES = 1_203
"""number of categories of LVIS v1 (lvisdataset.org)"""
_HINT = "; label maps must be PNGs (mode P or L) whose pixel values are class indices, not colours"
_MODE, _LABELS = "has mode", "labels"
"""beginnings of the problems to whose message `_HINT` is added"""


def check_voc2012(root: Path, every: bool) -> Iterator[Finding]:
    """Check VOC2012 as used by generalised zero-shot segmentation.

    Args:
        root: folder that contains VOC2012.
        every: whether to open all label maps instead of `SAMPLE` of them.
    """
    folder = root / "VOC2012"
    if not folder.is_dir():
        yield missing_folder(folder, VOC_SOURCE)
        return
    toy = _is_toy(root, folder.name)
    missing = missing_parts(
        root, partial(open_voc, root, augmented=False), partial(read_voc_list, root, "val")
    )
    yield from missing
    if not missing:
        photos, names = open_voc(root, augmented=False), read_voc_list(root, "val")
        count = compare_published([len(names)], [_VOC_VAL], "{:,} photos", toy)
        maps = _maps(photos, names, _VOC_CLASSES, VOC_SOURCE, every)
        yield combine("val.txt", [count, *maps])


def check_pascal_5i(root: Path, every: bool) -> Iterator[Finding]:
    """Check the label maps of SBD (VOC's extra annotations) and PFENet's list of photos.

    See `check_voc2012` for the arguments.
    """
    voc, listed = partial(open_voc, root, augmented=True), partial(read_pfenet_list, root)
    missing = missing_parts(root, voc, listed)
    if missing:
        yield from missing
        return
    try:
        photos, names = voc(), listed()
    except ValueError as error:
        yield Finding("wrong", "lists/pfenet", str(error))
        return
    toy = _is_toy(root, "lists")
    count = compare_published([len(names)], [_PFENET_VAL], "{:,} photos", toy)
    maps = _maps(photos, names, _VOC_CLASSES, VOC_SOURCE, every)
    yield combine("lists/pfenet", [count, *maps])


def check_pascal_5i_hsnet(root: Path, every: bool) -> Iterator[Finding]:
    """Check the label maps of SBD and HSNet's lists; see `check_voc2012` for the arguments."""
    voc = partial(open_voc, root, augmented=True)
    lists = [partial(read_hsnet_list, root, fold) for fold in range(FOLDS)]
    missing = missing_parts(root, voc, *lists)
    if missing:
        yield from missing
        return
    try:
        photos, folds = voc(), [read() for read in lists]
    except ValueError as error:
        yield Finding("wrong", "lists/hsnet", str(error))
        return
    template = "folds of {}, {}, {} and {} entries"
    toy = _is_toy(root, "lists")
    count = compare_published([len(fold) for fold in folds], _HSNET_PASCAL, template, toy)
    names = sorted({name for fold in folds for name, _ in fold})
    maps = _maps(photos, names, _VOC_CLASSES, VOC_SOURCE, every)
    yield combine("lists/hsnet", [count, *maps])


def check_coco_20i(root: Path, every: bool) -> Iterator[Finding]:
    """Check COCO2014 and HSNet's lists of photos per class.

    Args:
        root: folder that contains COCO2014 and splits.
        every: whether to open all label maps instead of `SAMPLE` of them.
    """
    folder = root / "COCO2014"
    if not folder.is_dir():
        yield missing_folder(folder, COCO_SOURCE)
        return
    missing = missing_parts(root, partial(open_coco, root))
    if missing:
        yield from missing
        return
    listed, toy = set[str](), _is_toy(root, "splits")
    for part, published in _HSNET_COCO.items():
        for fold in range(FOLDS):
            file = f"splits/coco/{part}/fold{fold}.pkl"
            try:
                entries = [name for names in read_fold(root, part, fold).values() for name in names]
            except DatasetNotFoundError as error:
                yield Finding("missing", file, f"download it from {error.source}")
                continue
            except ValueError as error:
                yield Finding("wrong", file, f"{error}; download it again from {COCO_SOURCE}")
                continue
            counts = len(set(entries)), len(entries)
            template = "{:,} photos, {:,} entries"
            yield combine(file, [compare_published(counts, published[fold], template, toy)])
            listed.update(entries)
    if listed:
        maps = _maps(open_coco(root), sorted(listed), len(COCO_CLASSES), COCO_SOURCE, every)
        yield combine("photos and label maps", list(maps))


def check_lvis(root: Path, every: bool) -> Iterator[Finding]:
    """Read the annotations of both splits, and check the photos.

    Args:
        root: folder that contains LVIS.
        every: whether to open all photos instead of `SAMPLE` per split.
    """
    folder = root / "LVIS"
    if not folder.is_dir():
        yield missing_folder(folder, LVIS_SOURCE)
        return
    missing = dict[str, None]()
    for split in ("train", "val"):
        try:
            with show_status(f"reading the annotations of LVIS {split}"):
                lvis = LVIS(root, [split])
        except DatasetNotFoundError as error:
            missing |= dict.fromkeys(error.missing)
            continue
        except ValueError as error:
            yield Finding("wrong", split, f"{error}; download it again from {LVIS_SOURCE}")
            continue
        counts = f"{len(lvis.images):,} photos, {len(lvis.pairs):,} masks"
        categories = compare_published(
            [len(lvis.names)],
            [_LVIS_CATEGORIES],
            "{:,} categories",
            (folder / MANIFEST).is_file(),
        )
        yield combine(split, [("ok", counts), categories, *_lvis_photos(lvis, every)])
    for part in missing:
        yield Finding("missing", part, f"download it from {LVIS_SOURCE}")


def _lvis_photos(lvis: LVIS, every: bool) -> Iterator[tuple[State, str]]:
    """Check that the photos exist, are readable, and have the annotated size."""
    absent = [image for image in lvis.images if not lvis.photo_file(image).is_file()]
    if absent:
        counts = f"{len(absent):,} of {len(lvis.images):,} photos are missing"
        first = lvis.photo_file(absent[0])
        yield "wrong", f"{counts} (first: {first}): download them from {LVIS_SOURCE}"
    present = sorted(set(lvis.images).difference(absent))
    yield from read_photos(present, lvis.photo, "LVIS", every)


def _is_toy(root: Path, part: str) -> bool:
    """Return whether a folder belongs to the toy world."""
    return (root / part / MANIFEST).is_file()


def _maps(
    photos: LabelledPhotos, names: Sequence[str], classes: int, source: str, every: bool
) -> Iterator[tuple[State, str]]:
    """Check the photos and label maps of a list."""
    complete = set(names)
    for kind, path in (("photos", photos.photo_file), ("label maps", photos.label_file)):
        absent = [name for name in names if not path(name).is_file()]
        complete.difference_update(absent)
        if absent:
            counts = f"{len(absent):,} of {len(names):,} {kind} are missing"
            first = path(absent[0]).name
            yield "wrong", f"{counts} (first: {first}): download them from {source}"
    present = sorted(complete)
    opened, problems = subsample(present, every), defaultdict[str, list[Path]](list)
    for name in track(
        opened,
        description="reading label maps",
        transient=True,
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ):
        for problem, file in _problems(photos, name, classes):
            problems[problem].append(file)
    if opened:
        yield "ok", f"{checked_of(opened, present)} label maps checked"
    for problem, files in problems.items():
        hint = _HINT if problem.startswith((_MODE, _LABELS)) else ""
        yield "wrong", f"{len(files):,} of them: {problem} (first: {files[0].name}){hint}"


def _problems(photos: LabelledPhotos, name: str, classes: int) -> Iterator[tuple[str, Path]]:
    """Yield at most one problem of a label map or its photo, with the affected file."""
    file, photo = photos.label_file(name), photos.photo_file(name)
    try:
        labels = photos.labels_unchecked(name)
    except UnreadableImageError as error:
        yield str(error).removeprefix(f"{file}: "), file
        return
    size = image_size(photo)
    if size and size != labels.shape:
        yield "size differs from the photo's", file
    elif ((labels > classes) & (labels != IGNORED)).any():
        yield f"{_LABELS} above {classes}", file
    elif size is None:
        yield "the photo is not a readable image", photo
