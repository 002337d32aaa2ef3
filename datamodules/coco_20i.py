"""COCO-20i as training and validation data."""

from torch.utils.data import Dataset

from clipseg_pl.sample import Classes, Sample
from datamodules.base import BaseDataModule, Split
from datamodules.datasets.coco_20i import (
    COCO_CLASSES,
    COCOTasks,
    fold_classes,
    fold_file,
    read_fold,
)
from datamodules.datasets.episodes import hsnet_coco_episodes
from datamodules.datasets.labelled import open_coco
from datamodules.datasets.one_shot import OneShotDataset
from datamodules.datasets.prompted import PromptedDataset, Prompting

_DEFAULT_PROMPTING = Prompting(negative_prob=0.0)


class COCO20iDataModule(BaseDataModule):
    """One-shot segmentation of the 20 classes of a fold; training on the other 60.

    Training takes each class in each photo that shows it as a phrase, once an epoch, with
    object-aware crops, as training on PhraseCut does; the authors draw a class first, each as often
    as any other, and squash whole photos. A negative asks for another class, which the photo may
    show too; the authors' zeroed the support only. Validation is HSNet's test: a model is
    not to be chosen by it, so the tables take the last checkpoint, as the authors do.

    Args:
        root: folder that holds COCO2014 and splits, or "toy" for the embedded toy world.
        image_size: side of query and support images in pixels, a multiple of the backbone's patch.
        batch_size: query images a step and device.
        num_workers: processes that read and prepare samples; 0 does it in the main process.
        seed: of the shuffling and of all draws; HSNet's test episodes are those of 0.
        prompting: of training; validation takes its visual prompts and its form of phrases.
        fold: 0 to 3.
        shots: supports an episode in validation, whose embeddings are averaged.
        allow_seen: evaluate models too whose training may have named the fold's classes.

    Reference: paper section 5.3, Table 6.
    """

    def __init__(
        self,
        root: str = "data",
        image_size: int = 352,
        batch_size: int = 64,
        num_workers: int = 4,
        seed: int = 0,
        prompting: Prompting = _DEFAULT_PROMPTING,
        fold: int = 0,
        shots: int = 1,
        allow_seen: bool = False,
    ) -> None:
        """Keep the settings.

        Raises:
            ValueError: for a fold that does not exist, or no shot.
        """
        super().__init__(root, image_size, batch_size, num_workers, seed)
        if shots < 1:
            raise ValueError(f"shots {shots}: an episode has at least 1")
        self.prompting, self.fold, self.shots = prompting, fold, shots
        self.held_out = () if allow_seen else self.excluded
        self.classes = Classes(COCO_CLASSES)

    def build(self, split: Split) -> Dataset[Sample]:
        """Build the tasks to train on, or draw the test episodes."""
        photos, name = open_coco(self.root), self.split_name(split)
        listed = read_fold(self.root, name, self.fold)
        count = sum(map(len, listed.values()))
        self.listed[name] = f"{fold_file(self.root, name, self.fold)} lists {count} photos"
        if split == "train":
            tasks = COCOTasks(photos, listed)
            return PromptedDataset(tasks, self.prompting, self.image_size, True, self.seed)
        drawn = hsnet_coco_episodes(listed, self.shots, self.seed)
        self.skipped[name] = drawn.skipped
        return OneShotDataset(
            photos,
            drawn.episodes,
            [self.prompting.evaluation_form.replace("{}", words) for words in COCO_CLASSES],
            self.image_size,
            "squash",
            self.prompting.visual_prompt,
        )

    @property
    def excluded(self) -> list[str]:
        """COCO's names of the fold's classes."""
        return [COCO_CLASSES[class_id] for class_id in fold_classes(self.fold)]

    def split_name(self, split: Split) -> str:
        """HSNet's names of the two parts."""
        return "trn" if split == "train" else "val"
