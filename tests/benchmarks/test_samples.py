"""Training samples of PhraseCut+ per second and core, on real photos."""

import itertools

import numpy as np
from scipy.stats import ks_2samp

from datamodules.datasets.phrasecut import PhraseCut
from datamodules.datasets.prompted import PromptedDataset, Prompting
from datamodules.datasets.transforms import object_aware_crop
from tests.benchmarks.published import SIDE, Published, find_crop

BATCH = 60


def test_training_samples_on_one_core(photos, one_core, in_turn, record, monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    source = PhraseCut(photos, "train")
    ours = PromptedDataset(source, Prompting(), SIDE, train=True, seed=0)
    published, rng = Published(source), np.random.default_rng(0)
    tasks, epochs = rng.integers(len(source), size=BATCH).tolist(), itertools.count()

    def our_way():
        epoch = next(epochs)
        return [ours[epoch, task] for task in tasks]

    def their_way():
        return [published.sample(task, rng) for task in tasks]

    seconds = in_turn({"ours": our_way, "published": their_way}, 5)
    rates = {name: BATCH / found for name, found in seconds.items()}
    record(
        "PC+ training samples, one core",
        rates["ours"] / rates["published"],
        "x",
        ">= 10",
        f"{rates['ours']:.0f} per second against {rates['published']:.1f}; photos already cached",
    )


def test_crops_have_the_distribution_of_the_plain_loop():
    """Kolmogorov-Smirnov test on the positions of 4,000 crops of small and large objects."""
    rng = np.random.default_rng(0)
    for height, width, box in (
        (480, 640, (100, 200, 180, 300)),  # small object: the best of 50 crops is taken
        (480, 640, (50, 10, 450, 330)),  # large object
        (640, 480, (400, 100, 620, 300)),
    ):
        mask = np.zeros((height, width), bool)
        mask[box[0] : box[2], box[1] : box[3]] = True
        found = [object_aware_crop(mask, rng) for _ in range(4000)]
        plain = [find_crop(mask, rng) for _ in range(4000)]
        ours = [crop.top + crop.left for crop in found]
        assert ks_2samp(ours, [top + left for top, left, _ in plain]).pvalue > 0.01
        assert {crop.side for crop in found} == {side for *_, side in plain}
