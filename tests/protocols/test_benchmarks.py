"""Protocols of the benchmarks with classes, computed by hand."""

import pytest
import torch
from torch.nn import functional as F

from clipseg_pl.protocols.generalised import GeneralisedProtocol
from clipseg_pl.protocols.one_shot import OneShotProtocol
from clipseg_pl.protocols.zero_shot import ZeroShotProtocol
from clipseg_pl.sample import Classes

SURE = 9.0


def class_batch(masks, class_ids, sizes=None):
    """Return a batch in which every prompt has a support image, from masks (P, 1, H, W)."""
    count = len(masks)
    return {
        "query_mask": masks,
        "valid_mask": torch.ones_like(masks),
        "target_size": torch.tensor(sizes or [masks.shape[2:]] * count),
        "class_id": torch.tensor(class_ids),
        "query_image": masks[:1],
        "negative": torch.zeros(count, dtype=torch.bool),
        "prompt_index": torch.arange(count),
    }


def logits_of(masks):
    return torch.where(masks, SURE, -SURE)


def all_prompts(batch):
    return torch.ones(len(batch["class_id"]), dtype=torch.bool)


def test_one_shot_metrics_by_hand():
    target, guess = torch.zeros(2, 3, 1, 4, 4, dtype=torch.bool)
    target[0, 0, :2], guess[0, 0, :2] = True, True  # class 3: 8 of 8
    target[1, 0, :2], guess[1, 0, 2:] = True, True  # class 3 again: 0 of 8, 8 wrong
    target[2, 0, 0], guess[2, 0, :2] = True, True  # class 7: 4 of 4, 4 wrong
    batch = class_batch(target, [3, 3, 7])
    protocol = OneShotProtocol(20, ["visual"])
    protocol.classes = Classes(tuple(f"class {number}" for number in range(20)))
    protocol.update("visual", logits_of(guess), batch, all_prompts(batch))
    numbers = protocol.compute(None)
    assert numbers["visual/miou@0.3"] == pytest.approx((8 / 25 + 4 / 9) / 2)
    assert numbers["visual/iou_fg@0.3"] == pytest.approx(12 / 33)
    assert protocol.monitor in numbers
    report = protocol.report(None)
    assert report["visual: iou@0.3 by class"] == pytest.approx(
        {"class 3": 8 / 25, "class 7": 4 / 9}
    )
    sizes = report["visual: mean iou@0.3 by share of the image"]
    assert sizes == pytest.approx({"above 20 %": (8 / 9 + 0 + 4 / 9) / 3})
    assert report["visual: recall by threshold"]["0.50"] == pytest.approx(12 / 20)
    assert report["visual: precision by threshold"]["0.50"] == pytest.approx(12 / 24)


def test_one_shot_is_evaluated_at_the_size_of_each_target():
    """The result equals that of single prompts with unpadded masks and resized probabilities."""
    torch.manual_seed(1)
    logits, sizes = torch.randn(3, 1, 4, 4), [(9, 9), (6, 6), (9, 9)]
    masks = [torch.rand(1, 1, *size) > 0.5 for size in sizes]
    padded = torch.cat([F.pad(m, (0, 9 - m.shape[3], 0, 9 - m.shape[2])) for m in masks])
    batch = class_batch(padded, [0, 1, 1], sizes)
    batch["valid_mask"] = torch.cat(
        [F.pad(torch.ones_like(m), (0, 9 - m.shape[3], 0, 9 - m.shape[2])) for m in masks]
    )
    together, alone = OneShotProtocol(2, ["text"]), OneShotProtocol(2, ["text"])
    together.update("text", logits, batch, all_prompts(batch))
    for logit, mask, class_id, size in zip(logits, masks, [0, 1, 1], sizes, strict=True):
        p = F.interpolate(logit[None].sigmoid(), size, mode="bilinear", align_corners=True)
        single = class_batch(mask, [class_id], [size])
        alone.update("text", torch.logit(p), single, all_prompts(single))
    assert together.compute(0.4) == pytest.approx(alone.compute(0.4), rel=1e-4)


def zero_shot_batch(labels):
    masks = torch.stack([labels == number for number in range(3)])[:, None]
    return class_batch(masks, [0, 1, 2])


def test_zero_shot_metrics_and_background_factor_by_hand():
    labels = torch.tensor([[0, 1], [2, 2]])
    probability = torch.tensor(
        [[[0.25, 0.25], [0.25, 0.1]], [[0.7, 0.8], [0.1, 0.1]], [[0.1, 0.1], [0.76, 0.2]]]
    )
    protocol = ZeroShotProtocol(num_classes=3)
    protocol.classes = Classes(("background", "dog", "cat"), frozenset({2}))
    batch = zero_shot_batch(labels)
    batch["valid_mask"][:, 0, 1, 0] = False
    protocol.update("text", torch.logit(probability)[:, None], batch, all_prompts(batch))
    # background: 0.75, 0.75, 0.75, 0.3; predictions: background, dog, (ignored), background
    numbers = protocol.compute(None)
    assert numbers["text/miou_seen"] == pytest.approx((1 / 2 + 1) / 2)
    assert numbers["text/miou_unseen"] == 0 and numbers["text/miou_harmonic"] == 0
    assert protocol.report(None)["text: iou by class"]["dog"] == 1
    assert protocol.best_threshold() is None and protocol.monitor == "text/miou_seen"


@pytest.mark.parametrize("class_ids", [[1, 0, 2], [0, 1], [0, 1, 2, 0]])
def test_zero_shot_without_all_classes_in_order_raises(class_ids):
    batch = zero_shot_batch(torch.zeros(2, 2)) | {"class_id": torch.tensor(class_ids)}
    protocol = ZeroShotProtocol(num_classes=3)
    with pytest.raises(ValueError, match="one prompt per class"):
        protocol.update("text", torch.zeros(len(class_ids), 1, 2, 2), batch, all_prompts(batch))


@pytest.mark.parametrize("class_id", [-1, 20])
def test_one_shot_with_unknown_classes_raises(class_id):
    batch = class_batch(torch.zeros(1, 1, 2, 2, dtype=torch.bool), [class_id])
    with pytest.raises(ValueError, match="has 20 classes, but the data has other ids"):
        OneShotProtocol(20, ["text"]).update(
            "text", torch.zeros(1, 1, 2, 2), batch, all_prompts(batch)
        )


def test_generalised_metrics_of_groups_by_hand():
    target = torch.zeros(3, 1, 2, 5, dtype=torch.bool)
    target[:, :, 0] = True
    guess = target.clone()
    guess[1] = True
    batch = class_batch(target, [-1, -1, -1]) | {"phrase": ["sit on", "ride on", "has legs"]}
    protocol = GeneralisedProtocol()
    protocol.update("text", logits_of(guess), batch, all_prompts(batch))
    numbers = protocol.compute(None)
    assert numbers["text/affordances/iou_fg@best"] == pytest.approx(10 / 16)
    assert numbers["text/parts/iou_fg@best"] == pytest.approx(5 / 6)
    assert numbers["text/attributes/prompts"] == 0
    assert protocol.monitor in numbers
