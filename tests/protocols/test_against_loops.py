"""All metrics of all protocols, compared with plain loops over random batches."""

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
from tests.protocols.plain import EvaluatedPrompt

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")  # without prompts


def steady(logits):
    """Keep the logits whose sigmoid is the same at every position of a tensor.

    torch computes the last few elements of a tensor with other instructions than the rest.
    """
    alone = torch.stack([logit.sigmoid() for logit in logits])
    return logits[alone == logits[:, None].repeat(1, 64).sigmoid()[:, 0]]


def tie_logits():
    """Return logits whose float32 probability equals a threshold; not all thresholds have one."""
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
# the spacing exceeds that of the levels of the exact AP, so its result is exact
BETWEEN = BETWEEN[(BETWEEN[:, None] - TIES).abs().amin(1) > 0.002]
batches = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=3
)
seeds = st.integers(0, 2**32 - 1)
# not halfway between two of the 49 thresholds
clear = st.floats(0, 1).filter(lambda threshold: abs(threshold * 50 % 1 - 0.5) > 1e-4)
stored = st.none() | st.sampled_from(plain.THRESHOLDS) | clear


def test_most_thresholds_have_a_logit():
    assert len(TIES) >= 30


def sample_logits(rng, count, height, width):
    """Sample logits (count, 1, height, width): mixed, a single value, or only ties or ends."""
    mixed = torch.cat([TIES, ENDS.repeat(4), BETWEEN[rng.integers(len(BETWEEN), size=40)]])
    made = []
    for _ in range(count):
        pool = (mixed, mixed, TIES, ENDS, mixed[rng.integers(len(mixed), size=1)])[rng.integers(5)]
        made.append(pool[rng.integers(len(pool), size=(1, height, width))])
    return torch.stack(made) if made else torch.zeros(0, 1, height, width)


def sample_masks(rng, count, height, width):
    """Sample masks (count, 1, height, width) bool, some of them empty or full."""
    share = rng.choice([0, 0.02, 0.3, 0.8, 1], size=(count, 1, 1, 1))
    return torch.from_numpy(rng.random((count, 1, height, width)) < share)


def sample_batch(rng, count, height, width, classes=1):
    """Sample a batch; negatives have empty masks."""
    negative = torch.from_numpy(rng.random(count) < 0.4)
    target = sample_masks(rng, count, height, width) & ~negative[:, None, None, None]
    valid = sample_masks(rng, count, height, width)
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


