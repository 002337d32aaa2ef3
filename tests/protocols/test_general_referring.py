"""Metrics of the RefCOCO family, compared with plain loops written from their definitions."""

import numpy as np
import pytest
import torch
from torchmetrics.utilities import dim_zero_sum

from clipseg_pl.inference.tiles import resize
from clipseg_pl.metrics import presence, referring
from clipseg_pl.metrics.functional import histograms
from clipseg_pl.metrics.referring import ReferringCounts
from clipseg_pl.protocols.general_referring import GeneralReferringProtocol
from clipseg_pl.protocols.referring import ReferringProtocol

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")  # without sentences
LEVELS = 50
AT = (0.1, 0.2, 0.3, 0.5)


class Item:
    """A sentence: probabilities, target, pixels to use, all (h, w), and its presence score."""

    def __init__(self, probability, target, valid, has_target):
        self.probability, self.target, self.valid = probability, target, valid
        self.has_target = has_target
        highest = sorted(probability.ravel().tolist(), reverse=True)
        highest = highest[: max(1, round(0.01 * len(highest)))]
        self.score = sum(highest) / len(highest)


def loops(items, threshold, cut=None):
    """Compute all metrics at a threshold; `cut` is the absent cut, if there is one."""
    intersections = unions = general_intersections = general_unions = 0
    ious, general_ious, recognised, answered = [], [], [], []
    for item in items:
        intersection = union = predicted = 0
        for p, t, v in zip(
            item.probability.ravel(), item.target.ravel(), item.valid.ravel(), strict=True
        ):
            if v:
                intersection += int(p > np.float32(threshold) and t)
                union += int(p > np.float32(threshold) or t)
                predicted += int(p > np.float32(threshold))
        called_absent = predicted == 0 or (cut is not None and item.score < cut)
        if item.has_target:
            iou = intersection / union if union else 0.0
            ious.append(iou)
            intersections, unions = intersections + intersection, unions + union
            answered.append(not called_absent)
            general_ious.append(0.0 if called_absent else iou)
            general_intersections += 0 if called_absent else intersection
            general_unions += union
        else:
            recognised.append(called_absent)
            general_ious.append(1.0 if called_absent else 0.0)
            general_unions += 0 if called_absent else predicted

    def mean(values):
        return sum(values) / len(values) if values else 0.0

    found = {"oiou": intersections / unions if unions else 0.0, "miou": mean(ious)}
    found |= {f"pr{x}": mean([iou >= x / 100 for iou in ious]) for x in (50, 60, 70, 80, 90)}
    if recognised:
        found |= {
            "giou": mean(general_ious),
            "ciou": general_intersections / general_unions if general_unions else 0.0,
            "n_acc": mean(recognised),
            "t_acc": mean(answered),
        }
    return found


def draw_items(rng, count):
    """Draw sentences of one size; presence scores are never close to a level."""
    height, width = rng.integers(1, 6, 2)
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    items = []
    for _ in range(count):
        pool = rng.choice(levels, rng.integers(1, 5))  # few values, so that IoUs are often round
        if rng.random() < 0.2:
            pool = pool * 0 + levels[0]  # empty at every threshold but 0.02
        probability = rng.choice(pool, (height, width)).astype(np.float32)
        has_target = bool(rng.random() < 0.6)
        target = (rng.random((height, width)) < rng.choice([0, 0.5, 1])) & has_target
        valid = rng.random((height, width)) < rng.choice([0, 0.7, 1])
        items.append(Item(probability, target, valid, has_target))
    return items


def batch_of(items):
    shape = items[0].target.shape
    return {
        "query_mask": torch.from_numpy(np.stack([item.target for item in items]))[:, None],
        "valid_mask": torch.from_numpy(np.stack([item.valid for item in items]))[:, None],
        "target_size": torch.tensor([shape] * len(items)),
        "negative": torch.tensor([not item.has_target for item in items]),
    }


def update(protocol, items):
    """Update with exact probabilities: a sigmoid of logits would be rounded."""
    probability = torch.from_numpy(np.stack([item.probability for item in items]))[:, None]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(torch.Tensor, "sigmoid", lambda tensor: tensor)
        selected = torch.ones(len(items), dtype=torch.bool)
        protocol.update("text", probability, batch_of(items), selected)


