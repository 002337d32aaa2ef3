"""PhraseCut (Wu et al., CVPR 2020): photos with phrases and masks."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import read_annotated
from datamodules.datasets.files import require
from datamodules.datasets.phrase_table import PhraseTable, Strings
from datamodules.datasets.phrasecut_build import SOURCE, build_index, describe_skipped
from datamodules.datasets.transforms import Polygons, Rasterizer, rasterise

log = logging.getLogger(__name__)

FOLDER = "VGPhraseCut_v0"


class PhraseCut(PhraseTable):
    """Tasks (one phrase about one photo each) of a PhraseCut split, in the order of its file.

    Expected layout below `root`::

        VGPhraseCut_v0/images/<image id>.jpg
        VGPhraseCut_v0/image_data_split.json      (or the older image_data_split3000.json)
        VGPhraseCut_v0/refer_<split>.json

    The first use of a split converts its JSON to an index, see `phrasecut_build`. The 17 images
    that the authors of PhraseCut list as having wrong annotated sizes are skipped.

    Args:
        root: folder that contains VGPhraseCut_v0.
        split: train, val, miniv or test.
        rasterizer: method to convert polygons to masks, see `rasterise`.

    Raises:
        DatasetNotFoundError: if a part of the dataset is missing.
        ValueError: if a JSON file is not valid or contains no usable task.
    """

    def __init__(self, root: Path, split: str, rasterizer: Rasterizer = "coco") -> None:
        """Find the files, build the index if it is missing, and map it into memory."""
        tasks, table, self.images = find_files(root, split)
        index = build_index(tasks, table, self.images)
        try:
            self.index = PhraseCutIndex(index)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{index}: damaged index ({error}); delete it") from error
        if self.index.skipped:
            reasons = describe_skipped(self.index.skipped)
            listing = index / "skipped.json"
            log.warning("%s: skipped tasks: %s; their ids are in %s", tasks, reasons, listing)
        self.rasterizer = rasterizer
        photo = self.index.task_image
        coco_ids = self.index.coco_id[photo]
        super().__init__(self.index.phrases, self.index.task_phrase, photo, coco_ids)

    def read_name(self, row: int) -> str:
        """Return PhraseCut's task id."""
        return self.index.task_id[row]

    def read_image(self, row: int) -> RGB:
        """Read the photo of a row, (H, W, 3) uint8.

        Raises:
            UnreadableImageError: if the file is unreadable or not of the annotated size.
        """
        photo = self.index.task_image[row]
        file = self.images / f"{self.index.image_id[photo]}.jpg"
        height, width = self.index.image_size[photo].tolist()
        return read_annotated(file, (height, width))

    def read_mask(self, row: int) -> Mask:
        """Return the target of a row, (H, W) bool: the union of its polygons."""
        height, width = self.index.image_size[self.index.task_image[row]].tolist()
        return rasterise(self.index.polygons(row), height, width, self.rasterizer)


class PhraseCutIndex:
    """Annotations of one split as memory-mapped arrays, which data workers and ranks share.

    `refer_train.json` has 340 MB. As Python objects, it would need gigabytes in every data worker.

    Args:
        folder: folder returned by `build_index`.
    """

    def __init__(self, folder: Path) -> None:
        """Map the arrays without reading them."""
        self.folder = folder

        def load(name: str) -> npt.NDArray[Any]:
            array: npt.NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r")
            return array

        self.image_id, self.image_size = load("image_id"), load("image_size")
        self.coco_id = load("coco_id")
        self.task_image, self.task_phrase = load("task_image"), load("task_phrase")
        self.phrases = Strings(load("phrases"), load("phrases_offsets"))
        self.task_id = Strings(load("task_id"), load("task_id_offsets"))
        self.polygons = Polygons(load("points"), load("point_offsets"), load("polygon_offsets"))
        self.skipped: dict[str, list[str]] = json.loads((folder / "skipped.json").read_text())

    def __reduce__(self) -> tuple[type["PhraseCutIndex"], tuple[Path]]:
        """Pickle only the folder, so that spawned workers map the files again."""
        return PhraseCutIndex, (self.folder,)

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self.task_image)


def find_files(root: Path, split: str) -> tuple[Path, Path, Path]:
    """Return the task file of a split, the image table and the photo folder; see `PhraseCut`.

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
