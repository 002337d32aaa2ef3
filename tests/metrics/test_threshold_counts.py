"""Torchmetrics: sums over batches, and sums before the ratio."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from clipseg_pl.metrics.functional import (
    THRESHOLDS,
    Histograms,
    counts_at_thresholds,
    histograms,
    iou_foreground,
)
from clipseg_pl.metrics.threshold_counts import (
    AveragePrecision,
    DatasetCounts,
    FalsePositives,
    MeanIoUPerClass,
    MeanIoUPerPrompt,
)

CLASSES = torch.tensor([0, 2, 0, 2, 2, 0])
AT_HALF = int((THRESHOLDS - 0.5).abs().argmin())


@pytest.fixture
def pixels() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probabilities, targets and valid pixels of six prompts."""
    shape = (6, 1, 8, 9)
    return torch.rand(shape), torch.rand(shape) > 0.7, torch.rand(shape) > 0.2


def rows(pixels: Histograms, part: slice) -> Histograms:
    return Histograms(pixels.positives[part], pixels.negatives[part])


def flat(result) -> torch.Tensor:
    parts = result if isinstance(result, tuple) else (result,)
    return torch.cat([torch.as_tensor(part, dtype=torch.double).flatten() for part in parts])


@pytest.mark.parametrize(
    "make",
    [DatasetCounts, MeanIoUPerPrompt, FalsePositives, AveragePrecision, lambda: MeanIoUPerClass(3)],
)
def test_batches_add_up_and_reset_clears_them(make, pixels):
    counted = histograms(*pixels)
    whole, parts = make(), make()

    def update(metric, part):
        if isinstance(metric, AveragePrecision):
            metric.update(*(values[part] for values in pixels))
        elif isinstance(metric, MeanIoUPerClass):
            metric.update(rows(counted, part), CLASSES[part])
        else:
            metric.update(rows(counted, part))

    update(whole, slice(0, 6))
    for part in (slice(0, 1), slice(1, 5), slice(5, 5), slice(5, 6)):
        update(parts, part)
    assert torch.allclose(flat(whole.compute()), flat(parts.compute()), rtol=1e-12, atol=0)
    assert flat(whole.compute()).any()
    whole.reset()
    fresh = make()
    update(fresh, slice(0, 0))
    update(whole, slice(0, 0))
    assert torch.equal(flat(whole.compute()), flat(fresh.compute()))


def pair(tp: int, fp: int, fn: int, tn: int) -> Histograms:
    """Return the histograms of a prompt with probabilities 0 and 1 only."""
    bins = torch.zeros(2, 1, len(THRESHOLDS) + 1, dtype=torch.long)
    bins[0, 0, 0], bins[0, 0, -1], bins[1, 0, 0], bins[1, 0, -1] = fn, tp, tn, fp
    return Histograms(bins[0], bins[1])


def joined(*prompts: Histograms) -> Histograms:
    return Histograms(*(torch.cat(parts) for parts in zip(*prompts, strict=True)))


def test_iou_over_prompts_classes_and_dataset_by_hand():
    """Class 0 has a large good and a small bad prompt, class 1 a mediocre one."""
    prompts = joined(pair(90, 4, 5, 0), pair(0, 2, 2, 95), pair(10, 9, 0, 80))
    per_prompt, per_class, dataset = MeanIoUPerPrompt(), MeanIoUPerClass(3), DatasetCounts()
    per_prompt.update(prompts)
    per_class.update(prompts, torch.tensor([0, 0, 1]))
    dataset.update(prompts)
    found = per_prompt.compute()
    assert found.prompts == 3
    assert float(found.mean[AT_HALF]) == pytest.approx((90 / 100 + 0 + 10 / 20) / 3)
    iou, seen = per_class.compute()
    assert iou[:, AT_HALF].tolist() == pytest.approx([90 / 104, 10 / 20, 0])
    assert seen.tolist() == [True, True, False]
    assert float(iou_foreground(dataset.compute())[AT_HALF]) == pytest.approx(100 / 123)


