"""Samples from annotated phrases: adds negatives, support images, prefixes, text weights, crops.

All random choices of a sample depend on (seed, epoch, index) only. The number of workers or ranks
and resuming a run therefore do not change the samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from clipseg_pl.images import to_tensor
from clipseg_pl.prompts.text import PrefixName, draw_text_prompt
from clipseg_pl.prompts.visual import MEAN_COLOUR, Mask, VisualPrompt
from clipseg_pl.sample import Prompt, Sample
from datamodules.datasets.augmentation import Augmentation
from datamodules.datasets.phrase_table import PhraseTable, Rows, slug, unique_names
from datamodules.datasets.transforms import PairedResize, Square, object_aware_crop

_MOST_ABSENT = 10
"""maximum number of evaluated prompts of a photo without annotations"""
_NOTHING_TO_ASK = "photos without annotations, for which no phrase is known to be absent"


@dataclass(frozen=True)
class Prompting:
    """Settings that extend PhraseCut to PhraseCut+ (PC+).

    The defaults are the paper's, except `exclude_query`. See docs/deviations.md
    (support-not-query, text-weight, blank-support). A task is one phrase about one photo; its
    partners are the other tasks with the same phrase.

    Args:
        negative_prob: probability that a training phrase is replaced by a different one, sampled
            uniformly, and its mask is emptied (q_neg).
        supports: add a visual prompt made from a partner, the support.
        lone_phrases: also train on phrases without a partner, which are annotated once in the
            split. Their samples have only a text prompt.
        exclude_query: never use the query itself as its support. False follows the paper: the
            support is sampled from all n > 1 tasks with the phrase, so it is the query with
            probability 1 / n.
        blank_support: in evaluation, give phrases without a partner a blank (mean grey) visual
            prompt, as the authors' evaluation does because of a misspelt config key. False
            gives them no visual prompt.
        prefixes: name of the list of prefixes ("a photo of a {}.") to sample from in training.
        evaluation_form: template of the text prompt in evaluation, "{}" for the phrase; the paper
            uses the bare phrase.
        text_weight_min: lower bound of the text weight, the share of the text in the mix of text
            and visual prompt. It is sampled uniformly.
        text_weight_max: upper bound of the text weight; 1 in the paper, 0.5 for the released
            weights.
        visual_prompt: how support images are cropped, blurred and darkened.

    Reference: paper, section 4.
    """

    negative_prob: float = 0.2
    supports: bool = True
    lone_phrases: bool = True
    exclude_query: bool = True
    blank_support: bool = False
    prefixes: PrefixName = "shuffle_plus"
    evaluation_form: str = "{}"
    text_weight_min: float = 0.0
    text_weight_max: float = 1.0
    visual_prompt: VisualPrompt = field(default_factory=VisualPrompt)

    def __post_init__(self) -> None:
        """Validate the settings.

        Raises:
            ValueError: if a number is out of range, or the form does not contain "{}" once.
        """
        if not 0 <= self.negative_prob <= 1:
            raise ValueError(f"prompting.negative_prob must be in [0, 1], not {self.negative_prob}")
        if self.evaluation_form.count("{}") != 1:
            raise ValueError(
                "prompting.evaluation_form must contain {} exactly once, not "
                f"{self.evaluation_form!r}"
            )
        if not 0 <= self.text_weight_min <= self.text_weight_max <= 1:
            raise ValueError(
                "prompting needs 0 <= text_weight_min <= text_weight_max <= 1, not "
                f"{self.text_weight_min} and {self.text_weight_max}"
            )


class PromptedDataset(Dataset[Sample]):
    """Samples of a phrase dataset, indexed by (epoch, task), both from 0.

    A training sample is an object-aware crop of the photo with a prompt: the task's phrase or a
    negative, inside a random prefix. With `phrases_per_image` above 1, other tasks about the photo
    are added if their objects are visible in the crop or if they have none.

    An evaluation sample is the whole photo, squashed to a square as in the authors' code, with the
    phrase inside `evaluation_form`. If phrases are known to be absent from the photo, one of them
    becomes a second prompt, to measure false positives.

    Photos without annotations are the last samples. In training, each has one negative prompt with
    one of the phrases that are known to be absent. In evaluation, it has a negative prompt for each
    of them, for ten at most.

    Args:
        source: annotated phrases.
        prompting: settings for negatives, support images, prefixes and text weights.
        image_size: side of the square samples in pixels.
        train: make training samples instead of evaluation samples.
        seed: seed for all random choices.
        phrases_per_image: maximum number of prompts of a training sample.
        absent_negatives: sample negatives only from phrases known to be absent from the photo; a
            photo without such phrases has no negatives. The paper samples from all phrases. If a
            dataset has few different phrases, many of the paper's negatives would be visible in the
            photo. See docs/deviations.md (negatives).
        all_phrasings: in evaluation, make a prompt of each phrasing of a phrase instead of the
            first; training samples one of them.
        class_ids: whether the class id of a prompt is its phrase's index in `source.phrases`.
        crops: crop training samples; False squashes whole photos, as in evaluation. Phrases such as
            "dog on the left" may be wrong in a crop.
        augmentation: random transforms of training samples, applied to the resized query image and,
            independently, to support images before the visual prompt is made; None in the paper.
    """

    def __init__(
        self,
        source: PhraseTable,
        prompting: Prompting,
        image_size: int,
        train: bool,
        seed: int,
        phrases_per_image: int = 1,
        absent_negatives: bool = False,
        all_phrasings: bool = False,
        class_ids: bool = False,
        crops: bool = True,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Store the settings; without `lone_phrases`, drop training tasks without a partner."""
        self.skipped: dict[str, int] = {}
        """reason -> number of tasks dropped"""
        if train and not prompting.lone_phrases:
            before, source = len(source), source.without_lone_phrases()
            self.skipped["whose phrases have no partner"] = before - len(source)
        clean = source.without_annotations().tolist()
        unaskable = [task for task in clean if not len(self._absent_phrases(source, task))]
        if unaskable:
            self.skipped[_NOTHING_TO_ASK] = len(unaskable)
            source = source.select(~np.isin(np.arange(len(source)), unaskable))
        self.source, self.prompting = source, prompting
        self.all_phrasings, self.class_ids = all_phrasings and not train, class_ids
        self.train, self.seed, self.crops = train, seed, train and crops
        self.phrases_per_image, self.absent_negatives = phrases_per_image, absent_negatives
        self.image_size, self.resize = image_size, PairedResize(image_size)
        self.augmentation = augmentation if train else None

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self.source)

    @property
    def coco_ids(self) -> Rows | None:
        """(tasks,) int64, COCO's id of each task's photo; see `PhraseTable`."""
        return self.source.coco_ids

    def photo_name(self, task: int) -> str:
        """Return the name of a task's photo."""
        return self.source.photo_name(task)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Load the sample of an epoch and a task."""
        epoch, task = key
        # evaluation samples are the same in every epoch
        rng = np.random.default_rng([self.seed, epoch if self.train else 0, task, int(self.train)])
        photo, whole = self.source.image(task), self.source.mask(task)
        crop = object_aware_crop(whole, rng) if self.crops else None
        image, mask = self.resize(photo, whole, crop)
        prompts = self._prompts(task, (mask, self._valid(task, crop)), rng)
        for other in self._sample_other_tasks(task, rng):
            whole = self.source.mask(other)
            mask = self.resize.mask(whole, crop)
            if mask.any() or not whole.any():  # an expression without a target has no object
                prompts += self._prompts(other, (mask, self._valid(other, crop)), rng)
        if self.augmentation is not None:
            image, prompts = self.augmentation.query(image, prompts, rng)
        return Sample(
            query_image=to_tensor(image),
            query_size=(photo.shape[0], photo.shape[1]),
            prompts=prompts,
        )

    def _sample_other_tasks(self, task: int, rng: np.random.Generator) -> list[int]:
        """Sample up to `phrases_per_image - 1` other tasks about the task's photo."""
        if not self.train or self.phrases_per_image == 1:
            return []
        others = self.source.tasks_of_image(task)
        shuffled: list[int] = rng.permutation(others[others != task]).tolist()
        return shuffled[: self.phrases_per_image - 1]

    def _phrases(self, task: int, rng: np.random.Generator) -> Iterator[tuple[int, str]]:
        """Yield the phrases to prompt a task with, and the name of each prompt."""
        own, name = self.source.phrase(task), self.source.name(task)
        if own < 0:
            absent = self._absent_phrases(self.source, task)
            if self.train or len(absent) > _MOST_ABSENT:
                chosen = 1 if self.train else _MOST_ABSENT
                absent = np.sort(rng.choice(absent, chosen, replace=False))
            parts = (slug(self.source.phrases[phrase]) for phrase in absent.tolist())
            names = unique_names(f"{name}__{part}" for part in parts)
            yield from zip(absent.tolist(), (f"{name}__absent" for name in names), strict=True)
        elif self.train:
            phrase = self._sample_training_phrase(task, rng)
            yield phrase, name if phrase == own else f"{name}__absent"
        else:
            yield own, name
            other = self._sample_absent_phrase(task, rng)
            if other is not None:
                yield other, f"{name}__absent"

    def _prompts(
        self, task: int, masks: tuple[Mask, Mask], rng: np.random.Generator
    ) -> list[Prompt]:
        """Make the prompts of a task from its target and the pixels to use."""
        return [
            prompt
            for phrase, name in self._phrases(task, rng)
            for prompt in self._prompts_of_phrase(task, phrase, name, masks, rng)
        ]

    def _prompts_of_phrase(
        self,
        task: int,
        phrase: int,
        name: str,
        masks: tuple[Mask, Mask],
        rng: np.random.Generator,
    ) -> Iterator[Prompt]:
        """Yield a prompt of a phrase; with `all_phrasings`, one of each phrasing.

        Args:
            task: task of the photo.
            phrase: the task's phrase, or a different one for a negative.
            name: name of the prompt.
            masks: the task's target and the pixels to use, (size, size) bool.
            rng: random generator of the sample.
        """
        settings, phrasings = self.prompting, self.source.phrasings(phrase)
        if self.train and len(phrasings) > 1:
            phrasings = [phrasings[int(rng.integers(len(phrasings)))]]
        negative = phrase != self.source.phrase(task)
        mask, valid = masks
        target = torch.from_numpy(np.zeros_like(mask) if negative else mask)[None]
        for number, words in enumerate(phrasings[: None if self.all_phrasings else 1], 1):
            supports = self._supports(task, phrase, rng) if settings.supports else []
            weight = rng.uniform(settings.text_weight_min, settings.text_weight_max)
            yield Prompt(
                prompt_id=name if number == 1 else f"{name}__{number}",
                query_mask=target,
                valid_mask=torch.from_numpy(valid)[None],
                phrase=words,
                text_prompt=(
                    draw_text_prompt(words, settings.prefixes, rng)
                    if self.train
                    else settings.evaluation_form.replace("{}", words)
                ),
                supports=supports,
                mix_weight=float(weight) if supports else 1.0,
                class_id=phrase if self.class_ids else -1,
                negative=negative,
            )

    def _valid(self, task: int, crop: Square | None) -> Mask:
        """Return the pixels of a sample to use, (size, size) bool."""
        valid = self.source.valid(task)
        if valid is None:
            return np.ones((self.image_size, self.image_size), np.bool_)
        return self.resize.mask(valid, crop)

    def _supports(self, task: int, phrase: int, rng: np.random.Generator) -> list[Tensor]:
        partners = self.source.partners(task, phrase)
        if self.prompting.exclude_query:
            partners = partners[partners != task]
        elif len(partners) == 1:
            partners = partners[:0]
        if not len(partners):
            return [self._blank()] if self.prompting.blank_support and not self.train else []
        chosen = int(partners[rng.integers(len(partners))])
        photo, mask = self.source.image(chosen), self.source.mask(chosen)
        crop = object_aware_crop(mask, rng) if self.train else None
        image, mask = self.resize(photo, mask, crop)
        if self.augmentation is not None:
            image, mask = self.augmentation.support(image, mask, rng)
        return [to_tensor(self.prompting.visual_prompt(image, mask))]

    def _sample_training_phrase(self, task: int, rng: np.random.Generator) -> int:
        """Return the task's phrase or, with probability q_neg, a different one if possible."""
        own, others = self.source.phrase(task), len(self.source.phrases) - 1
        if rng.random() >= self.prompting.negative_prob or not others:
            return own
        if self.absent_negatives:
            absent = self._sample_absent_phrase(task, rng)
            return own if absent is None else absent
        index = int(rng.integers(others))
        return index + (index >= own)

    @staticmethod
    def _absent_phrases(source: PhraseTable, task: int) -> Rows:
        """Return the phrases known to be absent from the photo of a task."""
        return np.setdiff1d(np.arange(len(source.phrases)), source.possible_phrases(task))

    def _sample_absent_phrase(self, task: int, rng: np.random.Generator) -> int | None:
        """Sample a phrase known to be absent from the task's photo; None if there is none."""
        possible = np.unique(self.source.possible_phrases(task))
        absent = len(self.source.phrases) - len(possible)
        if not absent:
            return None
        index = int(rng.integers(absent))
        # the index-th phrase that is not in the sorted array `possible`
        return index + int(np.searchsorted(possible - np.arange(len(possible)), index, "right"))

    def _blank(self) -> Tensor:
        colour = torch.tensor(MEAN_COLOUR).round().to(torch.uint8)
        return colour[:, None, None].expand(3, self.image_size, self.image_size)
