"""The referring protocol: selected prompts, names and values of the metrics."""

from itertools import permutations

import pytest
import torch

from clipseg_pl.metrics.functional import THRESHOLDS
from clipseg_pl.protocols.referring import ReferringProtocol

# prompts 0 and 1 are present, 2 and 3 are absent; 0 and 2 have support images
SHAPE = (4, 1, 4, 5)
METRICS = ("miou", "iou_fg", "iou_bin", "absent_rate", "absent_area")
NEAR_LOGIT = {0.9: 2.2, 0.4: -0.4, 0.01: -4.6}


@pytest.fixture
def batch() -> dict:
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[0, 0, :2] = True  # 10 pixels
    mask[1, 0, 0] = True  # 5 pixels
    valid = torch.ones_like(mask)
    valid[1, 0, 3] = False
    return {
        "query_mask": mask,
        "valid_mask": valid,
        "negative": torch.tensor([False, False, True, True]),
        "class_id": torch.full((4,), -1),
        "prompt_index": torch.tensor([0, 2, 2]),
    }


@pytest.fixture
def logits() -> torch.Tensor:
    made = torch.full(SHAPE, NEAR_LOGIT[0.01])
    made[0, 0, :2] = NEAR_LOGIT[0.9]  # 10 true positives
    made[1, 0, :2] = NEAR_LOGIT[0.9]  # 5 true and 5 false positives
    made[1, 0, 3] = NEAR_LOGIT[0.9]  # invalid
    made[2, 0, 0, 0] = NEAR_LOGIT[0.4]  # a false positive up to 0.4
    return made


def update(protocol: ReferringProtocol, logits, batch) -> None:
    for prompt_type in protocol.prompt_types:
        selected = protocol.selected(prompt_type, batch)
        protocol.update(prompt_type, logits[selected], batch, selected)


def test_text_selects_all_prompts_and_visual_those_with_supports(batch):
    protocol = ReferringProtocol()
    assert protocol.selected("text", batch).tolist() == [True] * 4
    assert protocol.selected("visual", batch).tolist() == [True, False, True, False]


@pytest.mark.parametrize("prompt_types", [[], ["image"], ["text", "visual", "text"]])
def test_missing_unknown_or_duplicate_prompt_types_raise(prompt_types):
    with pytest.raises(ValueError, match=r"protocol\.prompt_types.*text, visual, blend") as error:
        ReferringProtocol(prompt_types)
    assert str(prompt_types) in str(error.value)


ORDERS = [list(order) for n in (1, 2, 3) for order in permutations(("text", "visual", "blend"), n)]


@pytest.mark.parametrize("prompt_types", ORDERS, ids="+".join)
def test_metrics_of_a_prompt_type_do_not_depend_on_the_others(batch, prompt_types):
    """In any list and order, the metrics equal those of a protocol with one prompt type."""
    logits = {prompt_type: torch.randn(SHAPE) * 3 for prompt_type in ("text", "visual", "blend")}

    def evaluated(types):
        protocol = ReferringProtocol(types)
        for prompt_type in types:
            selected = protocol.selected(prompt_type, batch)
            protocol.update(prompt_type, logits[prompt_type][selected], batch, selected)
        return protocol

    protocol, first = evaluated(prompt_types), evaluated(prompt_types[:1])
    alone = {}
    for prompt_type in prompt_types:
        alone |= evaluated([prompt_type]).compute(0.3, 0.5)
    assert protocol.compute(0.3, 0.5) == alone
    assert protocol.best_threshold() == first.best_threshold()
    assert protocol.best_cut() == first.best_cut()
    assert protocol.monitor == f"{prompt_types[0]}/miou@best" and protocol.monitor in alone


@pytest.mark.parametrize("prompt_types", [("text",), ("visual",), ("text", "visual")])
@pytest.mark.parametrize("stored", [None, 0.44])
@pytest.mark.parametrize("cut", [None, 0.25])
def test_names_of_the_metrics(logits, batch, prompt_types, stored, cut):
    protocol = ReferringProtocol(prompt_types)
    update(protocol, logits, batch)
    labels = ["0.1", "0.2", "0.3", "0.5"] + ["stored"] * (stored is not None)
    names = {f"{metric}@{label}" for metric in METRICS for label in labels}
    names |= {"miou@best", "iou_fg@best", "iou_bin@best", "threshold@best"}
    names |= {"ap", "ap_exact", "prompts", "absent_prompts"}
    names |= {"presence_auc", "presence_accuracy@best", "absent_cut@best"}
    names |= {"presence_accuracy@stored"} if cut is not None else set()
    numbers = protocol.compute(stored, cut)
    assert numbers.keys() == {
        f"{prompt_type}/{name}" for prompt_type in prompt_types for name in names
    }
    assert all(isinstance(value, float | int) for value in numbers.values())