@pytest.fixture
def coarse(monkeypatch):
    """Use 50 levels of the presence score, so that a set takes a millisecond."""
    monkeypatch.setattr(referring, "PRESENCE_LEVELS", LEVELS)
    monkeypatch.setattr(presence, "PRESENCE_LEVELS", LEVELS)


def wanted(items, stored, cut):
    having = [item for item in items if item.has_target]
    numbers = {"prompts": len(items), "no_target_prompts": len(items) - len(having)}
    for threshold in AT:
        found = loops(items, threshold)
        numbers |= {f"{name}@{threshold:g}": value for name, value in found.items()}
    found = loops(items, stored, cut)
    return numbers | {f"{name}@stored": value for name, value in found.items()}


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(40), id="40"),
        pytest.param(range(40, 2000), id="1960", marks=pytest.mark.slow),
    ],
)
def test_metrics_equal_loops_on_2000_random_sets(seeds, coarse):
    kinds = dict.fromkeys(("no target", "empty", "ignored", "changed by the cut"), 0)
    for seed in seeds:
        rng, protocol, items = np.random.default_rng(seed), GeneralReferringProtocol(), []
        for _ in range(rng.integers(1, 3)):
            part = draw_items(rng, rng.integers(1, 4))
            update(protocol, part)
            items += part
        stored = float(rng.choice([0.06, 0.3, 0.5, 0.74]))
        cut = None if rng.random() < 0.3 else rng.integers(LEVELS + 1) / LEVELS
        found = protocol.compute(stored, cut)
        expected = {f"text/{name}": value for name, value in wanted(items, stored, cut).items()}
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12), seed
        kinds["no target"] += any(not item.has_target for item in items)
        kinds["empty"] += any((item.probability <= 0.1).all() for item in items)
        kinds["ignored"] += any(not item.valid.all() for item in items)
        kinds["changed by the cut"] += loops(items, stored, cut) != loops(items, stored)
    assert min(kinds.values()) > len(seeds) / 10, kinds


def items_of(rows):
    return [
        Item(np.array([p], np.float32), np.array([t], np.bool_), np.ones((1, 4), np.bool_), has)
        for p, t, has in rows
    ]


def hand_made():
    """Three sentences on 1 x 4 pixels: found in part, without target, not found."""
    rows = [
        ([0.9, 0.9, 0.1, 0.1], [1, 0, 0, 1], True),
        ([0.1, 0.6, 0.6, 0.6], [0, 0, 0, 0], False),
        ([0.2, 0.2, 0.2, 0.2], [1, 1, 0, 0], True),
    ]
    return items_of(rows)


def test_metrics_of_three_sentences_by_hand():
    protocol = GeneralReferringProtocol()
    update(protocol, hand_made())
    found = protocol.compute(0.5, 0.7)
    assert found["text/oiou@0.5"] == pytest.approx(1 / 5)  # 1 / 3 and 0 / 2
    assert found["text/miou@0.5"] == pytest.approx((1 / 3 + 0) / 2)
    assert found["text/pr50@0.5"] == 0 and found["text/pr50@0.1"] == 0.5  # 2 / 4 of the third
    assert found["text/giou@0.5"] == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert found["text/ciou@0.5"] == pytest.approx(1 / 8)  # three false pixels of the second
    assert found["text/n_acc@0.5"] == 0 and found["text/t_acc@0.5"] == 0.5
    # the presence score of the second, 0.6, is below the stored cut
    assert found["text/giou@stored"] == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert found["text/ciou@stored"] == pytest.approx(1 / 5)
    assert found["text/n_acc@stored"] == 1 and found["text/t_acc@stored"] == 0.5
    assert found["text/oiou@stored"] == found["text/oiou@0.5"]
    assert found["text/prompts"] == 3 and found["text/no_target_prompts"] == 1
    assert found["text/presence_auc"] == 0.5 and protocol.monitor in found


