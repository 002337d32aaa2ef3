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
    """One-shot segmentation of the 20 classes of a fold, with training on the other 60.

    In training, every class in every photo gives one sample per epoch: the class name is the
    phrase, and crops are object-aware as for PhraseCut. The authors first sample a class, each with
    the same probability, then a photo, and squash whole photos. See docs/deviations.md
    (coco-sampling). A negative names another class, which may also be in the photo. The authors'
    negatives change only the support image. See docs/deviations.md (coco-negatives).

    Validation uses HSNet's 1000 test episodes (a query photo, a class and support images each). Do
    not select checkpoints by it. The tables use the last checkpoint, as the authors do.

    Args:
        root: folder that contains COCO2014 and splits, or "toy" for the built-in toy world.
        image_size: side of the query and support images in pixels, a multiple of the patch size.
        batch_size: query images per step and device.
        num_workers: data worker processes; 0 loads the samples in the main process.
        seed: seed for shuffling and for all random choices; 0 gives HSNet's test episodes.
        prompting: settings for training; validation uses only `visual_prompt` and
            `evaluation_form`.
        fold: number of the fold, 0 to 3.
        shots: support images per validation episode; their embeddings are averaged.
        allow_seen: also evaluate checkpoints whose training did not exclude the fold's classes.
        without_photos_of: names of benchmarks on COCO photos, whose evaluated photos are left out
            of training; see docs/evaluate.md (photos seen in training).

    Reference: paper, section 5.3, Table 6.
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
        without_photos_of: list[str] | None = None,
    ) -> None:
        """Store the settings.

        Raises:
            ValueError: if the fold does not exist, or `shots` is below 1.
        """
        super().__init__(root, image_size, batch_size, num_workers, seed, without_photos_of)
        if shots < 1:
            raise ValueError(f"shots must be >= 1, not {shots}")
        self.prompting, self.fold, self.shots = prompting, fold, shots
        self.held_out = () if allow_seen else self.excluded
        self.classes = Classes(COCO_CLASSES)

    def build(self, split: Split) -> Dataset[Sample]:
        """Build the training samples, or sample the validation episodes."""
        photos, name = open_coco(self.root), self.split_name(split)
        listed = read_fold(self.root, name, self.fold)
        count = sum(map(len, listed.values()))
        self.listed[name] = f"{fold_file(self.root, name, self.fold)} lists {count} photos"
        if split == "train":
            tasks = self.leave_out_photos(COCOTasks(photos, listed))
            return PromptedDataset(tasks, self.prompting, self.image_size, True, self.seed)
        sampled = hsnet_coco_episodes(listed, self.shots, self.seed)
        self.skipped[name] = sampled.skipped
        return OneShotDataset(
            photos,
            sampled.episodes,
            [self.prompting.evaluation_form.replace("{}", words) for words in COCO_CLASSES],
            self.image_size,
            "squash",
            self.prompting.visual_prompt,
        )

    @property
    def excluded(self) -> list[str]:
        """COCO's names of the classes held out by the fold."""
        return [COCO_CLASSES[class_id] for class_id in fold_classes(self.fold)]

    def split_name(self, split: Split) -> str:
        """Return HSNet's name of the split: "trn" or "val"."""
        return "trn" if split == "train" else "val"
