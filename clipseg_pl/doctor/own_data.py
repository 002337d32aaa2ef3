"""Describe own data before training: counts, sizes of objects, copies, and a contact sheet."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from clipseg_pl.atomic import write_whole
from clipseg_pl.doctor.findings import (
    Finding,
    State,
    combine,
    explain,
    show_status,
    subsample,
)
from clipseg_pl.images import RGB
from clipseg_pl.inference.overlay import fit_text, tint
from datamodules.base import Split
from datamodules.datasets.annotations import reasons
from datamodules.datasets.image_folder import ImageFolder, find_copies, source_photo
from datamodules.datasets.prompted import PromptedDataset
from datamodules.datasets.transforms import PairedResize
from datamodules.image_folder import MOST_CLASSES, ImageFolderDataModule

Mask = npt.NDArray[np.bool_]
Sources = Mapping[Split, ImageFolder]

_PATCH = 16
"""side of a patch in pixels; that of the paper's backbone"""
_FEW = 10
"""a class with fewer training photos gets a note"""
_MANY_THIN = 0.25
"""a class with at least this share of masks thinner than a patch gets a note"""
_MOST_COPIES = 10
"""maximum number of pairs of copies to list"""
_COLUMNS, _ROWS = 6, 4
_SIDE, _CAPTION, _GAP = 240, 24, 8
"""contact sheet: longer side of a photo, height of its caption, and gap between cells, in pixels"""


class Cell(NamedTuple):
    """A photo of the contact sheet."""

    photo: RGB
    """(H, W, 3) uint8"""
    mask: Mask
    """(H, W) bool"""
    position: int
    """position of the class, which gives the colour of its masks"""
    caption: str


def check_own_data(data: ImageFolderDataModule, sheet: Path, every: bool) -> Iterator[Finding]:
    """Describe each split and class, and write a contact sheet.

    Args:
        data: the data, before `setup`.
        sheet: JPEG file to write.
        every: whether to measure all masks instead of `SAMPLE` of each class and split.
    """
    data.accept_copies = True  # all of them are listed below
    problems = dict[str, str]()
    for stage in ("fit", "test"):
        try:
            with show_status("reading photos and masks"):
                data.setup(stage)
        except (OSError, ValueError) as error:
            problems.setdefault(explain(error), stage)
    for message, stage in problems.items():
        yield Finding("wrong", stage, message)
    if "train" not in data.datasets:
        return
    sources = dict[Split, ImageFolder]()
    for split, dataset in data.datasets.items():
        assert isinstance(dataset, PromptedDataset) and isinstance(dataset.source, ImageFolder)
        sources[split] = dataset.source
    files = {split: source.files() for split, source in sources.items()}
    shared = "test" in files and files["test"] == files.get("val")
    if shared:  # no test data is given
        del sources["test"], files["test"]
    yield from _describe_splits(data, sources)
    if shared:
        yield Finding("ok", "test", "no test data is given: `test` uses the photos of val")
    classes = _classes(sources)
    listed = classes if len(classes) <= MOST_CLASSES else {}
    if not listed:
        message = f"{len(classes):,} phrases; only up to {MOST_CLASSES} are listed"
        yield Finding("ok", "classes", message)
    yield from _describe_classes(sources, listed)
    with show_status("measuring masks"):
        yield from _describe_sizes(sources, listed, data.image_size, every)
    yield from _describe_copies(files)
    cells = list(choose_cells(sources, list(classes), _COLUMNS * _ROWS))
    picture = draw_contact_sheet(cells)
    sheet.parent.mkdir(parents=True, exist_ok=True)
    write_whole(sheet, lambda stream: picture.save(stream, "JPEG", quality=90))
    yield Finding("ok", "contact sheet", f"{len(cells)} photos with their masks: {sheet}")


def _describe_splits(data: ImageFolderDataModule, sources: Sources) -> Iterator[Finding]:
    """Report the photos of each split, and the annotations that are skipped."""
    summary = data.summary()
    for split in sources:
        counts = summary[split]
        parts: list[tuple[State, str]] = [
            ("ok", f"{counts['photos']:,} photos"),
            ("ok", f"{counts['without annotations']:,} of them without annotations"),
        ]
        if counts["filled from boxes"]:
            filled = f"{counts['filled from boxes']:,} annotations filled from boxes"
            parts.append(("note", f"{filled}: these masks are approximations"))
        yield combine(split, parts)
    for name, skipped in data.skipped.items():
        yield Finding("note", "skipped", f"{name}: {reasons(skipped)}")


