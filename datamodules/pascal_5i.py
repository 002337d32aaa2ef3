"""Pascal-5i as validation data."""

from typing import Literal

from torch.utils.data import Dataset

from clipseg_pl.prompts.visual import VisualPrompt
from clipseg_pl.sample import Classes, Sample
from datamodules.base import BaseDataModule, Split
from datamodules.datasets.episodes import hsnet_pascal_episodes
from datamodules.datasets.labelled import open_voc
from datamodules.datasets.one_shot import OneShotDataset
from datamodules.datasets.pascal_5i import (
    VOC_CLASSES,
    draw_pfenet,
    fold_classes,
    hsnet_list,
    pfenet_list,
    read_hsnet_list,
    read_pfenet_list,
)

_DEFAULT_VISUAL_PROMPT = VisualPrompt()


class Pascal5iDataModule(BaseDataModule):
    """One-shot segmentation of the five classes of a fold, by support image or by name.

    Args:
        root: folder that holds VOC2012 and lists, or "toy" for the embedded toy world.
        image_size: side of query and support images in pixels, a multiple of the backbone's patch.
        batch_size: episodes a step and device.
        num_workers: processes that read and prepare samples; 0 does it in the main process.
        seed: of the draws of classes and supports.
        fold: 0 to 3.
        shots: supports an episode, whose embeddings are averaged.
        episodes: "pfenet" asks once about every validation photo with 2048 pixels of a class, and
            scores at the photo's size, as the paper does; "hsnet" are HSNet's 1000 test episodes
            (seed 0 gives exactly those), squashed to squares.
        visual_prompt: how support images are made.
        allow_seen: evaluate models too whose training may have named the fold's classes.

    Reference: paper section 5.3, Tables 5 (visual prompts) and 7 (text).
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
        """Keep the settings.

        Raises:
            ValueError: for a fold that does not exist, or no shot.
        """
        super().__init__(root, image_size, batch_size, num_workers, seed)
        if shots < 1:
            raise ValueError(f"shots {shots}: an episode has at least 1")
        self.asked = [VOC_CLASSES.index(name) for name in fold_classes(fold)]
        self.fold, self.shots, self.episodes = fold, shots, episodes
        self.visual_prompt = visual_prompt
        self.held_out = () if allow_seen else fold_classes(fold)
        self.classes = Classes(VOC_CLASSES)
        self.whole_photos = episodes == "hsnet"

    def build(self, split: Split) -> Dataset[Sample]:
        """Draw the episodes; there are no others to train on."""
        if split == "train":
            raise ValueError("Pascal-5i is for validate: training takes PhraseCutDataModule")
        photos = open_voc(self.root, augmented=True)
        if self.episodes == "hsnet":
            file, pairs = hsnet_list(self.root, self.fold), read_hsnet_list(self.root, self.fold)
            count, drawn = len(pairs), hsnet_pascal_episodes(pairs, self.shots, self.seed)
        else:
            file, names = pfenet_list(self.root), read_pfenet_list(self.root)
            count = len(names)
            drawn = draw_pfenet(names, photos, self.asked, self.shots, self.seed)
        self.listed[self.split_name(split)] = f"{file} lists {count} photos"
        self.skipped[self.split_name(split)] = drawn.skipped
        return OneShotDataset(
            photos,
            drawn.episodes,
            [f"a photo of a {name}." for name in VOC_CLASSES],
            self.image_size,
            "squash" if self.episodes == "hsnet" else "letterbox",
            self.visual_prompt,
        )

    def split_name(self, split: Split) -> str:
        """The one that there is."""
        return "val"
