"""RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO and RefCOCO-M: sentences about objects in COCO's photos."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from clipseg_pl.images import RGB, to_tensor
from clipseg_pl.prompts.visual import Mask
from clipseg_pl.sample import Prompt, Sample
from datamodules.datasets.annotations import (
    NO_PHRASE,
    Positions,
    read_annotated,
    reasons,
    reject_missing,
    reject_unusable,
)
from datamodules.datasets.coco_masks import RunLengths
from datamodules.datasets.coco_photos import coco_ids
from datamodules.datasets.phrase_table import PhraseTable, Rows, Strings, unique_names
from datamodules.datasets.refcoco_files import NO_CATEGORY, Name, Target, find_files, read_targets
from datamodules.datasets.transforms import PairedResize

log = logging.getLogger(__name__)

MaskSize = Literal["photo", "model"]


class RefCOCO(PhraseTable):
    """Tasks of a dataset of referring expressions: one sentence about one photo each.

    Expected layout below `root`, as the published archives unpack::

        refcoco/refs(unc).p, refs(google).p, instances.json
        refcoco+/refs(unc).p, instances.json
        refcocog/refs(umd).p, refs(google).p, instances.json
        grefcoco/grefs(unc).json, instances.json
        refcoco-m/*.parquet     (or *.jsonl: the same rows in JSON Lines, without pyarrow)
        COCO2014/train2014/COCO_train2014_000000581857.jpg ...
        images/mscoco/images/train2014/     (if COCO2014/train2014 does not exist)

    The photo of a ref is looked up in `instances.json`; the `file_name` of a ref is not the name of
    the photo's file. A ref is skipped, with a warning, if its annotation or the entry of its photo
    is missing, or if its mask is empty. In gRefCOCO, crowds are left out of the masks, and refs
    about crowds alone are skipped.

    Args:
        root: folder that contains the datasets.
        dataset: name of the dataset.
        split: split to read; None reads all splits.
        split_by: partition into splits, see `PARTITIONS`; None is the most used one.

    Raises:
        DatasetNotFoundError: if a file or a photo of the split is missing.
        ValueError: if the partition or the split does not exist, a file is malformed, no sentence
            is usable, or a Parquet file needs pyarrow, which is not installed.
    """

    def __init__(
        self, root: Path, dataset: Name, split: str | None, split_by: str | None = None
    ) -> None:
        """Read the annotations; photos are read on access."""
        self.file, self.photos = find_files(root, dataset, split_by)
        targets, self.splits, skipped = read_targets(self.file, dataset, split)
        """split -> number of its sentences in the file"""
        skipped[NO_PHRASE] = sum(not text for target in targets for _, text in target.ref.sentences)
        rows = [
            (number, name, text)
            for number, target in enumerate(targets)
            for name, text in target.ref.sentences
            if text
        ]
        self.skipped = reject_unusable(self.file, len(rows), skipped)
        """reason -> number of skipped sentences"""
        if self.skipped:
            log.warning("%s: skipped sentences %s", self.file, reasons(self.skipped))
        self.objects = len({number for target in targets for number in target.ref.annotations})
        """number of different annotations that the sentences are about"""
        self._pack(targets, rows)
        names = [self._names_of_photos[photo] for photo in range(len(self._names_of_photos))]
        absent = [name for name in names if not (self.photos / name).is_file()]
        reject_missing(self.file, self.photos, "photos", absent, len(names))

    def _pack(self, targets: Sequence[Target], rows: Sequence[tuple[int, str, str]]) -> None:
        """Store the annotations as flat arrays, which forked data workers share."""
        numbers, names, texts = zip(*rows, strict=True)
        phrase_of, photo_of = Positions(), Positions()
        photos = [photo_of[target.photo.name] for target in targets]
        sizes = np.array([target.photo[1:] for target in targets], np.int32)
        self._names_of_photos = Strings.pack(list(photo_of))
        self._masks = RunLengths.pack([target.mask["counts"] for target in targets], sizes)
        self._target = np.array(numbers, np.int64)
        self._category = np.array([target.ref.category for target in targets])[self._target]
        self._has_target = np.array([bool(t.ref.annotations) for t in targets])[self._target]
        self._names = Strings.pack(unique_names(names))
        phrase = np.array([phrase_of[text] for text in texts], np.int64)
        self._photo_of_row = np.array(photos, np.int64)[self._target]
        ids = coco_ids(photo_of)[self._photo_of_row]
        super().__init__(list(phrase_of), phrase, self._photo_of_row, ids)

    def read_name(self, row: int) -> str:
        """Return the ids of ref and sentence, joined by two underscores."""
        return self._names[row]

    def photo_name(self, task: int) -> str:
        """Return the file name of a task's photo, such as COCO_train2014_000000581857.jpg."""
        return self._names_of_photos[int(self._photo[task])]

    def read_image(self, row: int) -> RGB:
        """Read the photo of a row, (H, W, 3) uint8.

        Raises:
            UnreadableImageError: if the file is unreadable or not of the annotated size.
        """
        height, width = self._masks.sizes[self._target[row]].tolist()
        file = self.photos / self._names_of_photos[int(self._photo_of_row[row])]
        return read_annotated(file, (height, width))

    def read_mask(self, row: int) -> Mask:
        """Return the target of a row, (H, W) bool: the union of its annotations."""
        return self._masks(int(self._target[row]))

    def partners(self, task: int, phrase: int) -> Rows:
        """Return the tasks about objects of the same category in other photos.

        The category is that of the task. For another phrase (a negative), it is that of the first
        task with this phrase. Tasks without a target, or with targets of several categories,
        neither have nor are partners.
        """
        shown = task if phrase == self.phrase(task) else int(self.tasks_of_phrase(phrase)[0])
        category, photo = self._category[self.rows], self._photo
        if category[shown] == NO_CATEGORY:
            return np.empty(0, np.int64)
        return np.flatnonzero((category == category[shown]) & (photo != photo[task]))

    def has_target(self, task: int) -> bool:
        """Return whether the sentence of a task refers to anything in the photo."""
        return bool(self._has_target[self.rows[task]])

    def target(self, task: int) -> int:
        """Return a number that tasks share if they have the same target."""
        return int(self._target[self.rows[task]])

    def counts(self) -> dict[str, int]:
        """Return the number of photos, sentences, and sentences without a target."""
        without = int((~self._has_target[self.rows]).sum())
        return {
            "photos": len(np.unique(self._photo)),
            "sentences": len(self),
            "without a target": without,
        }

    def by_photo(self) -> list[Rows]:
        """Return the tasks of each photo that has any, in the order of their first task."""
        _, first = np.unique(self._photo, return_index=True)
        return [self.tasks_of_image(task) for task in np.sort(first).tolist()]


class RefCOCOPhotos(Dataset[Sample]):
    """Evaluation samples: a photo with all of its sentences, indexed by (epoch, photo).

    The epoch is ignored. Photos are squashed to a square, as in the authors' evaluation.

    Args:
        source: the sentences.
        image_size: side of the query images in pixels.
        evaluation_form: template of the text prompts, "{}" for the sentence.
        mask_size: "photo" for targets of the photo's own size, "model" for targets squashed to the
            size of the query image.
    """

    def __init__(
        self, source: RefCOCO, image_size: int, evaluation_form: str, mask_size: MaskSize
    ) -> None:
        """Group the sentences by photo."""
        self.source, self.photos = source, source.by_photo()
        self.evaluation_form, self.mask_size = evaluation_form, mask_size
        self.resize = PairedResize(image_size)
        self.coco_ids = coco_ids(map(self.photo_name, range(len(self.photos))))
        """(photos,) int64"""

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.photos)

    def photo_name(self, photo: int) -> str:
        """Return the file name of a photo."""
        return self.source.photo_name(int(self.photos[photo][0]))

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Load the sample of a photo."""
        tasks = self.photos[key[1]].tolist()
        photo = self.source.image(tasks[0])
        masks: dict[int, torch.Tensor] = {}
        for task in tasks:
            if self.source.target(task) not in masks:
                mask = self.source.mask(task)
                mask = mask if self.mask_size == "photo" else self.resize.mask(mask)
                masks[self.source.target(task)] = torch.from_numpy(mask)[None]
        valid = torch.ones_like(next(iter(masks.values())))
        return Sample(
            query_image=to_tensor(self.resize.image(photo)),
            query_size=(photo.shape[0], photo.shape[1]),
            prompts=[
                Prompt(
                    prompt_id=self.source.name(task),
                    query_mask=masks[self.source.target(task)],
                    valid_mask=valid,
                    phrase=(words := self.source.phrases[self.source.phrase(task)]),
                    text_prompt=self.evaluation_form.replace("{}", words),
                    supports=[],
                    mix_weight=1.0,
                    class_id=-1,
                    negative=not self.source.has_target(task),
                )
                for task in tasks
            ],
        )
