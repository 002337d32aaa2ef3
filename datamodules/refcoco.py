"""RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO and RefCOCO-M as training and validation data."""

from typing import Any, get_args

from torch.utils.data import Dataset

from clipseg_pl.sample import Sample
from datamodules.base import BaseDataModule, Split
from datamodules.datasets.prompted import PromptedDataset, Prompting
from datamodules.datasets.refcoco import MaskSize, RefCOCO, RefCOCOPhotos
from datamodules.datasets.refcoco_files import Name

_DEFAULT_PROMPTING = Prompting(negative_prob=0.0, supports=False, prefixes="plain")


class RefCOCODataModule(BaseDataModule):
    """Referring expressions about objects in COCO's photos, with their published splits.

    Training samples are whole photos, squashed to a square: in a crop, "man on the left" may be
    another man. With `prompting.supports`, they also get a visual prompt, made from an object of
    the same category in another photo.

    Evaluation samples are whole photos with all of their sentences, so each photo is encoded once.
    They have text prompts only.

    Args:
        root: folder that contains the datasets, or "toy" for the built-in toy world.
        image_size: side of the square samples in pixels, a multiple of the backbone's patch size.
        batch_size: query images per step and device.
        num_workers: data worker processes; 0 loads the samples in the main process.
        seed: seed for shuffling and for all random choices in a sample.
        prompting: settings for training; evaluation uses only `evaluation_form`.
        dataset: refcoco, refcoco+, refcocog, grefcoco or refcoco-m, which has no training split.
        split_by: partition into splits: unc (default) or google for refcoco, umd (default) or
            google for refcocog.
        val_split: split for `validate`, `test` and `predict`, and for validation during `fit`:
            val, testA or testB of unc; val or test of umd and of RefCOCO's google; val of
            RefCOCOg's google and of refcoco-m.
        mask_size: size at which masks are compared: "photo" for the photo's own size, "model" for
            `image_size`.
        phrases_per_image: maximum number of sentences about a photo per training sample; the photo
            is encoded once for all of them.
        without_photos_of: names of benchmarks on COCO photos, whose evaluated photos are left out
            of training; see docs/evaluate.md (photos seen in training). The training split of one
            dataset contains photos of other datasets' evaluation splits.
    """

    def __init__(
        self,
        root: str = "data",
        image_size: int = 352,
        batch_size: int = 64,
        num_workers: int = 4,
        seed: int = 0,
        prompting: Prompting = _DEFAULT_PROMPTING,
        dataset: Name = "refcoco",
        split_by: str | None = None,
        val_split: str = "val",
        mask_size: MaskSize = "photo",
        phrases_per_image: int = 1,
        without_photos_of: list[str] | None = None,
    ) -> None:
        """Store the settings.

        Raises:
            ValueError: if a number is below 1, or `mask_size` is unknown.
        """
        super().__init__(
            root, image_size, batch_size, num_workers, seed, without_photos_of, phrases_per_image
        )
        if mask_size not in get_args(MaskSize):
            raise ValueError(
                f"mask_size must be one of {', '.join(get_args(MaskSize))}, not {mask_size!r}"
            )
        self.prompting, self.dataset, self.split_by = prompting, dataset, split_by
        self.val_split, self.mask_size = val_split, mask_size
        self._sources: dict[str, RefCOCO] = {}

    def build(self, split: Split) -> Dataset[Sample]:
        """Build the samples of a split."""
        name = self.split_name(split)
        source = RefCOCO(self.root, self.dataset, name, self.split_by)
        self.listed[name] = f"{source.file} has {source.splits[name]} sentences"
        self.skipped[name] = source.skipped
        if split == "train":
            source = self.leave_out_photos(source)
        self._sources[name] = source
        if split == "train":
            return PromptedDataset(
                source,
                self.prompting,
                self.image_size,
                True,
                self.seed,
                self.phrases_per_image,
                crops=False,
            )
        return RefCOCOPhotos(
            source, self.image_size, self.prompting.evaluation_form, self.mask_size
        )

    def summary(self) -> dict[str, Any]:
        """Return the number of photos, sentences, and sentences without a target of each split."""
        return {name: source.counts() for name, source in self._sources.items()}

    def split_name(self, split: Split) -> str:
        """Return "train", or `val_split` for evaluation."""
        return "train" if split == "train" else self.val_split