def test_metrics_by_hand(logits, batch):
    protocol = ReferringProtocol()
    update(protocol, logits, batch)
    numbers = protocol.compute(0.44)
    assert numbers["text/prompts"] == 2 and numbers["visual/prompts"] == 1
    assert numbers["text/miou@0.3"] == pytest.approx((10 / 11 + 5 / 11) / 2)
    assert numbers["text/iou_fg@0.3"] == pytest.approx(15 / 21)
    assert numbers["text/iou_bin@0.3"] == pytest.approx((15 / 21 + 15 / 21) / 2)
    assert numbers["visual/miou@0.3"] == pytest.approx(10 / 11)
    assert numbers["text/absent_rate@0.3"] == 0.5 and numbers["visual/absent_rate@0.3"] == 1
    assert numbers["text/absent_area@0.3"] == pytest.approx(1 / 20 / 2)
    assert numbers["text/absent_rate@0.5"] == numbers["text/absent_rate@stored"] == 0
    # 15 true and 5 false positives have a probability above 0.01
    assert numbers["visual/ap_exact"] == pytest.approx(1)
    assert numbers["text/ap_exact"] == pytest.approx(15 / 20)


def test_metrics_at_the_stored_threshold(batch):
    protocol = ReferringProtocol(["text"])
    logits = torch.rand(SHAPE).logit()
    update(protocol, logits, batch)
    for threshold in (0.1, 0.3, 0.5):
        numbers = protocol.compute(threshold)
        for metric in METRICS:
            assert numbers[f"text/{metric}@stored"] == numbers[f"text/{metric}@{threshold:g}"]
    assert protocol.compute(0.1)["text/miou@stored"] != protocol.compute(0.5)["text/miou@stored"]


def test_best_threshold_has_the_best_miou(batch):
    protocol = ReferringProtocol()
    probability = torch.full(SHAPE, 0.7)
    probability[batch["query_mask"]] = 0.75
    update(protocol, probability.logit(), batch)
    numbers = protocol.compute(protocol.best_threshold())
    assert protocol.best_threshold() == numbers["text/threshold@best"] == 0.7
    assert numbers["text/miou@best"] == numbers["text/miou@stored"] > numbers["text/miou@0.5"]
    assert round(protocol.best_threshold(), 2) in {round(float(t), 2) for t in THRESHOLDS}


def test_presence_by_hand(logits, batch):
    # scores by text: 0.9 and 0.9 (present), 0.4 and 0.01 (absent); visual: 0.9, and 0.4 (absent)
    protocol = ReferringProtocol()
    update(protocol, logits, batch)
    numbers = protocol.compute(None, 0.25)
    for prompt_type in protocol.prompt_types:
        assert numbers[f"{prompt_type}/presence_auc"] == 1
        assert numbers[f"{prompt_type}/presence_accuracy@best"] == 1
        assert numbers[f"{prompt_type}/absent_cut@best"] == pytest.approx(0.4, abs=2e-3)
    assert numbers["text/presence_accuracy@stored"] == 0.75
    assert numbers["visual/presence_accuracy@stored"] == 0.5
    assert protocol.best_cut() == numbers["text/absent_cut@best"]


def test_without_negatives_there_is_no_cut(logits, batch):
    protocol = ReferringProtocol()
    batch["negative"] = torch.zeros(4, dtype=torch.bool)
    update(protocol, logits, batch)
    assert protocol.best_cut() is None
    assert not any("presence" in name or "cut" in name for name in protocol.compute(0.3, 0.4))


def test_stored_cut_only_adds_its_accuracy(logits, batch):
    protocol = ReferringProtocol()
    update(protocol, logits, batch)
    without, with_cut = protocol.compute(0.3), protocol.compute(0.3, 1.0)
    assert with_cut.keys() - without.keys() == {
        f"{prompt_type}/presence_accuracy@stored" for prompt_type in protocol.prompt_types
    }
    assert all(with_cut[name] == value for name, value in without.items())


def test_batches_add_up_and_reset_clears_them(logits, batch):
    protocol, fresh = ReferringProtocol(), ReferringProtocol()
    update(protocol, logits.flip(0), batch)
    update(protocol, logits, batch)
    once = ReferringProtocol()
    update(once, logits, batch)
    assert protocol.compute(None) != once.compute(None)
    protocol.reset()
    update(protocol, logits, batch)
    update(fresh, logits, batch)
    assert protocol.compute(0.2) == fresh.compute(0.2)


def test_half_precision_logits_are_evaluated_in_float32(batch):
    protocol, other = ReferringProtocol(["text"]), ReferringProtocol(["text"])
    logits = (torch.randn(SHAPE) * 3).bfloat16()
    update(protocol, logits, batch)
    update(other, logits.float(), batch)
    assert protocol.compute(None) == other.compute(None)


def test_nan_logits_raise(logits, batch):
    logits[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="probabilities"):
        update(ReferringProtocol(), logits, batch)


def test_batch_without_supports_does_not_change_visual_metrics(logits, batch):
    protocol = ReferringProtocol(["visual"])
    update(protocol, logits, batch)
    before = protocol.compute(None)
    update(protocol, logits, {**batch, "prompt_index": torch.zeros(0, dtype=torch.long)})
    assert protocol.compute(None) == before
