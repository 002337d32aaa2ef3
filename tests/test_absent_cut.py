"""Measurements of experiments/absent_cut.py, on a model with known predictions."""

import numpy as np

from clipseg_pl.inference.segmentation import Segmentation
from datamodules.datasets.phrasecut import PhraseCut
from experiments.absent_cut import measure


class FakeSegmenter:
    """Marks the whole photo for every phrase; every other presence score exceeds the cut."""

    image_size, absent_cut = 64, 0.6

    def __init__(self):
        self.calls = 0

    def __call__(self, photo, prompts):
        self.calls += 1
        probability = np.full((len(prompts), *photo.shape[:2]), 0.9, np.float32)
        presence = np.full(len(prompts), 0.5 if self.calls % 2 else 0.9, np.float32)
        presence[1:] = 0.2
        return Segmentation(prompts, probability, presence, 0.3, self.absent_cut)


def test_cuts_drop_prompts_with_lower_presence_scores(miniature):
    source = PhraseCut(miniature, "test")
    found = measure(FakeSegmenter(), source)
    share = [source.mask(task).mean() for task in range(len(source))]
    dropped = (len(share) + 1) // 2 / len(share)
    assert [found[cut]["dropped"] for cut in found] == [0, 0, dropped]
    assert [found[cut]["absent_rate@0.3"] for cut in found] == [1, 0, 0]
    assert np.isclose(found["none"]["miou@0.3"], np.mean(share))
    assert np.isclose(found["stored"]["miou@0.3"], sum(share[1::2]) / len(share))
