"""The referring protocol: who is read how, and under which name each number appears."""

from itertools import permutations

import pytest
import torch

from clipseg_pl.metrics.functional import THRESHOLDS
from clipseg_pl.protocols.referring import ReferringProtocol

# prompts 0 and 1 name what is there, with and without a support; 2 and 3 are absent, likewise
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
    made[0, 0, :2] = NEAR_LOGIT[0.9]  # right
    made[1, 0, :2] = NEAR_LOGIT[0.9]  # 5 right, 5 wrong
    made[1, 0, 3] = NEAR_LOGIT[0.9]  # not counted
    made[2, 0, 0, 0] = NEAR_LOGIT[0.4]  # a false alarm below 0.5
    return made


def read(protocol: ReferringProtocol, logits, batch) -> None:
    for reading in protocol.readings:
        selected = protocol.selected(reading, batch)
        protocol.update(reading, logits[selected], batch, selected)


def test_text_reads_all_prompts_and_visual_those_with_supports(batch):
    protocol = ReferringProtocol()
    assert protocol.selected("text", batch).tolist() == [True] * 4
    assert protocol.selected("visual", batch).tolist() == [True, False, True, False]


@pytest.mark.parametrize("readings", [[], ["image"], ["text", "visual", "text"]])
def test_no_unknown_or_repeated_prompt_types_are_refused(readings):
    with pytest.raises(ValueError, match=r"protocol\.readings.*text, visual, blend") as refused:
        ReferringProtocol(readings)
    assert str(readings) in str(refused.value)


ORDERS = [list(order) for n in (1, 2, 3) for order in permutations(("text", "visual", "blend"), n)]


@pytest.mark.parametrize("readings", ORDERS, ids="+".join)
def test_each_prompt_type_has_numbers_of_its_own(batch, readings):
    """In any list and order, a prompt type has the numbers that it has alone."""
    logits = {reading: torch.randn(SHAPE) * 3 for reading in ("text", "visual", "blend")}

    def evaluated(types):
        protocol = ReferringProtocol(types)
        for reading in types:
            selected = protocol.selected(reading, batch)
            protocol.update(reading, logits[reading][selected], batch, selected)
        return protocol

    protocol, first = evaluated(readings), evaluated(readings[:1])
    alone = {}
    for reading in readings:
        alone |= evaluated([reading]).compute(0.3, 0.5)
    assert protocol.compute(0.3, 0.5) == alone
    assert protocol.best_threshold() == first.best_threshold()
    assert protocol.best_cut() == first.best_cut()
    assert protocol.monitor == f"{readings[0]}/miou@best" and protocol.monitor in alone


@pytest.mark.parametrize("readings", [("text",), ("visual",), ("text", "visual")])
@pytest.mark.parametrize("kept", [None, 0.44])
@pytest.mark.parametrize("cut", [None, 0.25])
def test_names_of_the_numbers(logits, batch, readings, kept, cut):
    protocol = ReferringProtocol(readings)
    read(protocol, logits, batch)
    labels = ["0.1", "0.2", "0.3", "0.5"] + ["kept"] * (kept is not None)
    names = {f"{metric}@{label}" for metric in METRICS for label in labels}
    names |= {"miou@best", "iou_fg@best", "iou_bin@best", "threshold@best"}
    names |= {"ap", "ap_exact", "prompts", "absent_prompts"}
    names |= {"presence_auc", "presence_accuracy@best", "absent_cut@best"}
    names |= {"presence_accuracy@kept"} if cut is not None else set()
    numbers = protocol.compute(kept, cut)
    assert numbers.keys() == {f"{reading}/{name}" for reading in readings for name in names}
    assert all(isinstance(value, float | int) for value in numbers.values())


def test_numbers_by_hand(logits, batch):
    protocol = ReferringProtocol()
    read(protocol, logits, batch)
    numbers = protocol.compute(0.44)
    assert numbers["text/prompts"] == 2 and numbers["visual/prompts"] == 1
    assert numbers["text/miou@0.3"] == pytest.approx((10 / 11 + 5 / 11) / 2)
    assert numbers["text/iou_fg@0.3"] == pytest.approx(15 / 21)
    assert numbers["text/iou_bin@0.3"] == pytest.approx((15 / 21 + 15 / 21) / 2)
    assert numbers["visual/miou@0.3"] == pytest.approx(10 / 11)
    assert numbers["text/absent_rate@0.3"] == 0.5 and numbers["visual/absent_rate@0.3"] == 1
    assert numbers["text/absent_area@0.3"] == pytest.approx(1 / 20 / 2)
    assert numbers["text/absent_rate@0.5"] == numbers["text/absent_rate@kept"] == 0
    # above 0.01 the ranking of positives is 15 right, 5 wrong
    assert numbers["visual/ap_exact"] == pytest.approx(1)
    assert numbers["text/ap_exact"] == pytest.approx(15 / 20)