def _classes(sources: Sources) -> dict[str, Sequence[str]]:
    """Return the first phrase of each class of any split, and all of its phrases."""
    return {
        source.phrases[index]: source.phrasings(index)
        for source in sources.values()
        for index in range(len(source.phrases))
    }


def _describe_classes(sources: Sources, classes: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Report how many photos show a class and how many are known not to, and its phrases."""
    counts = {split: _count_photos(source) for split, source in sources.items()}
    none = _Photos(0, 0, 0)
    for name, phrases in classes.items():
        of_splits = {split: counts[split].get(name, none) for split in sources}
        listing = "; ".join(
            f"{split}: {found.shown:,} photos, {found.absent:,} negatives"
            for split, found in of_splits.items()
        )
        parts: list[tuple[State, str]] = [("ok", listing)]
        trained = of_splits["train"]
        if trained.shown < _FEW:
            parts.append(("note", f"few training photos: add more, to at least {_FEW}"))
        if trained.shown and not trained.absent:
            advice = "no negatives in training: add photos without this class"
            if trained.unknown:
                advice += (
                    ", or set negatives_across_tables: true if photos of other tables do not show "
                    "it"
                )
            parts.append(("note", advice))
        if len(phrases) > 1:
            parts.append(("ok", f"phrases: {', '.join(phrases)}"))
        yield combine(name, parts)


class _Photos(NamedTuple):
    """Number of photos of a split, by whether they show a class."""

    shown: int
    absent: int
    """photos known not to show it"""
    unknown: int


def _count_photos(source: ImageFolder) -> dict[str, _Photos]:
    """Count the photos of each class."""
    shown, possible = np.zeros((2, len(source.phrases)), np.int64)
    photos = 0
    for task in range(len(source)):
        about = source.tasks_of_image(task)
        if about[0] == task:  # each photo once
            photos += 1
            shown[list({source.phrase(int(other)) for other in about} - {-1})] += 1
            possible[np.unique(source.possible_phrases(task))] += 1
    return {
        source.phrases[index]: _Photos(here, photos - maybe, maybe - here)
        for index, (here, maybe) in enumerate(zip(shown.tolist(), possible.tolist(), strict=True))
    }


def _describe_sizes(
    sources: Sources, classes: Mapping[str, Sequence[str]], image_size: int, every: bool
) -> Iterator[Finding]:
    """Report the thickness and the area of masks at the model's resolution.

    The masks of each class are measured together, and so are those of all phrases that are not in
    `classes`.
    """
    tasks_of = defaultdict[str, defaultdict[Split, list[int]]](lambda: defaultdict(list))
    for split, source in sources.items():
        for index in range(len(source.phrases)):
            name = source.phrases[index] if source.phrases[index] in classes else ""
            tasks_of[name][split] += source.tasks_of_phrase(index).tolist()
    resize = PairedResize(image_size)
    for name, by_split in tasks_of.items():
        widths, areas, total = list[float](), list[float](), 0
        for split, tasks in by_split.items():
            total += len(tasks)
            for task in subsample(tasks, every):
                mask = resize.mask(sources[split].mask(task))
                widths.append(thickness(mask))
                areas.append(float(mask.mean()))
        if not widths:
            continue
        thin = float(np.mean(np.less(widths, _PATCH)))
        counted = f"{len(widths):,}" if len(widths) == total else f"{len(widths):,} of {total:,}"
        message = (
            f"{100 * thin:.0f} % of {name or 'all'} masks are thinner than one patch ({_PATCH} px) "
            f"at {image_size} px (image_size of the overlay, or its default); median thickness "
            f"{np.median(widths):.0f} px, median area {100 * np.median(areas):.1f} % ({counted} "
            "masks)"
        )
        many = thin >= _MANY_THIN
        if many:
            message += "; a larger image_size makes them thicker"
        yield Finding("note" if many else "ok", "size", message)


def thickness(mask: Mask) -> float:
    """Return the thickness of the thickest part of a mask.

    It is twice the maximum of the distance transform, which is the Euclidean distance of each pixel
    of the mask to the next pixel outside. Pixels beyond the edge of the image count as outside.

    Args:
        mask: (H, W) bool.

    Returns:
        Pixels; 0 if the mask is empty. A bar of 7 or 8 pixels has the thickness 8.
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    return 2 * float(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max())


def _describe_copies(files: Mapping[Split, Sequence[str]]) -> Iterator[Finding]:
    """Report photos with the same contents in two splits."""
    found = False
    for first, second in combinations(files, 2):
        copies = find_copies(files[first], files[second])
        # a table without a test split is tested on its validation photos
        state: State = "wrong" if first == "train" else "note"
        for one, other in copies[:_MOST_COPIES]:
            yield Finding(state, "copies", f"{one} and {other} are the same photo")
        if copies:
            found = True
            message = f"{len(copies):,} photos of {second} are also in {first}"
            yield Finding(state, "copies", f"{message}: remove one of each pair")
        sources = (set(map(_source, files[split])) - {None} for split in (first, second))
        if versions := len(set.intersection(*sources)):
            message = f"photos with augmented versions in both {first} and {second}: {versions:,}"
            yield Finding("note", "versions", f"{message} (by Roboflow's file names)")
    if not found and len(files) > 1:
        yield Finding("ok", "copies", f"no photo is in two of the splits {', '.join(files)}")


def _source(file: str) -> tuple[str, ...] | None:
    """Return the path of the photo without its split; None if Roboflow did not name it."""
    path = source_photo(file)
    splits = ("train", "valid", "val", "test")
    return None if path == file else tuple(p for p in Path(path).parts if p not in splits)


def choose_cells(sources: Sources, classes: Sequence[str], count: int) -> Iterator[Cell]:
    """Choose photos spread over splits and classes, and photos without annotations.

    Args:
        sources: tasks of each split.
        classes: first phrase of each class.
        count: maximum number of photos.

    Yields:
        Photos in the order of the splits and of their classes. Ignored pixels are white.
    """
    groups: list[tuple[Split, str, list[int]]] = []
    for split, source in sources.items():
        for index in range(len(source.phrases)):
            tasks = source.tasks_of_phrase(index).tolist()
            groups.append((split, source.phrases[index], tasks))
        groups.append((split, "", source.without_annotations().tolist()))
    groups = [group for group in groups if group[2]]
    if len(groups) > count:
        chosen = np.linspace(0, len(groups) - 1, count).round().astype(int)
        groups = [groups[index] for index in chosen]
    share = Counter[int]()
    while sum(share.values()) < count:
        growing = [number for number, group in enumerate(groups) if share[number] < len(group[2])]
        if not growing:
            break
        share.update(growing[: count - sum(share.values())])
    for number, (split, phrase, tasks) in enumerate(groups):
        for index in np.linspace(0, len(tasks) - 1, share[number]).round().astype(int):
            source, task = sources[split], tasks[index]
            position = classes.index(phrase) if phrase else 0
            photo, valid = source.image(task), source.valid(task)
            if valid is not None:
                photo = np.where(valid[..., None], photo, 255)
            caption = f"{split}: {phrase or 'without annotations'}"
            yield Cell(photo, source.mask(task), position, caption)


def draw_contact_sheet(cells: Sequence[Cell]) -> Image.Image:
    """Draw photos with their masks in rows of six, each above its caption."""
    rows = -(-len(cells) // _COLUMNS)
    width, height = _SIDE + _GAP, _SIDE + _CAPTION + _GAP
    sheet = Image.new("RGB", (_COLUMNS * width + _GAP, rows * height + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_CAPTION * 0.6)
    for number, cell in enumerate(cells):
        left, top = _GAP + number % _COLUMNS * width, _GAP + number // _COLUMNS * height
        picture = Image.fromarray(tint(cell.photo, cell.mask, cell.position))
        picture.thumbnail((_SIDE, _SIDE))
        sheet.paste(picture, (left, top))
        text = fit_text(cell.caption, "", _SIDE, font)
        draw.text((left, top + picture.height + 2), text, fill="black", font=font)
    return sheet
