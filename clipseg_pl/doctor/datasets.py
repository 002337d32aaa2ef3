"""Whether VOC2012, COCO2014 with the lists of their benchmarks, and LVIS can be read."""

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
    beside_published,
    busy,
    missing_parts,
    no_folder,
    read_of,
    spread,
    sum_up,
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
"""photos in VOC's own list for segmentation (its web page)"""
_VOC_CLASSES = 20
_PFENET_VAL = 1_449
"""lines of `lists/pascal/val.txt` of Jia-Research-Lab/PFENet"""
_HSNET_PASCAL = (346, 451, 725, 346)
"""lines of `data/splits/pascal/val/fold<k>.txt` of juhongm999/hsnet"""
_HSNET_COCO = {
    "trn": ((62_040, 95_476), (74_381, 133_927), (73_035, 141_054), (73_808, 141_016)),
    "val": ((26_052, 35_783), (15_305, 17_912), (13_138, 14_563), (12_640, 14_315)),
}
"""different photos and entries of `data/splits/coco/<part>/fold<k>.pkl` of juhongm999/hsnet"""
_LVIS_CATEGORIES = 1_203
"""of LVIS v1 (lvisdataset.org)"""
_INDICES = ": label maps are PNGs of class indices (mode P or L), never RGB or greys of a palette"
_MODE, _LABELS = "has mode", "labels"
"""beginnings of the problems that this explains"""


def check_voc2012(root: Path, every: bool) -> Iterator[Finding]:
    """VOC2012 itself, which generalised zero-shot segmentation reads.

    Args:
        root: folder that holds VOC2012.
        every: open all label maps, not `SAMPLE` of them.
    """
    folder = root / "VOC2012"
    if not folder.is_dir():
        yield no_folder(folder, VOC_SOURCE)
        return
    drawn = _drawn(root, folder.name)
    missing = missing_parts(
        root, partial(open_voc, root, augmented=False), partial(read_voc_list, root, "val")
    )
    yield from missing
    if not missing:
        photos, names = open_voc(root, augmented=False), read_voc_list(root, "val")
        count = beside_published([len(names)], [_VOC_VAL], "{:,} photos", drawn)
        maps = _maps(photos, names, _VOC_CLASSES, VOC_SOURCE, every)
        yield sum_up("val.txt", [count, *maps])


def check_pascal_5i(root: Path, every: bool) -> Iterator[Finding]:
    """SBD's label maps and PFENet's list; arguments as of `check_voc2012`."""
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
    drawn = _drawn(root, "lists")
    count = beside_published([len(names)], [_PFENET_VAL], "{:,} photos", drawn)
    maps = _maps(photos, names, _VOC_CLASSES, VOC_SOURCE, every)
    yield sum_up("lists/pfenet", [count, *maps])


def check_pascal_5i_hsnet(root: Path, every: bool) -> Iterator[Finding]:
    """SBD's label maps and HSNet's lists; arguments as of `check_voc2012`."""
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
    what = "folds of {}, {}, {} and {} entries"
    drawn = _drawn(root, "lists")
    count = beside_published([len(fold) for fold in folds], _HSNET_PASCAL, what, drawn)
    names = sorted({name for fold in folds for name, _ in fold})
    maps = _maps(photos, names, _VOC_CLASSES, VOC_SOURCE, every)
    yield sum_up("lists/hsnet", [count, *maps])