def test_kept_threshold_reads_the_curve_there(batch):
    protocol = ReferringProtocol(["text"])
    logits = torch.rand(SHAPE).logit()
    read(protocol, logits, batch)
    for threshold in (0.1, 0.3, 0.5):
        numbers = protocol.compute(threshold)
        for metric in METRICS:
            assert numbers[f"text/{metric}@kept"] == numbers[f"text/{metric}@{threshold:g}"]
    assert protocol.compute(0.1)["text/miou@kept"] != protocol.compute(0.5)["text/miou@kept"]


def test_best_threshold_is_that_of_the_best_miou(batch):
    protocol = ReferringProtocol()
    probability = torch.full(SHAPE, 0.7)
    probability[batch["query_mask"]] = 0.75
    read(protocol, probability.logit(), batch)
    numbers = protocol.compute(protocol.best_threshold())
    assert protocol.best_threshold() == numbers["text/threshold@best"] == 0.7
    assert numbers["text/miou@best"] == numbers["text/miou@kept"] > numbers["text/miou@0.5"]
    assert round(protocol.best_threshold(), 2) in {round(float(t), 2) for t in THRESHOLDS}


def test_presence_by_hand(logits, batch):
    # by text 0.9, 0.9 and, absent, 0.4, 0.01; by visual prompt 0.9 and, absent, 0.4
    protocol = ReferringProtocol()
    read(protocol, logits, batch)
    numbers = protocol.compute(None, 0.25)
    for reading in protocol.readings:
        assert numbers[f"{reading}/presence_auc"] == 1
        assert numbers[f"{reading}/presence_accuracy@best"] == 1
        assert numbers[f"{reading}/absent_cut@best"] == pytest.approx(0.4, abs=2e-3)
    assert numbers["text/presence_accuracy@kept"] == 0.75
    assert numbers["visual/presence_accuracy@kept"] == 0.5
    assert protocol.best_cut() == numbers["text/absent_cut@best"]


def test_no_negatives_no_cut(logits, batch):
    protocol = ReferringProtocol()
    batch["negative"] = torch.zeros(4, dtype=torch.bool)
    read(protocol, logits, batch)
    assert protocol.best_cut() is None
    assert not any("presence" in name or "cut" in name for name in protocol.compute(0.3, 0.4))


def test_a_cut_leaves_all_other_numbers_as_they_are(logits, batch):
    protocol = ReferringProtocol()
    read(protocol, logits, batch)
    without, dropping = protocol.compute(0.3), protocol.compute(0.3, 1.0)
    assert dropping.keys() - without.keys() == {
        f"{reading}/presence_accuracy@kept" for reading in protocol.readings
    }
    assert all(dropping[name] == value for name, value in without.items())


def test_batches_add_up_and_reset_forgets(logits, batch):
    protocol, fresh = ReferringProtocol(), ReferringProtocol()
    read(protocol, logits.flip(0), batch)
    read(protocol, logits, batch)
    once = ReferringProtocol()
    read(once, logits, batch)
    assert protocol.compute(None) != once.compute(None)
    protocol.reset()
    read(protocol, logits, batch)
    read(fresh, logits, batch)
    assert protocol.compute(0.2) == fresh.compute(0.2)


def test_half_precision_logits_are_read_as_float32(batch):
    protocol, other = ReferringProtocol(["text"]), ReferringProtocol(["text"])
    logits = (torch.randn(SHAPE) * 3).bfloat16()
    read(protocol, logits, batch)
    read(other, logits.float(), batch)
    assert protocol.compute(None) == other.compute(None)


def test_logits_that_are_no_numbers_are_refused(logits, batch):
    logits[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="probabilities"):
        read(ReferringProtocol(), logits, batch)


def test_batch_without_supports_changes_nothing_for_visual(logits, batch):
    protocol = ReferringProtocol(["visual"])
    read(protocol, logits, batch)
    before = protocol.compute(None)
    read(protocol, logits, {**batch, "prompt_index": torch.zeros(0, dtype=torch.long)})
    assert protocol.compute(None) == before
