"""Pascal-5i as validation data."""

from typing import Literal

from torch.utils.data import Dataset

from clipseg_pl.prompts.visual import VisualPrompt
from clipseg_pl.sample import Classes, Sample
from datamodules.base import NOT_WHOLE, BaseDataModule, Split
from datamodules.datasets.episodes import hsnet_pascal_episodes
from datamodules.datasets.labelled import open_voc
from datamodules.datasets.one_shot import OneShotDataset
from datamodules.datasets.pascal_5i import (
    VOC_CLASSES,
    fold_classes,
    hsnet_list,
    pfenet_list,
    read_hsnet_list,
    read_pfenet_list,
    sample_pfenet_episodes,
)

_DEFAULT_VISUAL_PROMPT = VisualPrompt()


class Pascal5iDataModule(BaseDataModule):
    """One-shot segmentation of a fold's five classes, prompted by support image or class name.

    Args:
        root: folder that contains VOC2012 and lists, or "toy" for the built-in toy world.
        image_size: side of the query and support images in pixels, a multiple of the patch size.
        batch_size: episodes per step and device.
        num_workers: data worker processes; 0 loads the samples in the main process.
        seed: seed for sampling the class and the support images of each episode.
        fold: number of the fold, 0 to 3.
        shots: support images per episode; their embeddings are averaged.
        episodes: "pfenet" follows the paper: every validation photo with at least 2048 pixels of
            one of the classes is a query once, and masks are compared at the photo's size. "hsnet"
            uses HSNet's 1000 test episodes, squashed to squares. Seed 0 gives exactly the published
            episodes.
        visual_prompt: how support images are cropped, blurred and darkened.
        allow_seen: also evaluate checkpoints whose training did not exclude the fold's classes.

    Reference: paper, section 5.3, Tables 5 (visual prompts) and 7 (text).
    """

    def __init__(
        self,
        root: str = "data",
        image_size: int = 352,
        batch_size: int = 8,
        num_workers: int = 4,
        seed: int = 0,
        fold: int = 0,
        shots: int = 1,
        episodes: Literal["pfenet", "hsnet"] = "pfenet",
        visual_prompt: VisualPrompt = _DEFAULT_VISUAL_PROMPT,
        allow_seen: bool = False,
    ) -> None:
        """Store the settings.

        Raises:
            ValueError: if the fold does not exist, or `shots` is below 1.
        """
        super().__init__(root, image_size, batch_size, num_workers, seed)
        if shots < 1:
            raise ValueError(f"shots must be >= 1, not {shots}")
        self.class_ids = [VOC_CLASSES.index(name) for name in fold_classes(fold)]
        self.fold, self.shots, self.episodes = fold, shots, episodes
        self.visual_prompt = visual_prompt
        self.held_out = () if allow_seen else fold_classes(fold)
        self.classes = Classes(VOC_CLASSES)
        self.no_predict = "" if episodes == "hsnet" else NOT_WHOLE

    def build(self, split: Split) -> Dataset[Sample]:
        """Sample the episodes. Only evaluation is supported.

        Raises:
            ValueError: for the training split.
        """
        if split == "train":
            raise ValueError("Pascal-5i is for evaluation only: train with PhraseCutDataModule")
        photos = open_voc(self.root, augmented=True)
        if self.episodes == "hsnet":
            file, pairs = hsnet_list(self.root, self.fold), read_hsnet_list(self.root, self.fold)
            count, sampled = len(pairs), hsnet_pascal_episodes(pairs, self.shots, self.seed)
        else:
            file, names = pfenet_list(self.root), read_pfenet_list(self.root)
            count = len(names)
            sampled = sample_pfenet_episodes(names, photos, self.class_ids, self.shots, self.seed)
        self.listed[self.split_name(split)] = f"{file} lists {count} photos"
        self.skipped[self.split_name(split)] = sampled.skipped
        return OneShotDataset(
            photos,
            sampled.episodes,
            [f"a photo of a {name}." for name in VOC_CLASSES],
            self.image_size,
            "squash" if self.episodes == "hsnet" else "letterbox",
            self.visual_prompt,
        )

    def split_name(self, split: Split) -> str:
        """Return "val", the only split."""
        return "val"
