"""The protocol of own data: Dice, groups of prompts and thresholds of classes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import Metric

from clipseg_pl.protocols.own_data import OwnDataProtocol, brightness_group, object_group
from clipseg_pl.protocols.referring import ReferringProtocol
from clipseg_pl.sample import Classes
from tests.protocols import plain
from tests.protocols.test_against_loops import (
    assert_same,
    assert_same_tables,
    batches,
    evaluated,
    named,
    sample_batch,
    sample_logits,
    seeds,
    stored,
    titled,
)

NAMES = ("crack", "joint", "water stain", "hole")
FOUR = Classes(NAMES, phrasings=(("crack", "Wall  Crack"), ("joint",), ("water stain",), ("hole",)))


def sample_own(rng, count, height, width):
    """Sample a batch of one prompt for each image; some images are uniform."""
    images = rng.integers(0, 256, (count, 3, height, width), dtype=np.uint8)
    for image in images[rng.random(count) < 0.7]:
        image[:] = rng.choice([0, 84, 85, 86, 170, 171, 255])
    batch = sample_batch(rng, count, height, width, classes=len(NAMES))
    order = torch.from_numpy(rng.permutation(count))
    return {**batch, "query_image": torch.from_numpy(images), "query_index": order}


def update(protocol, logits, batch):
    for prompt_type in protocol.prompt_types:
        selected = protocol.selected(prompt_type, batch)
        protocol.update(prompt_type, logits[prompt_type][selected], batch, selected)


def sampled(rng, sizes, prompt_types):
    """Sample batches with the logits of each prompt type."""
    made = []
    for size in sizes:
        batch = sample_own(rng, *size)
        made.append(({name: sample_logits(rng, *size) for name in prompt_types}, batch))
    return made


@settings(deadline=None, max_examples=20)
@given(
    batches,
    seeds,
    stored,
    st.booleans(),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(plain.THRESHOLDS)),
)
def test_own_data_equals_loops(sizes, seed, threshold, with_classes, of_classes):
    rng, protocol = np.random.default_rng(seed), OwnDataProtocol()
    protocol.classes = FOUR if with_classes else Classes()
    protocol.class_thresholds = of_classes
    seen = {prompt_type: ([], []) for prompt_type in protocol.prompt_types}
    for logits, batch in sampled(rng, sizes, protocol.prompt_types):
        update(protocol, logits, batch)
        for prompt_type, (present, absent) in seen.items():
            rows = protocol.selected(prompt_type, batch).nonzero()[:, 0].tolist()
            prompts = evaluated(logits[prompt_type], batch, rows)
            for row, prompt in zip(rows, prompts, strict=True):
                prompt.image = batch["query_image"][batch["query_index"][row]].numpy()
                (absent if batch["negative"][row] else present).append(prompt)
    names, numbers, tables = NAMES if with_classes else (), {}, {}
    for prompt_type, (present, absent) in seen.items():
        own = plain.own_data(present, threshold, names, of_classes if with_classes else {})
        curves = plain.report(present, threshold, ())
        curves = {title: curve for title, curve in curves.items() if "by threshold" in title}
        numbers |= named(prompt_type, plain.overlap(present, threshold, with_classes=False))
        numbers |= named(prompt_type, plain.absent(absent, threshold) | own[0])
        numbers |= named(prompt_type, plain.presence(present, absent, None))
        tables |= titled(prompt_type, curves | own[1])
    assert_same(protocol.compute(threshold), numbers)
    assert_same_tables(protocol.report(threshold), tables)
    best = plain.best_by_class(seen["text"][0], names)
    wanted = best | ({"wall crack": best["crack"]} if "crack" in best else {})
    assert protocol.best_class_thresholds() == wanted


def states(protocol):
    """Return the metrics of a protocol with the names of their states."""
    metrics = [module for module in protocol.modules() if isinstance(module, Metric)]
    return [(metric, name) for metric in metrics for name in metric._defaults]


def test_sums_over_ranks_equal_one_process():
    """Torchmetrics merges ranks by the reduction of each state, which is a sum for all of them."""
    rng, sizes = np.random.default_rng(3), [(6, 5, 7), (1, 4, 4), (5, 6, 6), (4, 5, 5)]
    ranks, whole = [OwnDataProtocol(), OwnDataProtocol()], OwnDataProtocol()
    for protocol in (*ranks, whole):
        protocol.classes, protocol.class_thresholds = FOUR, {"crack": 0.2, "hole": 0.7}
    for number, (logits, batch) in enumerate(sampled(rng, sizes, whole.prompt_types)):
        update(whole, logits, batch)
        update(ranks[number % 2], logits, batch)
    for (first, name), (second, _) in zip(*map(states, ranks), strict=True):
        assert first._reductions[name] is not None
        setattr(
            first,
            name,
            first._reductions[name](torch.stack([getattr(first, name), getattr(second, name)])),
        )
    assert_same(ranks[0].compute(0.4, 0.3), whole.compute(0.4, 0.3), rel=1e-12)
    assert_same_tables(ranks[0].report(0.4), whole.report(0.4))
    assert ranks[0].best_class_thresholds() == whole.best_class_thresholds()


@pytest.fixture
def batch():
    """Two present prompts about a dark and a bright image, and an absent one."""
    mask = torch.zeros(3, 1, 4, 5, dtype=torch.bool)
    mask[0, 0, :2] = True  # 10 pixels, one object
    mask[1, 0, 0, [0, 4]] = True  # two objects
    valid = torch.ones_like(mask)
    valid[0, 0, 3] = False
    image = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    image[1] = 200
    return {
        "query_image": image,
        "query_index": torch.tensor([0, 1, 1]),
        "query_mask": mask,
        "valid_mask": valid,
        "negative": torch.tensor([False, False, True]),
        "class_id": torch.tensor([0, 1, 3]),
        "prompt_index": torch.zeros(0, dtype=torch.long),
    }


@pytest.fixture
def logits():
    probability = torch.full((3, 1, 4, 5), 0.01)
    probability[0, 0, :3] = 0.29  # 10 true and 5 false positives below 0.29, none above
    probability[0, 0, :2] = 0.45  # 10 true positives below 0.45, none above
    probability[0, 0, 3] = 0.9  # ignored
    probability[1, 0, 0, 0] = 0.65  # one true positive below 0.65, none above
    probability[1, 0, 3, :3] = 0.55  # 3 false positives below 0.55
    return {"text": probability.logit()}


def test_metrics_by_hand(batch, logits):
    protocol = OwnDataProtocol(["text"])
    protocol.classes = FOUR
    update(protocol, logits, batch)
    protocol.class_thresholds = protocol.best_class_thresholds()
    assert protocol.class_thresholds == {"crack": 0.3, "wall crack": 0.3, "joint": 0.56}
    numbers = protocol.compute(0.42)
    first, second, alone = (10 / 11, 20 / 21), (1 / 6, 2 / 7), (1 / 3, 2 / 4)  # IoU and Dice
    assert numbers["text/miou@stored"] == pytest.approx((first[0] + second[0]) / 2)
    assert numbers["text/dice@stored"] == pytest.approx((first[1] + second[1]) / 2)
    assert numbers["text/dice@0.5"] == pytest.approx(second[1] / 2)
    assert numbers["text/miou@class"] == pytest.approx((first[0] + alone[0]) / 2)
    assert numbers["text/dice@class"] == pytest.approx((first[1] + alone[1]) / 2)
    report = protocol.report(0.42)
    tables = {
        "miou@0.5 by class": {"crack": 0, "joint": second[0]},
        "dice@class by class": {"crack": first[1], "joint": alone[1]},
        "miou@best by class": {"crack": first[0], "joint": alone[0]},
        "best threshold by class": {"crack": 0.3, "joint": 0.56},
        "stored threshold by class": {"crack": 0.3, "joint": 0.56},
        "prompts by class": {"crack": 1, "joint": 1},
        "miou@0.5 by brightness": {"dark (to 85)": 0, "bright (above 170)": second[0]},
        "miou@0.42 by brightness": {"dark (to 85)": first[0], "bright (above 170)": second[0]},
        "dice@0.42 by number of objects": {"1": first[1], "2": second[1]},
        "miou@0.42 by share of the image": {"above 20 %": first[0], "5 to 10 %": second[0]},
    }
    for title, table in tables.items():
        assert report[f"text: {title}"] == pytest.approx(table), title


def test_class_that_is_never_hit_gets_no_threshold(batch, logits):
    """Its IoU is 0 at every threshold, so none of them is the best."""
    protocol = OwnDataProtocol(["text"])
    protocol.classes = FOUR
    missed = logits["text"].clone()
    missed[0] = -20.0  # the crack
    update(protocol, {"text": missed}, batch)
    protocol.class_thresholds = protocol.best_class_thresholds()
    assert protocol.class_thresholds == {"joint": 0.56}
    report = protocol.report(0.42)
    assert report["text: best threshold by class"] == {"joint": 0.56}
    assert report["text: miou@best by class"] == {"crack": 0, "joint": pytest.approx(1 / 3)}


def test_best_dice_is_that_of_the_threshold_with_the_best_miou():
    """Dice is best below 0.39, where both prompts are half right; mIoU is best above it."""
    mask, probability = (
        torch.zeros(2, 1, 1, 100, dtype=torch.bool),
        torch.full((2, 1, 1, 100), 0.01),
    )
    mask[0, ..., :50] = mask[1, ..., :40] = True
    probability[0, ..., :99] = probability[1, ..., :79] = 0.39
    probability[0, ..., :50] = probability[1, ..., :3] = 0.59
    batch = {
        "query_image": torch.zeros(2, 3, 1, 100, dtype=torch.uint8),
        "query_index": torch.arange(2),
        "query_mask": mask,
        "valid_mask": torch.ones_like(mask),
        "negative": torch.zeros(2, dtype=torch.bool),
        "class_id": torch.tensor([-1, -1]),
        "prompt_index": torch.zeros(0, dtype=torch.long),
    }
    protocol = OwnDataProtocol(["text"])
    update(protocol, {"text": probability.logit()}, batch)
    numbers = protocol.compute(None)
    assert numbers["text/threshold@best"] == 0.4
    assert numbers["text/miou@best"] == pytest.approx((50 / 51 + 3 / 41) / 2)
    assert numbers["text/dice@best"] == pytest.approx((100 / 101 + 6 / 44) / 2)
    assert numbers["text/dice@0.3"] == pytest.approx((100 / 150 + 80 / 120) / 2)


def test_single_class(batch, logits):
    protocol = OwnDataProtocol(["text"])
    protocol.classes = Classes(("crack",))
    batch["class_id"] = torch.zeros_like(batch["class_id"])
    update(protocol, logits, batch)
    protocol.class_thresholds = protocol.best_class_thresholds()
    numbers, report = protocol.compute(0.42), protocol.report(0.42)
    assert report["text: prompts by class"] == {"crack": 2}
    assert report["text: miou@stored by class"]["crack"] == numbers["text/miou@stored"]
    assert report["text: miou@class by class"]["crack"] == numbers["text/miou@class"]


def test_thresholds_of_classes_that_are_not_evaluated_add_nothing(batch, logits):
    protocol = OwnDataProtocol(["text"])
    protocol.classes, protocol.class_thresholds = FOUR, {"brick": 0.2}
    update(protocol, logits, batch)
    assert not any("class" in name for name in protocol.compute(0.4))
    assert "text: stored threshold by class" not in protocol.report(0.4)


def test_paper_metrics_do_not_change(batch, logits):
    """`ReferringProtocol` gives the same values under the same names."""
    own, paper = OwnDataProtocol(["text"]), ReferringProtocol(["text"])
    own.classes = paper.classes = FOUR
    for protocol in (own, paper):
        update(protocol, logits, batch)
    numbers, wanted = own.compute(0.4, 0.5), paper.compute(0.4, 0.5)
    assert {name: numbers[name] for name in wanted} == wanted
    assert all(name.startswith("text/dice@") for name in numbers.keys() - wanted.keys())
    assert own.best_threshold() == paper.best_threshold() and own.best_cut() == paper.best_cut()
    assert paper.best_class_thresholds() == {}


def test_without_present_prompts_there_are_no_thresholds(batch, logits):
    protocol = OwnDataProtocol(["text"])
    protocol.classes = FOUR
    update(protocol, logits, batch | {"negative": torch.ones(3, dtype=torch.bool)})
    assert protocol.best_class_thresholds() == {} and protocol.report(0.4) == {}
    assert not any("dice" in name for name in protocol.compute(0.4))


def test_reset_clears_the_groups(batch, logits):
    protocol, fresh = OwnDataProtocol(["text"]), OwnDataProtocol(["text"])
    for one in (protocol, fresh):
        one.classes = FOUR
    update(protocol, {"text": -logits["text"]}, batch)
    protocol.reset()
    for one in (protocol, fresh):
        update(one, logits, batch)
    assert protocol.report(0.4) == fresh.report(0.4)
    assert protocol.compute(0.4) == fresh.compute(0.4)


def test_brightness_weighs_the_channels_as_grey_images_do():
    green, blue = (torch.zeros(1, 3, 2, 2, dtype=torch.uint8) for _ in range(2))
    green[:, 1], blue[:, 2] = 255, 255  # 150 and 29
    assert brightness_group(torch.cat([green, blue])).tolist() == [1, 0]


def test_parts_that_share_a_corner_are_one_object():
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, [0, 1], [0, 1]] = True
    masks[1, [0, 2], [0, 2]] = True
    assert object_group(masks).tolist() == [1, 2, 0]
