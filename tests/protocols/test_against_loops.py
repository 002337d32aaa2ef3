"""Every number of every protocol against plain loops, batch after batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipseg_pl.protocols.generalised import GROUPS, GeneralisedProtocol
from clipseg_pl.protocols.one_shot import OneShotProtocol
from clipseg_pl.protocols.referring import ReferringProtocol
from clipseg_pl.protocols.zero_shot import ZeroShotProtocol
from clipseg_pl.sample import Classes
from tests.protocols import plain
from tests.protocols.plain import Asked

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")  # of no prompts


def steady(logits):
    """Those with one sigmoid: torch rounds the last few of a tensor otherwise than the others."""
    alone = torch.stack([logit.sigmoid() for logit in logits])
    return logits[alone == logits[:, None].repeat(1, 64).sigmoid()[:, 0]]


def tie_logits():
    """Logits whose probability is exactly a threshold; some thresholds have none in float32."""
    found = []
    for threshold in torch.tensor(plain.THRESHOLDS):
        near = torch.logit(threshold.double()).float()
        steps = near.view(torch.int32) + torch.arange(-64, 65, dtype=torch.int32)
        around = steady(steps.view(torch.float32))
        alone = torch.stack([logit.sigmoid() for logit in around])
        found.append(around[alone == threshold][:1])
    return torch.cat(found)


TIES = tie_logits()
ENDS = torch.tensor([-torch.inf, torch.inf, -14.0, 14.0])
BETWEEN = steady(torch.arange(-6, 6, 0.01))
# further apart than the levels of the exact AP, so that it is exact
BETWEEN = BETWEEN[(BETWEEN[:, None] - TIES).abs().amin(1) > 0.002]
batches = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=3
)
seeds = st.integers(0, 2**32 - 1)
# one thing is nearest to it
clear = st.floats(0, 1).filter(lambda threshold: abs(threshold * 50 % 1 - 0.5) > 1e-4)
kept = st.none() | st.sampled_from(plain.THRESHOLDS) | clear


def test_most_thresholds_can_be_met_exactly():
    assert len(TIES) >= 30


def draw_logits(rng, count, height, width):
    """(count, 1, height, width): mixtures, one value only, nothing but ties or ends."""
    mixed = torch.cat([TIES, ENDS.repeat(4), BETWEEN[rng.integers(len(BETWEEN), size=40)]])
    made = []
    for _ in range(count):
        pool = (mixed, mixed, TIES, ENDS, mixed[rng.integers(len(mixed), size=1)])[rng.integers(5)]
        made.append(pool[rng.integers(len(pool), size=(1, height, width))])
    return torch.stack(made) if made else torch.zeros(0, 1, height, width)


def draw_masks(rng, count, height, width):
    """(count, 1, height, width) bool, some of them empty or full."""
    share = rng.choice([0, 0.02, 0.3, 0.8, 1], size=(count, 1, 1, 1))
    return torch.from_numpy(rng.random((count, 1, height, width)) < share)


def draw_batch(rng, count, height, width, classes=1):
    """As the contract has it: an absent prompt has an empty mask."""
    negative = torch.from_numpy(rng.random(count) < 0.4)
    target = draw_masks(rng, count, height, width) & ~negative[:, None, None, None]
    valid = draw_masks(rng, count, height, width)
    if rng.random() < 0.3:
        valid[:] = True
    return {
        "query_mask": target,
        "valid_mask": valid,
        "target_size": torch.tensor([[height, width]] * count).view(count, 2),
        "class_id": torch.from_numpy(rng.integers(classes, size=count)),
        "negative": negative,
        "prompt_index": torch.from_numpy(np.sort(rng.integers(max(1, count), size=count))),
    }


def asked(logits, batch, rows):
    """The prompts of some rows, as the plain loops take them."""
    probability = logits.sigmoid()
    return [
        Asked(
            probability[row, 0].numpy(),
            batch["query_mask"][row, 0].numpy(),
            batch["valid_mask"][row, 0].numpy(),
            int(batch["class_id"][row]),
        )
        for row in rows
    ]


def assert_same(found, wanted, rel=1e-9):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=rel, abs=1e-12), name


def assert_same_tables(found, wanted):
    assert found.keys() == wanted.keys()
    for title, table in wanted.items():
        assert_same(found[title], table, rel=1e-6)  # precision and recall are float32


def named(reading, numbers):
    return {f"{reading}/{name}": value for name, value in numbers.items()}


def titled(reading, tables):
    return {f"{reading}: {title}": table for title, table in tables.items()}


@settings(deadline=None)
@given(batches, seeds, kept, st.none() | st.floats(0, 1))
def test_referring(sizes, seed, threshold, cut):
    rng, protocol = np.random.default_rng(seed), ReferringProtocol()
    seen = {reading: ([], []) for reading in protocol.readings}
    for size in sizes:
        batch = draw_batch(rng, *size)
        for reading, (present, absent) in seen.items():
            selected = protocol.selected(reading, batch)
            logits = draw_logits(rng, *size)
            protocol.update(reading, logits[selected], batch, selected)
            rows = set(range(size[0]))
            if reading == "visual":
                rows &= set(batch["prompt_index"].tolist())
            gone = {row for row in rows if batch["negative"][row]}
            present += asked(logits, batch, sorted(rows - gone))
            absent += asked(logits, batch, sorted(gone))
    numbers, tables = {}, {}
    for reading, (present, absent) in seen.items():
        numbers |= named(reading, plain.overlap(present, threshold, with_classes=False))
        numbers |= named(reading, plain.absent(absent, threshold))
        numbers |= named(reading, plain.presence(present, absent, cut))
        tables |= titled(reading, plain.report(present, threshold, []))
    assert_same(protocol.compute(threshold, cut), numbers)
    assert_same_tables(protocol.report(threshold), tables)


@settings(deadline=None)
@given(batches, seeds, kept)
def test_one_shot(sizes, seed, threshold):
    rng, protocol = np.random.default_rng(seed), OneShotProtocol(4)
    protocol.classes = Classes(("dog", "cat", "cow", "bus"))
    seen = {reading: [] for reading in protocol.readings}
    for size in sizes:
        batch = draw_batch(rng, *size, classes=4)
        for reading, prompts in seen.items():
            selected = protocol.selected(reading, batch)
            logits = draw_logits(rng, *size)
            protocol.update(reading, logits[selected], batch, selected)
            prompts += asked(logits, batch, selected.nonzero()[:, 0].tolist())
    numbers, tables = {}, {}
    for reading, prompts in seen.items():
        numbers |= named(reading, plain.overlap(prompts, threshold, with_classes=True))
        tables |= titled(reading, plain.report(prompts, threshold, protocol.classes.names))
    assert_same(protocol.compute(threshold), numbers)
    assert_same_tables(protocol.report(threshold), tables)


def enlarged(probability, height, width):
    """Bilinear with aligned corners, in float64: the corners of both grids meet."""
    rows, columns = np.arange(probability.shape[0]), np.arange(probability.shape[1])
    right, down = np.linspace(0, columns[-1], width), np.linspace(0, rows[-1], height)
    wide = np.stack([np.interp(right, columns, line) for line in probability])
    return np.stack([np.interp(down, rows, line) for line in wide.T], 1)


def test_one_shot_at_the_targets_own_sizes():
    """Rectangles that share a side; probabilities so drawn that none comes near a threshold."""
    rng, protocol = np.random.default_rng(0), OneShotProtocol(3, ["text"])
    sizes, prompts = [(9, 7), (9, 12), (5, 12), (9, 7), (9, 9)], []
    logits = torch.from_numpy(rng.normal(0, 2, (5, 1, 4, 5))).float()
    batch = draw_batch(rng, 5, 9, 12, classes=3) | {"target_size": torch.tensor(sizes)}
    batch["query_mask"], batch["valid_mask"] = (torch.rand(5, 1, 9, 12) < p for p in (0.4, 0.8))
    for row, (height, width) in enumerate(sizes):
        part = row, 0, slice(height), slice(width)
        probability = enlarged(logits[row, 0].sigmoid().double().numpy(), height, width)
        assert all(np.abs(probability - t).min() > 1e-6 for t in plain.THRESHOLDS)
        masks = (batch[key][part].numpy() for key in ("query_mask", "valid_mask"))
        prompts.append(Asked(probability, *masks, int(batch["class_id"][row])))
    protocol.update("text", logits, batch, torch.ones(5, dtype=torch.bool))
    numbers = plain.overlap(prompts, 0.4, with_classes=True)
    assert_same(protocol.compute(0.4), named("text", numbers), rel=1e-4)  # exact AP has levels


@settings(deadline=None)
@given(batches, seeds, kept)
def test_generalised(sizes, seed, threshold):
    rng, protocol = np.random.default_rng(seed), GeneralisedProtocol()
    phrases = [*(phrase for group in GROUPS.values() for phrase in group), "dog", "sit"]
    seen = {group: [] for group in GROUPS}
    for size in sizes:
        batch, logits = draw_batch(rng, *size), draw_logits(rng, *size)
        batch["phrase"] = rng.choice(phrases, size=size[0]).tolist()
        protocol.update("text", logits, batch, protocol.selected("text", batch))
        for group, prompts in seen.items():
            rows = [row for row in range(size[0]) if batch["phrase"][row] in GROUPS[group]]
            prompts += asked(logits, batch, rows)
    numbers, tables = {}, {}
    for group, prompts in seen.items():
        name = f"text/{group}"
        numbers |= named(name, plain.overlap(prompts, threshold, with_classes=False))
        tables |= titled(name, plain.report(prompts, threshold, []))
    assert_same(protocol.compute(threshold), numbers)
    assert_same_tables(protocol.report(threshold), tables)


@settings(deadline=None)
@given(
    batches,
    seeds,
    st.sampled_from([3.0, 1.0, 0.5]),
    st.sets(st.integers(0, 4), min_size=1, max_size=4),
)
def test_zero_shot(sizes, seed, factor, unseen):
    rng, count = np.random.default_rng(seed), 5
    protocol = ZeroShotProtocol(factor, count)
    protocol.classes = Classes(("background", "dog", "cat", "cow", "bus"), frozenset(unseen))
    probabilities, labels = [], []
    for images, height, width in sizes:
        logits = draw_logits(rng, images * count, height, width)
        label = torch.from_numpy(rng.integers(-1, count, (images, 1, height, width)))
        masks = (label == torch.arange(count)[:, None, None]).view(-1, 1, height, width)
        batch = {
            "query_image": torch.zeros(images, 3, height, width, dtype=torch.uint8),
            "query_mask": masks,
            "valid_mask": (label >= 0).repeat_interleave(count, 0),
            "class_id": torch.arange(count).repeat(images),
        }
        protocol.update("text", logits, batch, torch.ones(images * count, dtype=torch.bool))
        by_image = logits.sigmoid().view(images, count, height * width)
        probabilities += [image.numpy() for image in by_image]
        labels += [image.ravel().numpy() for image in label]
    joined = np.concatenate(probabilities, 1) if probabilities else np.zeros((count, 0))
    labels = np.concatenate(labels) if labels else np.zeros(0, int)
    numbers, ious = plain.zero_shot(joined, labels, unseen, factor)
    assert_same(protocol.compute(None), numbers)
    table = dict(zip(protocol.classes.names, ious, strict=True))
    assert_same_tables(protocol.report(None), {"text: iou by class": table})