def test_mean_iou_of_groups_by_hand():
    prompts = joined(pair(90, 4, 5, 0), pair(0, 2, 2, 95), pair(10, 9, 0, 80))
    metric = MeanIoUPerPrompt(3)
    metric.update(prompts, torch.tensor([2, 0, 2]))
    found = metric.compute()
    assert found.group_prompts.tolist() == [1, 0, 2] and found.prompts == 3
    assert found.group_mean[:, AT_HALF].tolist() == pytest.approx([0, 0, (90 / 100 + 10 / 20) / 2])
    assert float(found.mean[AT_HALF]) == pytest.approx((90 / 100 + 10 / 20) / 3)


def test_mean_iou_over_prompts_equals_a_loop(pixels):
    metric = MeanIoUPerPrompt()
    metric.update(histograms(*pixels))
    probability, target, valid = pixels
    ious = []
    for p, t, v in zip(probability, target, valid, strict=True):
        passed = p > THRESHOLDS[AT_HALF]
        ious.append(int((passed & t & v).sum()) / (1 + int(((passed | t) & v).sum())))
    assert float(metric.compute()[0][AT_HALF]) == pytest.approx(sum(ious) / 6)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_prompts_give_zeros():
    for metric in (MeanIoUPerPrompt(), MeanIoUPerClass(3), DatasetCounts(), AveragePrecision()):
        assert not flat(metric.compute()).any()


def test_exact_ap_ignores_invalid_pixels(pixels):
    probability, target, valid = pixels
    metric = AveragePrecision()
    metric.update(*pixels)
    wanted = average_precision_score(target[valid].numpy(), probability[valid].numpy())
    assert metric.compute() == pytest.approx(wanted, abs=1e-4)
    everything = average_precision_score(target.flatten().numpy(), probability.flatten().numpy())
    assert abs(wanted - everything) > 1e-4


def test_false_positives_by_hand():
    metric = FalsePositives()
    probability = torch.zeros(4, 1, 2, 5)
    probability[0, 0, 0, 0] = 0.45
    probability[1] = 0.25
    valid = torch.ones_like(probability, dtype=torch.bool)
    valid[0, 0, 1] = False
    probability[2, 0, 1, 1] = 0.9
    valid[2, 0, 1, 1] = False  # positive but invalid
    metric.update(histograms(probability, torch.zeros_like(valid), valid))
    rate, area, prompts = metric.compute()
    assert prompts == 4
    at = {round(float(t), 2): index for index, t in enumerate(THRESHOLDS)}
    assert [float(rate[at[t]]) for t in (0.1, 0.3, 0.5)] == [0.5, 0.25, 0]
    wanted = [(1 / 5 + 1) / 4, 1 / 5 / 4, 0]
    assert [float(area[at[t]]) for t in (0.1, 0.3, 0.5)] == pytest.approx(wanted)


def test_states_have_constant_size(pixels):
    metric = AveragePrecision()
    metric.update(*pixels)
    before = sum(state.numel() for state in metric.metric_state.values())
    metric.update(*pixels)
    assert sum(state.numel() for state in metric.metric_state.values()) == before


def test_counts_exceed_32_bits():
    metric = DatasetCounts()
    for _ in range(3):
        metric.update(pair(2**31 - 1, 0, 0, 0))
    assert metric.compute().tp[0] == 3 * (2**31 - 1)
    assert counts_at_thresholds(pair(2**33, 0, 0, 0)).tp[0, 0] == 2**33


@pytest.mark.parametrize("cast", ["half", "bfloat16", "float16 by to", "double"])
def test_states_keep_their_types_and_values_when_the_module_is_cast(pixels, cast):
    casts = {
        "half": lambda module: module.half(),
        "bfloat16": lambda module: module.bfloat16(),
        "float16 by to": lambda module: module.to(torch.float16),
        "double": lambda module: module.double(),
    }
    classes = (MeanIoUPerPrompt, DatasetCounts, FalsePositives, lambda: MeanIoUPerClass(3))
    for make in classes:
        metric, other = make(), make()
        model = torch.nn.ModuleList([torch.nn.Linear(2, 2), metric])
        more = (CLASSES,) if isinstance(metric, MeanIoUPerClass) else ()
        metric.update(histograms(*pixels), *more)
        casts[cast](model)
        metric.update(histograms(*pixels), *more)
        for _ in range(2):
            other.update(histograms(*pixels), *more)
        assert torch.equal(flat(metric.compute()), flat(other.compute()))
        metric.reset()
        metric.update(histograms(*pixels), *more)  # reset keeps the types of the states
