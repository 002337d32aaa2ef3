"""From annotated phrases to samples: negatives, supports, prefixes, crops, mixing weights.

What is drawn for a sample depends on (seed, epoch, index) alone, so that neither workers nor
ranks nor a resume change what is seen.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from clipseg_pl.images import to_tensor
from clipseg_pl.prompts.text import PrefixName, draw_text_prompt
from clipseg_pl.prompts.visual import MEAN_COLOUR, Mask, VisualPrompt
from clipseg_pl.sample import Prompt, Sample
from datamodules.datasets.phrase_table import PhraseTable
from datamodules.datasets.transforms import PairedResize, object_aware_crop


@dataclass(frozen=True)
class Prompting:
    """What makes PhraseCut into PhraseCut+ (PC+); the defaults are the paper's.

    Args:
        negative_prob: how often a training phrase is replaced by another one, drawn uniformly
            from the different phrases, and its mask emptied (q_neg).
        supports: attach a visual prompt made from another task with the same phrase.
        lone_phrases: train also on phrases without a partner (annotated once in the split), which
            only text can ask for.
        exclude_query: never take the query itself as its support. False is the paper's rule: any
            of the n tasks with the phrase if n > 1, the query with probability 1 / n.
        blank_support: evaluate phrases without a partner on a blank (mean grey) visual prompt,
            as the authors' visual test did by a mistyped key; else on text alone.
        prefixes: list of prefixes that training draws from.
        evaluation_form: what evaluation puts phrases into, "{}" standing for the phrase; the
            paper's is the bare phrase.
        text_weight_min: training draws the weight of the text uniformly from here ...
        text_weight_max: ... to here. The paper says 1; the released weights had 0.5.
        visual_prompt: how support images are made.

    Reference: paper section 4.
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
        """Refuse numbers out of range.

        Raises:
            ValueError: naming the number.
        """
        if not 0 <= self.negative_prob <= 1:
            raise ValueError(f"prompting.negative_prob lies in [0, 1], not {self.negative_prob}")
        if self.evaluation_form.count("{}") != 1:
            raise ValueError(
                f"prompting.evaluation_form holds one {{}}, not as in {self.evaluation_form!r}"
            )
        if not 0 <= self.text_weight_min <= self.text_weight_max <= 1:
            raise ValueError(
                "prompting needs 0 <= text_weight_min <= text_weight_max <= 1, not "
                f"{self.text_weight_min} and {self.text_weight_max}"
            )


