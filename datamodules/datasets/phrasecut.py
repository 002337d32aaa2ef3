"""PhraseCut (Wu et al., CVPR 2020): photos, phrases and the masks they mean."""

import json
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import RGB, UnreadableImageError, read_image
from clipseg_pl.prompts.masks import exif_note
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.files import require
from datamodules.datasets.phrase_table import PhraseTable, Strings
from datamodules.datasets.phrasecut_build import SOURCE, build_index, describe_skipped
from datamodules.datasets.transforms import Points, Rasterizer, rasterise

log = logging.getLogger(__name__)

FOLDER = "VGPhraseCut_v0"


class PhraseCut(PhraseTable):
    """Tasks of one split, in the file's order: one phrase about one photo.

    Dataset layout, below `root`::

        VGPhraseCut_v0/images/<image id>.jpg
        VGPhraseCut_v0/image_data_split.json      (or image_data_split3000.json, its older name)
        VGPhraseCut_v0/refer_<split>.json

    The first use of a split reads its json into an index (see `phrasecut_build`); the 17 images
    whose annotated size is known to be wrong are left out.

    Args:
        root: folder that holds VGPhraseCut_v0.
        split: train, val, miniv or test.
        rasterizer: how polygons become masks, see `rasterise`.

    Raises:
        DatasetNotFoundError: if a part of it is missing.
        ValueError: if a json is malformed as a whole.
    """

    def __init__(self, root: Path, split: str, rasterizer: Rasterizer = "coco") -> None:
        """Find the files, build the index if need be, map it."""
        tasks, table, self.images = find_files(root, split)
        index = build_index(tasks, table, self.images)
        try:
            self.index = PhraseCutIndex(index)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{index}: damaged ({error}): delete it") from error
        if self.index.skipped:
            reasons = describe_skipped(self.index.skipped)
            log.warning("%s: skipped %s; listed in %s", tasks, reasons, index / "skipped.json")
        self.rasterizer = rasterizer
        super().__init__(self.index.phrases, self.index.task_phrase, self.index.task_image)

    def read_name(self, row: int) -> str:
        """PhraseCut's task id."""
        return self.index.task_id[row]

    def read_image(self, row: int) -> RGB:
        """The photo, (H, W, 3) uint8.

        Raises:
            UnreadableImageError: naming the file, also if it has changed since it was indexed.
        """
        photo = self.index.task_image[row]
        file = self.images / f"{self.index.image_id[photo]}.jpg"
        image = read_image(file)
        found, size = image.shape[:2], tuple(self.index.image_size[photo].tolist())
        if found != size:
            note = exif_note(found, size, file)
            raise UnreadableImageError(f"{file}: is {found}, annotated as {size}{note}")
        return image

    def read_mask(self, row: int) -> Mask:
        """The target, (H, W) bool: the union of the task's polygons."""
        height, width = self.index.image_size[self.index.task_image[row]].tolist()
        return rasterise(self.index.polygons(row), height, width, self.rasterizer)


class PhraseCutIndex:
    """The annotations of one split as flat arrays, which workers and ranks share.

    `refer_train.json` is 340 MB of text; as Python objects it would fill gigabytes in every worker.
    It is read once (`build_index`) into arrays that are mapped into memory.

    Args:
        folder: what `build_index` returned.
    """

    def __init__(self, folder: Path) -> None:
        """Map the arrays; nothing is read yet."""
        self.folder = folder

        def load(name: str) -> npt.NDArray[Any]:
            array: npt.NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r")
            return array

        self.image_id, self.image_size = load("image_id"), load("image_size")
        self.task_image, self.task_phrase = load("task_image"), load("task_phrase")
        self.phrases = Strings(load("phrases"), load("phrases_offsets"))
        self.task_id = Strings(load("task_id"), load("task_id_offsets"))
        self._points, self._point_offsets = load("points"), load("point_offsets")
        self._polygon_offsets = load("polygon_offsets")
        self.skipped: dict[str, list[str]] = json.loads((folder / "skipped.json").read_text())

    def __reduce__(self) -> tuple[type["PhraseCutIndex"], tuple[Path]]:
        """Let spawned workers map the files anew: pickled, the arrays would be copied."""
        return PhraseCutIndex, (self.folder,)

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.task_image)

    def polygons(self, task: int) -> list[Points]:
        """The polygons of a task, all instances together."""
        first, last = self._polygon_offsets[task : task + 2]
        offsets = self._point_offsets[first : last + 1]
        return [self._points[a:b] for a, b in pairwise(offsets)]


def find_files(root: Path, split: str) -> tuple[Path, Path, Path]:
    """The tasks of a split, the image table and the folder of photos, see `PhraseCut`.

    Raises:
        DatasetNotFoundError: if one of them is missing.
    """
    folder = root / FOLDER
    images, tasks = folder / "images", folder / f"refer_{split}.json"
    tables = [folder / f"image_data_split{suffix}.json" for suffix in ("", "3000")]
    table = next((file for file in tables if file.is_file()), tables[0])
    photos = images.is_dir() and any(images.iterdir())
    files = {"photos in images/": photos, table.name: table.is_file()}
    require("PhraseCut", folder, {**files, tasks.name: tasks.is_file()}, SOURCE)
    return tasks, table, images
