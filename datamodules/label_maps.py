"""Photos with label maps as training and validation data."""

import glob
import logging
import os
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from clipseg_pl.sample import Sample
from datamodules.base import BaseDataModule, Split
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.label_maps import (
    LabelClasses,
    LabelFiles,
    LabelMapDataset,
    LabelMaps,
    LabelMapTasks,
    Values,
    find_label_maps,
    read_names,
)
from datamodules.datasets.prompted import PromptedDataset, Prompting

log = logging.getLogger(__name__)

_DEFAULT_PROMPTING = Prompting()
_NAMED = 10  # names in a warning


class LabelMapsDataModule(BaseDataModule):
    """Photos, label maps and class names; see docs/label_maps.md.

    Validation prompts for every class of every photo, and evaluates the label map at the size of
    its file with `SemanticProtocol`. In training, every class in every label map gives one sample
    per epoch, prompted like PhraseCut+; negatives are classes that the label map does not have.

    Args:
        root: folder that all paths are relative to, or "toy" for the built-in toy world.
        image_size: side of the square samples in pixels, a multiple of the backbone's patch size.
        batch_size: query images per step and device.
        num_workers: data worker processes; 0 loads the samples in the main process.
        seed: seed for shuffling and for all random choices in a sample.
        prompting: settings for training; validation uses only `evaluation_form`, the template of
            the prompts ("a photo of a {}.").
        images: folder of the photos. `{split}` is replaced by the name of the split, in all paths.
        labels: folder of the label maps, PNG files with one channel and the same names and
            subfolders as the photos; or Pascal Context's trainval_merged.json.
        photo_list: text file with a name per line, without suffix. By default, all photos with a
            label map are used.
        image_suffix: end of the file name of a photo, after the part that its label map shares; ""
            for the ending of any image format.
        label_suffix: the same for label maps.
        classes: value in the label maps -> name or list of names of the class. A class with
            several names has the probability of its most probable name. Also the name of a
            published dataset (voc_20, pascal_context_59, ade20k_150, coco_stuff_171,
            cityscapes_19), or of a YAML or JSON file with such a mapping.
        ignore: values of pixels to ignore; "unnamed" for all values that are listed nowhere else.
        background: values of the background, if it is evaluated as a class; or "unnamed".
        background_prompt: prompt for the background. By default it has none, and consists of the
            pixels whose probability is at or below `SemanticProtocol.background_threshold` for
            every prompt.
        train_split: name of the training split.
        val_split: name of the split for `validate` and `test`.
        phrases_per_image: maximum number of classes of a photo per training sample; the photo is
            encoded once for all of them.
        without_photos_of: names of benchmarks on COCO photos, whose evaluated photos are left out
            of training; see docs/evaluate.md (photos seen in training).
    """

    def __init__(
        self,
        root: str = "data",
        image_size: int = 352,
        batch_size: int = 64,
        num_workers: int = 4,
        seed: int = 0,
        prompting: Prompting = _DEFAULT_PROMPTING,
        images: str = "own/images/{split}",
        labels: str = "own/labels/{split}",
        photo_list: str | None = None,
        image_suffix: str = "",
        label_suffix: str = ".png",
        classes: dict[int, Any] | str = "own/classes.yaml",
        ignore: Values = [255],  # noqa: B006 - not changed
        background: Values | None = None,
        background_prompt: str | None = None,
        train_split: str = "train",
        val_split: str = "val",
        phrases_per_image: int = 1,
        without_photos_of: list[str] | None = None,
    ) -> None:
        """Store the settings.

        Raises:
            ValueError: if a number is below its minimum, or `label_suffix` is empty.
        """
        super().__init__(
            root, image_size, batch_size, num_workers, seed, without_photos_of, phrases_per_image
        )
        if not label_suffix:
            raise ValueError("label_suffix must not be empty: set it to the ending, such as .png")
        self.prompting = prompting
        self.images, self.labels, self.photo_list = images, labels, photo_list
        self.image_suffix, self.label_suffix = image_suffix, label_suffix
        self.class_names = classes
        self.ignore, self.background, self.background_prompt = ignore, background, background_prompt
        self.train_split, self.val_split = train_split, val_split
        self._maps: dict[str, LabelMaps] = {}
        self.no_predict = (
            "predict writes a mask per phrase, not label maps: use "
            "`python -m clipseg_pl segment` with --argmax"
        )

    def build(self, split: Split) -> Dataset[Sample]:
        """Build the samples of a split."""
        maps = self.label_maps(self.split_name(split))
        self.classes = maps.classes.info
        if split != "train":
            form = self.prompting.evaluation_form
            return LabelMapDataset(maps, form, self.image_size)
        return PromptedDataset(
            self.leave_out_photos(LabelMapTasks(maps)),
            self.prompting,
            self.image_size,
            train=True,
            seed=self.seed,
            phrases_per_image=self.phrases_per_image,
            absent_negatives=True,
        )

    def label_maps(self, name: str) -> LabelMaps:
        """Find and check the label maps of a split by its name on disk.

        Raises:
            DatasetNotFoundError: if files are missing; the message lists the splits that exist.
            ValueError: see `LabelMaps` and `LabelClasses`.
        """
        if name not in self._maps:
            names = read_names(self.class_names, self.root)
            classes = LabelClasses(names, self.ignore, self.background, self.background_prompt)
            maps = LabelMaps(self._files(name), classes)
            self.listed[name] = f"{maps.files.labels} has {len(maps)} label maps"
            self.skipped[name] = dict(maps.skipped)
            if maps.absent:
                more = "" if len(maps.absent) <= _NAMED else ", ..."
                log.warning(
                    "%s: %d of %d classes are in no label map: %s%s",
                    maps.files.labels,
                    len(maps.absent),
                    len(classes.info.names),
                    ", ".join(maps.absent[:_NAMED]),
                    more,
                )
            self._maps[name] = maps
        return self._maps[name]

    def _files(self, name: str) -> LabelFiles:
        images, labels, listed = (
            self.root / Path(path.replace("{split}", name)).expanduser()
            for path in (self.images, self.labels, self.photo_list or "")
        )
        try:
            return find_label_maps(
                images,
                labels,
                listed if self.photo_list else None,
                self.image_suffix,
                self.label_suffix,
                name,
            )
        except DatasetNotFoundError as error:
            splits = self._existing_splits()
            found = f"; splits in {self.root}: {', '.join(splits)}" if splits else ""
            raise DatasetNotFoundError(
                f"the {name} split: {error}{found}; set --data.init_args.root to the folder of the "
                "data, or correct images, labels or the name of the split (docs/label_maps.md)"
            ) from error

    def _existing_splits(self) -> list[str]:
        """Return the names of the splits that have label maps, from the paths on disk."""
        before, placeholder, after = (self.photo_list or self.labels).partition("{split}")
        if not placeholder:
            return []
        start = os.path.join(self.root, before)
        paths = glob.glob(f"{glob.escape(start)}*{after}")
        return sorted(path.removeprefix(start).removesuffix(after) for path in paths)

    def split_name(self, split: Split) -> str:
        """Return the name of the training split or of the split for evaluation."""
        return self.train_split if split == "train" else self.val_split
