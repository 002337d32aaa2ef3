"""PhraseCut (Wu et al., CVPR 2020): photos, phrases and the masks they mean."""

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import RGB, UnreadableImageError, read_image
from clipseg_pl.prompts.exif import exif_note
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.files import require
from datamodules.datasets.phrasecut_build import build_index
from datamodules.datasets.phrasecut_index import PhraseCutIndex, Strings, describe_skipped
from datamodules.datasets.phrasecut_photos import SOURCE
from datamodules.datasets.transforms import Rasterizer, rasterise

log = logging.getLogger(__name__)

FOLDER = "VGPhraseCut_v0"


class PhraseCut:
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
        self.index = PhraseCutIndex(index)
        if self.index.skipped:
            reasons = describe_skipped(self.index.skipped)
            log.warning("%s: skipped %s; listed in %s", tasks, reasons, index / "skipped.json")
        self.rasterizer = rasterizer

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.index)

    @property
    def phrases(self) -> Strings:
        """The different phrases of the split."""
        return self.index.phrases

    def name(self, task: int) -> str:
        """PhraseCut's task id."""
        return self.index.task_id[task]

    def phrase(self, task: int) -> int:
        """Position of the task's phrase in `phrases`."""
        return int(self.index.task_phrase[task])

    def image(self, task: int) -> RGB:
        """The photo, (H, W, 3) uint8.

        Raises:
            UnreadableImageError: naming the file, also if it has changed since it was indexed.
        """
        row = self.index.task_image[task]
        file = self.images / f"{self.index.image_id[row]}.jpg"
        image = read_image(file)
        found, size = image.shape[:2], tuple(self.index.image_size[row].tolist())
        if found != size:
            note = exif_note(found, size, file)
            raise UnreadableImageError(f"{file}: is {found}, annotated as {size}{note}")
        return image

    def mask(self, task: int) -> Mask:
        """The target, (H, W) bool: the union of the task's polygons."""
        height, width = self.index.image_size[self.index.task_image[task]].tolist()
        return rasterise(self.index.polygons(task), height, width, self.rasterizer)

    def tasks_of_phrase(self, phrase: int) -> npt.NDArray[np.int64]:
        """Tasks with exactly this phrase."""
        return self.index.tasks_of_phrase(phrase)

    def tasks_of_image(self, task: int) -> npt.NDArray[np.int64]:
        """Tasks about the task's photo, itself among them."""
        return self.index.tasks_of_image(self.index.task_image[task])

    def possible_phrases(self, task: int) -> npt.NDArray[np.int64]:
        """Positions of all phrases annotated on the task's photo."""
        return self.index.task_phrase[self.tasks_of_image(task)]


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