class PromptedDataset(Dataset[Sample]):
    """Samples of a phrase dataset; indexed by (epoch, task), both from 0.

    Training: an object-aware crop, perhaps a negative, a random prefix. One prompt an image, or
    several on one encoding: other tasks about the photo come along as far as the crop shows them.
    Evaluation: the whole image, squashed to a square as the authors do; the phrase in its form; and
    beside it a second prompt, a phrase that is known to be absent from the image (if there is one),
    to measure what is marked for absent things.

    Args:
        source: the annotated phrases.
        prompting: see there.
        image_size: side of the samples in pixels.
        train: which of the two.
        seed: of everything that is drawn.
        phrases_per_image: prompts of a training sample, at most.
        absent_negatives: draw negatives from phrases that are known to be absent from the photo,
            and none where no phrase is. The paper draws from all; where there are few, many of
            them would be in sight.
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
    ) -> None:
        """Keep the parts; leave out phrases without a partner if they are not to be trained on."""
        self.skipped: dict[str, int] = {}
        """tasks that `lone_phrases: false` leaves out of training"""
        if train and not prompting.lone_phrases:
            before, source = len(source), source.without_lone_phrases()
            self.skipped["whose phrases have no partner"] = before - len(source)
        self.source, self.prompting = source, prompting
        self.train, self.seed = train, seed
        self.phrases_per_image, self.absent_negatives = phrases_per_image, absent_negatives
        self.image_size, self.resize = image_size, PairedResize(image_size)

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Make the sample of an epoch and a task."""
        epoch, task = key
        # evaluation does not vary over epochs
        rng = np.random.default_rng([self.seed, epoch if self.train else 0, task, int(self.train)])
        photo, whole = self.source.image(task), self.source.mask(task)
        crop = object_aware_crop(whole, rng) if self.train else None
        image, mask = self.resize(photo, whole, crop)
        if self.train:
            prompts = [self._prompt(task, self._draw_training_phrase(task, rng), mask, rng)]
            for other in self._company(task, rng):
                mask = self.resize.mask(self.source.mask(other), crop)
                if mask.any():
                    phrase = self._draw_training_phrase(other, rng)
                    prompts.append(self._prompt(other, phrase, mask, rng))
        else:
            prompts = [self._prompt(task, self.source.phrase(task), mask, rng)]
            absent = self._draw_absent_phrase(task, rng)
            if absent is not None:
                prompts.append(self._prompt(task, absent, mask, rng))
        return Sample(
            query_image=to_tensor(image),
            query_size=(photo.shape[0], photo.shape[1]),
            prompts=prompts,
        )

    def _company(self, task: int, rng: np.random.Generator) -> list[int]:
        """Other tasks about the photo, in random order."""
        if self.phrases_per_image == 1:
            return []
        others = self.source.tasks_of_image(task)
        drawn: list[int] = rng.permutation(others[others != task]).tolist()
        return drawn[: self.phrases_per_image - 1]

    def _prompt(self, task: int, phrase: int, mask: Mask, rng: np.random.Generator) -> Prompt:
        settings, words = self.prompting, self.source.phrases[phrase]
        negative = phrase != self.source.phrase(task)
        supports = self._supports(task, phrase, rng) if settings.supports else []
        weight = rng.uniform(settings.text_weight_min, settings.text_weight_max)
        target = torch.from_numpy(np.zeros_like(mask) if negative else mask)[None]
        return Prompt(
            prompt_id=self.source.name(task) + ("__absent" if negative else ""),
            query_mask=target,
            valid_mask=torch.ones_like(target),
            phrase=words,
            text_prompt=(
                draw_text_prompt(words, settings.prefixes, rng)
                if self.train
                else settings.evaluation_form.replace("{}", words)
            ),
            supports=supports,
            mix_weight=float(weight) if supports else 1.0,
            class_id=-1,
            negative=negative,
        )

    def _supports(self, task: int, phrase: int, rng: np.random.Generator) -> list[Tensor]:
        partners = self.source.tasks_of_phrase(phrase)
        if self.prompting.exclude_query:
            partners = partners[partners != task]
        elif len(partners) == 1:
            partners = partners[:0]
        if not len(partners):
            return [self._blank()] if self.prompting.blank_support and not self.train else []
        chosen = int(partners[rng.integers(len(partners))])
        photo, mask = self.source.image(chosen), self.source.mask(chosen)
        crop = object_aware_crop(mask, rng) if self.train else None
        return [to_tensor(self.prompting.visual_prompt(*self.resize(photo, mask, crop)))]

    def _draw_training_phrase(self, task: int, rng: np.random.Generator) -> int:
        """The task's own; with probability q_neg another one, if there is any."""
        own, others = self.source.phrase(task), len(self.source.phrases) - 1
        if rng.random() >= self.prompting.negative_prob or not others:
            return own
        if self.absent_negatives:
            absent = self._draw_absent_phrase(task, rng)
            return own if absent is None else absent
        drawn = int(rng.integers(others))
        return drawn + (drawn >= own)

    def _draw_absent_phrase(self, task: int, rng: np.random.Generator) -> int | None:
        """A phrase that is known to be absent from the task's photo; None if there is none."""
        possible = np.unique(self.source.possible_phrases(task))
        absent = len(self.source.phrases) - len(possible)
        if not absent:
            return None
        drawn = int(rng.integers(absent))
        # the drawn-th position that is not among the possible ones, which are sorted
        return drawn + int(np.searchsorted(possible - np.arange(len(possible)), drawn, "right"))

    def _blank(self) -> Tensor:
        colour = torch.tensor(MEAN_COLOUR).round().to(torch.uint8)
        return colour[:, None, None].expand(3, self.image_size, self.image_size)
