"""A phrase dataset without files: task k's photo is the plain colour (k, k, k)."""

import numpy as np

from clipseg_pl.prompts.visual import VisualPrompt
from clipseg_pl.sample import Sample
from datamodules.datasets.prompted import PromptedDataset, Prompting

UNTOUCHED = VisualPrompt(blur=0, background=1, context=None)


class Numbered:
    """Tasks with the phrases given; each photo has `per_photo` tasks in a row."""

    def __init__(self, phrases: str, per_photo: int = 1) -> None:
        words = phrases.split()
        self.phrases = list(dict.fromkeys(words))
        self.rows = [self.phrases.index(word) for word in words]
        self.per_photo = per_photo

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, task: int) -> str:
        return f"task {task}"

    def phrase(self, task: int) -> int:
        return self.rows[task]

    def image(self, task: int) -> np.ndarray:
        return np.full((12, 16, 3), task, np.uint8)

    def mask(self, task: int) -> np.ndarray:
        mask = np.zeros((12, 16), bool)
        mask[2:9, 4:11] = True
        return mask

    def tasks_of_phrase(self, phrase: int) -> np.ndarray:
        return np.flatnonzero(np.array(self.rows) == phrase)

    def tasks_of_image(self, task: int) -> np.ndarray:
        first = task - task % self.per_photo
        return np.arange(first, min(first + self.per_photo, len(self)))

    def possible_phrases(self, task: int) -> np.ndarray:
        return np.array(self.rows)[self.tasks_of_image(task)]


def prompted(
    source: Numbered,
    train: bool = True,
    seed: int = 0,
    absent_negatives: bool = False,
    **settings,
) -> PromptedDataset:
    prompting = Prompting(**{"visual_prompt": UNTOUCHED, **settings})
    return PromptedDataset(source, prompting, 8, train, seed, absent_negatives=absent_negatives)


def shown(sample: Sample, prompt: int = 0) -> list[int]:
    """Tasks whose photos are the prompt's supports."""
    return [int(support[0, 0, 0]) for support in sample["prompts"][prompt]["supports"]]