def evaluated(logits, batch, rows):
    """Return the prompts of some rows for the plain loops."""
    probability = logits.sigmoid()
    return [
        EvaluatedPrompt(
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


def named(prompt_type, numbers):
    return {f"{prompt_type}/{name}": value for name, value in numbers.items()}


def titled(prompt_type, tables):
    return {f"{prompt_type}: {title}": table for title, table in tables.items()}


@settings(deadline=None)
@given(batches, seeds, stored, st.none() | st.floats(0, 1))
def test_referring_equals_loops(sizes, seed, threshold, cut):
    rng, protocol = np.random.default_rng(seed), ReferringProtocol()
    seen = {prompt_type: ([], []) for prompt_type in protocol.prompt_types}
    for size in sizes:
        batch = sample_batch(rng, *size)
        for prompt_type, (present, absent) in seen.items():
            selected = protocol.selected(prompt_type, batch)
            logits = sample_logits(rng, *size)
            protocol.update(prompt_type, logits[selected], batch, selected)
            rows = set(range(size[0]))
            if prompt_type == "visual":
                rows &= set(batch["prompt_index"].tolist())
            negative = {row for row in rows if batch["negative"][row]}
            present += evaluated(logits, batch, sorted(rows - negative))
            absent += evaluated(logits, batch, sorted(negative))
    numbers, tables = {}, {}
    for prompt_type, (present, absent) in seen.items():
        numbers |= named(prompt_type, plain.overlap(present, threshold, with_classes=False))
        numbers |= named(prompt_type, plain.absent(absent, threshold))
        numbers |= named(prompt_type, plain.presence(present, absent, cut))
        tables |= titled(prompt_type, plain.report(present, threshold, []))
    assert_same(protocol.compute(threshold, cut), numbers)
    assert_same_tables(protocol.report(threshold), tables)


@settings(deadline=None)
@given(batches, seeds, stored)
def test_one_shot_equals_loops(sizes, seed, threshold):
    rng, protocol = np.random.default_rng(seed), OneShotProtocol(4)
    protocol.classes = Classes(("dog", "cat", "cow", "bus"))
    seen = {prompt_type: [] for prompt_type in protocol.prompt_types}
    for size in sizes:
        batch = sample_batch(rng, *size, classes=4)
        for prompt_type, prompts in seen.items():
            selected = protocol.selected(prompt_type, batch)
            logits = sample_logits(rng, *size)
            protocol.update(prompt_type, logits[selected], batch, selected)
            prompts += evaluated(logits, batch, selected.nonzero()[:, 0].tolist())
    numbers, tables = {}, {}
    for prompt_type, prompts in seen.items():
        numbers |= named(prompt_type, plain.overlap(prompts, threshold, with_classes=True))
        tables |= titled(prompt_type, plain.report(prompts, threshold, protocol.classes.names))
    assert_same(protocol.compute(threshold), numbers)
    assert_same_tables(protocol.report(threshold), tables)


def enlarged(probability, height, width):
    """Resize in float64, bilinear with aligned corners."""
    rows, columns = np.arange(probability.shape[0]), np.arange(probability.shape[1])
    right, down = np.linspace(0, columns[-1], width), np.linspace(0, rows[-1], height)
    wide = np.stack([np.interp(right, columns, line) for line in probability])
    return np.stack([np.interp(down, rows, line) for line in wide.T], 1)


def test_one_shot_with_targets_of_different_sizes_equals_loops():
    """Some targets share a side. No probability is close to a threshold."""
    rng, protocol = np.random.default_rng(0), OneShotProtocol(3, ["text"])
    sizes, prompts = [(9, 7), (9, 12), (5, 12), (9, 7), (9, 9)], []
    logits = torch.from_numpy(rng.normal(0, 2, (5, 1, 4, 5))).float()
    batch = sample_batch(rng, 5, 9, 12, classes=3) | {"target_size": torch.tensor(sizes)}
    batch["query_mask"], batch["valid_mask"] = (torch.rand(5, 1, 9, 12) < p for p in (0.4, 0.8))
    for row, (height, width) in enumerate(sizes):
        part = row, 0, slice(height), slice(width)
        probability = enlarged(logits[row, 0].sigmoid().double().numpy(), height, width)
        assert all(np.abs(probability - t).min() > 1e-6 for t in plain.THRESHOLDS)
        masks = (batch[key][part].numpy() for key in ("query_mask", "valid_mask"))
        prompts.append(EvaluatedPrompt(probability, *masks, int(batch["class_id"][row])))
    protocol.update("text", logits, batch, torch.ones(5, dtype=torch.bool))
    numbers = plain.overlap(prompts, 0.4, with_classes=True)
    assert_same(
        protocol.compute(0.4), named("text", numbers), rel=1e-4
    )  # scores of the exact AP are quantised


@settings(deadline=None)
@given(batches, seeds, stored)
def test_generalised_equals_loops(sizes, seed, threshold):
    rng, protocol = np.random.default_rng(seed), GeneralisedProtocol()
    phrases = [*(phrase for group in GROUPS.values() for phrase in group), "dog", "sit"]
    seen = {group: [] for group in GROUPS}
    for size in sizes:
        batch, logits = sample_batch(rng, *size), sample_logits(rng, *size)
        batch["phrase"] = rng.choice(phrases, size=size[0]).tolist()
        protocol.update("text", logits, batch, protocol.selected("text", batch))
        for group, prompts in seen.items():
            rows = [row for row in range(size[0]) if batch["phrase"][row] in GROUPS[group]]
            prompts += evaluated(logits, batch, rows)
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
def test_zero_shot_equals_loops(sizes, seed, factor, unseen):
    rng, count = np.random.default_rng(seed), 5
    protocol = ZeroShotProtocol(factor, count)
    protocol.classes = Classes(("background", "dog", "cat", "cow", "bus"), frozenset(unseen))
    probabilities, labels = [], []
    for images, height, width in sizes:
        logits = sample_logits(rng, images * count, height, width)
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