def test_union_contains_the_pixels_of_a_missed_target():
    """As in GRES, the cut removes only the intersection of a sentence with a target."""
    rows = [
        ([0.9, 0.9, 0.1, 0.1], [1, 0, 0, 1], True),
        ([0.1, 0.6, 0.6, 0.1], [1, 1, 0, 0], True),  # its presence score is below the cut
        ([0.1, 0.1, 0.1, 0.1], [0, 0, 0, 0], False),
    ]
    protocol = GeneralReferringProtocol()
    update(protocol, items_of(rows))
    found = protocol.compute(0.5, 0.7)
    assert found["text/ciou@0.5"] == pytest.approx(2 / 6)
    assert found["text/ciou@stored"] == pytest.approx(1 / 6)
    assert found["text/giou@stored"] == pytest.approx((1 / 3 + 0 + 1) / 3)
    assert found["text/t_acc@stored"] == 0.5


def test_masks_are_written_of_sentences_without_a_target():
    batch = {**batch_of(hand_made()), "prompt_index": torch.empty(0, dtype=torch.long)}
    assert GeneralReferringProtocol().predicted("text", batch).tolist() == [True, True, True]
    assert ReferringProtocol().predicted("text", batch).tolist() == [True, False, True]


def test_sets_with_targets_only_have_no_generalised_metrics():
    protocol = GeneralReferringProtocol()
    update(protocol, [item for item in hand_made() if item.has_target])
    found = protocol.compute(0.5, 0.7)
    assert not {name for name in found if "giou" in name or "acc" in name or "presence" in name}
    assert protocol.best_cut() is None
    protocol.reset()
    assert protocol.compute(0.5, 0.7) == {"text/prompts": 0, "text/no_target_prompts": 0}


def test_sets_without_targets_have_no_threshold_to_store():
    protocol = GeneralReferringProtocol()
    update(protocol, [item for item in hand_made() if not item.has_target])
    assert protocol.best_threshold() is None


def test_stored_cut_and_threshold_are_the_best_of_the_set():
    protocol = GeneralReferringProtocol()
    update(protocol, hand_made())
    found = protocol.compute(None)
    assert protocol.best_threshold() == found["text/threshold@best"] == 0.02
    assert protocol.best_cut() == found["text/absent_cut@best"]
    assert found["text/miou@best"] == 0.5  # the whole image, and half of it is right
    report = protocol.report(None)
    assert report["text: miou by threshold"]["0.50"] == found["text/miou@0.5"]
    assert set(report) == {f"text: {n} by threshold" for n in ("oiou", "miou", "giou", "ciou")}


def test_masks_are_compared_at_the_size_of_the_target_as_segment_writes_them():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 3, (3, 1, 8, 8))).float()
    sizes = [(12, 20), (5, 7), (12, 20)]
    masks = torch.from_numpy(rng.random((3, 1, 12, 20)) < 0.4)
    inside = torch.zeros_like(masks)
    for row, (height, width) in enumerate(sizes):
        inside[row, :, :height, :width] = True
    batch = {
        "query_mask": masks & inside,
        "valid_mask": inside,
        "target_size": torch.tensor(sizes),
        "negative": torch.zeros(3, dtype=torch.bool),
    }
    protocol = GeneralReferringProtocol()
    protocol.update("text", logits, batch, torch.ones(3, dtype=torch.bool))
    items = [
        Item(
            resize(logits[row : row + 1].sigmoid(), size)[0, 0].numpy(),
            masks[row, 0, : size[0], : size[1]].numpy(),
            np.ones(size, np.bool_),
            True,
        )
        for row, size in enumerate(sizes)
    ]
    found = protocol.compute(None)
    for threshold in AT:
        for name, value in loops(items, threshold).items():
            assert found[f"text/{name}@{threshold:g}"] == pytest.approx(value), name


def test_states_are_sums_so_that_parts_add_up(coarse):
    whole, parts = ReferringCounts(), [ReferringCounts() for _ in range(3)]
    rng = torch.Generator().manual_seed(0)
    for number in range(7):
        probability = torch.rand(4, 1, 6, 6, generator=rng)
        target = torch.rand(4, 1, 6, 6, generator=rng) < 0.3
        without = torch.tensor([False, True, False, True])
        pixels = histograms(probability, target & ~without[:, None, None, None])
        for metric in (whole, parts[number % 2]):  # the third process has no batch
            metric.update(pixels, probability.flatten(1).amax(1), without)
    for name in whole._defaults:
        total = sum(getattr(part, name) for part in parts)
        torch.testing.assert_close(getattr(whole, name), total, rtol=1e-12, atol=0)
        assert whole._reductions[name] is dim_zero_sum