def check_coco_20i(root: Path, every: bool) -> Iterator[Finding]:
    """COCO2014 and HSNet's lists of photos by class.

    Args:
        root: folder that holds COCO2014 and splits.
        every: open all label maps, not `SAMPLE` of them.
    """
    folder = root / "COCO2014"
    if not folder.is_dir():
        yield no_folder(folder, COCO_SOURCE)
        return
    missing = missing_parts(root, partial(open_coco, root))
    if missing:
        yield from missing
        return
    listed, drawn = set[str](), _drawn(root, "splits")
    for part, whole in _HSNET_COCO.items():
        for fold in range(FOLDS):
            thing = f"splits/coco/{part}/fold{fold}.pkl"
            try:
                entries = [name for names in read_fold(root, part, fold).values() for name in names]
            except DatasetNotFoundError as error:
                yield Finding("missing", thing, f"get it from {error.source}")
                continue
            except ValueError as error:
                yield Finding("wrong", thing, f"{error}; get it anew from {COCO_SOURCE}")
                continue
            counts = len(set(entries)), len(entries)
            what = "{:,} photos, {:,} entries"
            yield sum_up(thing, [beside_published(counts, whole[fold], what, drawn)])
            listed.update(entries)
    if listed:
        maps = _maps(open_coco(root), sorted(listed), len(COCO_CLASSES), COCO_SOURCE, every)
        yield sum_up("photos and maps", list(maps))


def check_lvis(root: Path, every: bool) -> Iterator[Finding]:
    """Read the annotations of both splits, look for all photos and open some.

    Args:
        root: folder that holds LVIS.
        every: open all photos, not `SAMPLE` of each split.
    """
    folder = root / "LVIS"
    if not folder.is_dir():
        yield no_folder(folder, LVIS_SOURCE)
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
            yield Finding("wrong", split, f"{error}; get it anew from {LVIS_SOURCE}")
            continue
        counts = f"{len(lvis.images):,} photos, {len(lvis.pairs):,} masks"
        known = beside_published(
            [len(lvis.names)],
            [_LVIS_CATEGORIES],
            "{:,} categories",
            (folder / MANIFEST).is_file(),
        )
        yield sum_up(split, [("ok", counts), known, *_lvis_photos(lvis, every)])
    for part in missing:
        yield Finding("missing", part, f"get it from {LVIS_SOURCE}")


def _lvis_photos(lvis: LVIS, every: bool) -> Iterator[tuple[State, str]]:
    """Whether the photos are there, and some of them readable and of the size annotated."""
    absent = [image for image in lvis.images if not lvis.photo_file(image).is_file()]
    if absent:
        says = f"{len(absent):,} photos are missing ({lvis.photo_file(absent[0])})"
        yield "wrong", f"{says}: get them from {LVIS_SOURCE}"
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


def _drawn(root: Path, part: str) -> bool:
    """Whether a folder is the toy world's."""
    return (root / part / MANIFEST).is_file()


def _maps(
    photos: LabelledPhotos, names: Sequence[str], classes: int, source: str, every: bool
) -> Iterator[tuple[State, str]]:
    """Whether photos and label maps of a list are there, and what some of the maps hold."""
    whole = set(names)
    for kind, place in (("photos", photos.photo_file), ("label maps", photos.label_file)):
        absent = [name for name in names if not place(name).is_file()]
        whole.difference_update(absent)
        if absent:
            says = f"{len(absent):,} of {len(names):,} {kind} are missing ({place(absent[0]).name})"
            yield "wrong", f"{says}: get them from {source}"
    present = sorted(whole)
    opened, problems = spread(present, every), defaultdict[str, list[Path]](list)
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
        yield "ok", f"{read_of(opened, present)} label maps read"
    for problem, files in problems.items():
        hint = _INDICES if problem.startswith((_MODE, _LABELS)) else ""
        yield "wrong", f"{len(files):,} of them: {problem}, {files[0].name} the first{hint}"


def _problems(photos: LabelledPhotos, name: str, classes: int) -> Iterator[tuple[str, Path]]:
    """What is wrong with a label map or its photo, and which file that is; at most one thing."""
    file, photo = photos.label_file(name), photos.photo_file(name)
    try:
        labels = photos.labels_alone(name)
    except UnreadableImageError as error:
        yield str(error).removeprefix(f"{file}: "), file
        return
    size = image_size(photo)
    if size and size != labels.shape:
        yield "another size than the photo's", file
    elif ((labels > classes) & (labels != IGNORED)).any():
        yield f"{_LABELS} above {classes}", file
    elif size is None:
        yield "a photo that is no image", photo
