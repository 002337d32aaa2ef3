"""A phrase dataset without files.

A task is one phrase about one photo. The photo of task k has the uniform colour (k, k, k).
"""

import numpy as np

from clipseg_pl.prompts.visual import VisualPrompt
from clipseg_pl.sample import Sample
from datamodules.datasets.phrase_table import PhraseTable
from datamodules.datasets.prompted import PromptedDataset, Prompting

UNTOUCHED = VisualPrompt(blur=0, background=1, context=None)


class InMemoryPhrases(PhraseTable):
    """One task per word of `phrases`; `per_photo` consecutive tasks are about one photo."""

    def __init__(self, phrases: str, per_photo: int = 1) -> None:
        words = phrases.split()
        different = list(dict.fromkeys(words))
        phrase = np.array([different.index(word) for word in words])
        super().__init__(different, phrase, np.arange(len(words)) // per_photo)

    def read_name(self, row: int) -> str:
        return f"task {row}"

    def read_image(self, row: int) -> np.ndarray:
        return np.full((12, 16, 3), row, np.uint8)

    def read_mask(self, row: int) -> np.ndarray:
        mask = np.zeros((12, 16), bool)
        mask[2:9, 4:11] = True
        return mask


def prompted(
    source: InMemoryPhrases,
    train: bool = True,
    seed: int = 0,
    absent_negatives: bool = False,
    **settings,
) -> PromptedDataset:
    prompting = Prompting(**{"visual_prompt": UNTOUCHED, **settings})
    return PromptedDataset(source, prompting, 8, train, seed, absent_negatives=absent_negatives)


def support_tasks(sample: Sample, prompt: int = 0) -> list[int]:
    """Return the tasks whose photos are the supports of a prompt."""
    return [int(support[0, 0, 0]) for support in sample["prompts"][prompt]["supports"]]
