"""Reference implementation of the protocols' metrics, from their definitions.

It uses plain Python loops over pixels and none of the tested code. It is slow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np

THRESHOLDS = [float(np.float32(step / 50)) for step in range(1, 50)]
PRINTED = (0.1, 0.2, 0.3, 0.5)
LEVELS = 10_000
SIZES = {
    "to 1 %": Fraction(1, 100),
    "1 to 2 %": Fraction(2, 100),
    "2 to 5 %": Fraction(5, 100),
    "5 to 10 %": Fraction(10, 100),
    "10 to 20 %": Fraction(20, 100),
    "above 20 %": Fraction(1),
}


LEVELS_OF_GREY = {
    "dark (to 85)": Fraction(85),
    "medium (85 to 170)": Fraction(170),
    "bright (above 170)": Fraction(255),
}
NUMBERS_OF_OBJECTS = {"0": 0, "1": 1, "2": 2, "3 to 5": 5, "above 5": 10**9}


class Outcome(NamedTuple):
    """Pixel counts."""

    tp: int
    fp: int
    fn: int
    tn: int


@dataclass(eq=False)
class EvaluatedPrompt:
    """Probabilities, target and valid pixels of one prompt: (H, W) arrays."""

    probability: np.ndarray
    target: np.ndarray
    valid: np.ndarray
    class_id: int = -1
    image: np.ndarray | None = None
    """(3, H, W) uint8 RGB"""

    def pixels(self) -> Iterable[tuple[float, bool]]:
        """Yield the probability and the target of each valid pixel."""
        arrays = (self.probability, self.target, self.valid)
        for probability, truth, valid in zip(*(a.ravel().tolist() for a in arrays), strict=True):
            if valid:
                yield probability, truth

    @cached_property
    def outcomes(self) -> dict[float, Outcome]:
        """Pixel counts by threshold; positive if p > t."""
        found = {}
        for threshold in THRESHOLDS:
            tp = fp = fn = tn = 0
            for probability, truth in self.pixels():
                if probability > threshold:
                    tp, fp = tp + truth, fp + (not truth)
                else:
                    fn, tn = fn + truth, tn + (not truth)
            found[threshold] = Outcome(tp, fp, fn, tn)
        return found


def outcome(prompts: Iterable[EvaluatedPrompt], threshold: float) -> Outcome:
    """Return the pixel counts of all prompts together."""
    each = [prompt.outcomes[threshold] for prompt in prompts]
    return Outcome(*(sum(one[place] for one in each) for place in range(4)))


def iou(found: Outcome) -> float:
    return found.tp / (1 + found.tp + found.fp + found.fn)


def iou_bin(found: Outcome) -> float:
    background = found.tn / (1 + found.tn + found.fp + found.fn)
    return 0.5 * iou(found) + 0.5 * background


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def by_class(prompts: Sequence[EvaluatedPrompt], threshold: float) -> dict[int, float]:
    """Return the IoU of the summed pixels of each class that has valid pixels."""
    classes = sorted({prompt.class_id for prompt in prompts if prompt.valid.any()})
    return {c: iou(outcome([p for p in prompts if p.class_id == c], threshold)) for c in classes}


def miou(prompts: Sequence[EvaluatedPrompt], threshold: float, with_classes: bool) -> float:
    if with_classes:
        return mean(list(by_class(prompts, threshold).values()) or [0.0])
    return mean([iou(outcome([prompt], threshold)) for prompt in prompts])


def simpson(points: Sequence[tuple[float, float]]) -> float:
    """Integrate a parabola through each three points.

    No parabola exists if one of the two intervals has zero width. scipy then returns a third of the
    total width times the sum of the first and last value.
    """
    total = 0.0
    for left in range(0, len(points) - 2, 2):
        (x0, y0), (x1, y1), (x2, y2) = points[left : left + 3]
        if x0 == x1 or x1 == x2:
            total += (x2 - x0) / 3 * (y0 + y2)
            continue
        # Lagrange's parabola, integrated from x0 to x2 with x0 as the origin
        b, c = x1 - x0, x2 - x0
        at_0 = y0 / (b * c) * (c**3 / 3 - (b + c) * c**2 / 2 + b * c * c)
        at_b = y1 / (b * (b - c)) * (c**3 / 3 - c * c**2 / 2)
        at_c = y2 / (c * (c - b)) * (c**3 / 3 - b * c**2 / 2)
        total += at_0 + at_b + at_c
    return total


def trapezoid(two: Sequence[tuple[float, float]]) -> float:
    (x0, y0), (x1, y1) = two
    return (x1 - x0) * (y0 + y1) / 2


def paper_ap(prompts: Sequence[EvaluatedPrompt]) -> float:
    """Simpson's rule over distinct precision-recall points of thresholds with positive pixels."""
    found = {outcome(prompts, threshold) for threshold in THRESHOLDS}
    points = sorted(
        {(o.tp / (1 + o.tp + o.fn), o.tp / (1 + o.tp + o.fp)) for o in found if o.tp + o.fp}
    )
    if len(points) < 2:
        return 0.0
    if len(points) % 2:
        return simpson(points)
    leaving_last = simpson(points[:-1]) + trapezoid(points[-2:])
    leaving_first = simpson(points[1:]) + trapezoid(points[:2])
    return (leaving_last + leaving_first) / 2


def exact_ap(prompts: Sequence[EvaluatedPrompt]) -> float:
    """Return the sum of (R_n - R_(n-1)) P_n over distinct decreasing scores."""
    pixels = [pixel for prompt in prompts for pixel in prompt.pixels()]
    targets = sum(truth for _, truth in pixels)
    total, before = 0.0, 0.0
    for score in sorted({probability for probability, _ in pixels}, reverse=True):
        positive = [truth for probability, truth in pixels if probability >= score]
        recall = sum(positive) / targets if targets else 0.0
        total += (recall - before) * sum(positive) / len(positive)
        before = recall
    return total


def nearest(threshold: float) -> float:
    return min(THRESHOLDS, key=lambda candidate: abs(candidate - threshold))


def reported_thresholds(stored: float | None) -> dict[str, float]:
    at = {f"{threshold:g}": nearest(threshold) for threshold in PRINTED}
    return at if stored is None else at | {"stored": nearest(stored)}


def overlap(
    prompts: Sequence[EvaluatedPrompt], stored: float | None, with_classes: bool
) -> dict[str, float]:
    """Return the metrics of present prompts."""
    if not prompts:
        return {"prompts": 0}
    curves = {
        "miou": {t: miou(prompts, t, with_classes) for t in THRESHOLDS},
        "iou_fg": {t: iou(outcome(prompts, t)) for t in THRESHOLDS},
        "iou_bin": {t: iou_bin(outcome(prompts, t)) for t in THRESHOLDS},
    }
    return {
        "prompts": len(prompts),
        "threshold@best": best(curves["miou"]),
        "ap": paper_ap(prompts),
        "ap_exact": exact_ap(prompts),
        **{f"{name}@best": max(curve.values()) for name, curve in curves.items()},
        **{
            f"{name}@{label}": curve[threshold]
            for name, curve in curves.items()
            for label, threshold in reported_thresholds(stored).items()
        },
    }


def report(
    prompts: Sequence[EvaluatedPrompt], stored: float | None, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the tables of present prompts, by class if there are class names."""
    if not prompts:
        return {}
    shown = 0.3 if stored is None else stored
    at = nearest(shown)
    found = {f"{threshold:.2f}": outcome(prompts, threshold) for threshold in THRESHOLDS}
    sizes: dict[str, list[float]] = {}
    for prompt in prompts:
        sizes.setdefault(size_name(prompt), []).append(iou(outcome([prompt], at)))
    tables = {
        "miou by threshold": {f"{t:.2f}": miou(prompts, t, bool(names)) for t in THRESHOLDS},
        "precision by threshold": {t: o.tp / max(1, o.tp + o.fp) for t, o in found.items()},
        "recall by threshold": {t: o.tp / max(1, o.tp + o.fn) for t, o in found.items()},
        f"mean iou@{shown:g} by share of the image": {k: mean(v) for k, v in sizes.items()},
    }
    if names:
        classes = {names[c]: value for c, value in by_class(prompts, at).items()}
        tables[f"iou@{shown:g} by class"] = classes
    return tables


def size_name(prompt: EvaluatedPrompt) -> str:
    truths = [truth for _, truth in prompt.pixels()]
    share = Fraction(sum(truths), max(1, len(truths)))
    return next(name for name, bound in SIZES.items() if share <= bound)


def brightness_name(prompt: EvaluatedPrompt) -> str:
    assert prompt.image is not None
    red, green, blue = (int(channel.astype(int).sum()) for channel in prompt.image)
    grey = Fraction(299 * red + 587 * green + 114 * blue, 1000 * prompt.image[0].size)
    return next(name for name, bound in LEVELS_OF_GREY.items() if grey <= bound)


def objects_name(prompt: EvaluatedPrompt) -> str:
    """Count the parts of the valid target by flood fill; neighbours share a side or a corner."""
    left = {(int(y), int(x)) for y, x in np.argwhere(prompt.target & prompt.valid)}
    parts = 0
    while left:
        parts, reached = parts + 1, [left.pop()]
        while reached:
            y, x = reached.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            reached += near
    return next(name for name, bound in NUMBERS_OF_OBJECTS.items() if parts <= bound)


def dice(prompt: EvaluatedPrompt, threshold: float) -> float:
    found = prompt.outcomes[threshold]
    return 2 * found.tp / (1 + 2 * found.tp + found.fp + found.fn)


def best(curve: dict[float, float]) -> float:
    """Return the lowest threshold with the highest value."""
    return round(next(t for t in THRESHOLDS if curve[t] >= max(curve.values()) - 1e-12), 2)


def best_by_class(prompts: Sequence[EvaluatedPrompt], names: Sequence[str]) -> dict[str, float]:
    """Return the threshold with the best mean IoU of each class that is hit at any threshold."""
    groups = {
        name: [prompt for prompt in prompts if prompt.class_id == class_id]
        for class_id, name in enumerate(names)
    }
    return {
        name: best({t: miou(group, t, with_classes=False) for t in THRESHOLDS})
        for name, group in groups.items()
        if any(miou(group, t, with_classes=False) for t in (THRESHOLDS if group else ()))
    }


def own_data(
    prompts: Sequence[EvaluatedPrompt],
    stored: float | None,
    names: Sequence[str],
    of_classes: dict[str, float],
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return the metrics and tables of present prompts that own data adds to `overlap`.

    Args:
        prompts: the prompts.
        stored: stored threshold.
        names: class names; empty without classes.
        of_classes: class name -> stored threshold.
    """
    if not prompts:
        return {}, {}
    shown = 0.3 if stored is None else stored
    curve = {t: mean([dice(prompt, t) for prompt in prompts]) for t in THRESHOLDS}
    best_miou = best({t: miou(prompts, t, with_classes=False) for t in THRESHOLDS})
    numbers = {"dice@best": curve[nearest(best_miou)]}
    for label, threshold in reported_thresholds(stored).items():
        numbers[f"dice@{label}"] = curve[threshold]
    tables = {"dice by threshold": {f"{t:.2f}": value for t, value in curve.items()}}

    def own_threshold(prompt: EvaluatedPrompt) -> float:
        return nearest(of_classes.get(names[prompt.class_id], shown))

    at_two = {"0.5": lambda _: nearest(0.5), f"{shown:g}": lambda _: nearest(shown)}
    groupings = {
        "share of the image": (size_name, at_two),
        "brightness": (brightness_name, at_two),
        "number of objects": (objects_name, at_two),
    }
    if names:
        labels = {"0.5": lambda _: nearest(0.5)}
        if stored is not None:
            labels["stored"] = lambda _: nearest(stored)
        if of_classes:
            labels["class"] = own_threshold
        groupings["class"] = (lambda prompt: names[prompt.class_id], labels)
        best_of_classes = best_by_class(prompts, names)
        labels["best"] = lambda prompt: nearest(best_of_classes.get(names[prompt.class_id], 0.5))
        tables["best threshold by class"] = best_of_classes
    for title, (name_of, labels) in groupings.items():
        groups: dict[str, list[EvaluatedPrompt]] = {}
        for prompt in prompts:
            groups.setdefault(name_of(prompt), []).append(prompt)
        tables[f"prompts by {title}"] = {name: len(group) for name, group in groups.items()}
        for label, at in labels.items():
            tables[f"miou@{label} by {title}"] = {
                name: mean([iou(outcome([prompt], at(prompt))) for prompt in group])
                for name, group in groups.items()
            }
            tables[f"dice@{label} by {title}"] = {
                name: mean([dice(prompt, at(prompt)) for prompt in group])
                for name, group in groups.items()
            }
    if of_classes:
        tables["stored threshold by class"] = of_classes
        each = [outcome([prompt], own_threshold(prompt)) for prompt in prompts]
        numbers["miou@class"] = mean([iou(one) for one in each])
        numbers["dice@class"] = mean([dice(prompt, own_threshold(prompt)) for prompt in prompts])
    return numbers, tables


def absent(prompts: Sequence[EvaluatedPrompt], stored: float | None) -> dict[str, float]:
    """Return the rate and area of false positives of absent prompts."""
    numbers: dict[str, float] = {"absent_prompts": len(prompts)}
    for label, threshold in reported_thresholds(stored).items() if prompts else ():
        shares = []
        for prompt in prompts:
            positive = [probability > threshold for probability, _ in prompt.pixels()]
            shares.append(sum(positive) / max(1, len(positive)))
        numbers[f"absent_rate@{label}"] = mean([float(share > 0) for share in shares])
        numbers[f"absent_area@{label}"] = mean(shares)
    return numbers


def presence_level(prompt: EvaluatedPrompt) -> int:
    """Return the mean of the highest 1 % of the pixels (at least one), in units of 1 / LEVELS."""
    pixels = np.sort(prompt.probability.ravel())[::-1]
    return int(np.mean(pixels[: max(1, round(0.01 * len(pixels)))]) * np.float32(LEVELS))


def presence(
    present: Sequence[EvaluatedPrompt], missing: Sequence[EvaluatedPrompt], stored: float | None
) -> dict[str, float]:
    """Return the metrics of the presence score."""
    if not present or not missing:
        return {}
    scores, absent_scores = ([presence_level(p) for p in group] for group in (present, missing))
    ordered = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in scores for b in absent_scores)

    def accuracy(cut: int) -> Fraction:
        kept, dropped = sum(a >= cut for a in scores), sum(b < cut for b in absent_scores)
        return (Fraction(kept, len(scores)) + Fraction(dropped, len(absent_scores))) / 2

    # the accuracy changes only just above a score
    cuts = sorted({0, *(level + 1 for level in scores + absent_scores if level < LEVELS)})
    best = max(cuts, key=lambda cut: (accuracy(cut), -cut))
    numbers = {
        "presence_auc": ordered / (len(scores) * len(absent_scores)),
        "presence_accuracy@best": float(accuracy(best)),
        "absent_cut@best": best / LEVELS,
    }
    if stored is not None:
        numbers["presence_accuracy@stored"] = float(accuracy(round(stored * LEVELS)))
    return numbers


def zero_shot(
    probability: np.ndarray, label: np.ndarray, unseen: set[int], factor: float
) -> tuple[dict[str, float], list[float]]:
    """Return metrics and IoU by class from (K, pixels) float32 probabilities.

    A pixel is assigned to the first of the classes with the highest probability. Pixels with the
    label -1 are ignored.
    """
    classes = len(probability)
    correct, labelled, predicted = ([0] * classes for _ in range(3))
    for pixel, truth in enumerate(label.tolist()):
        if truth < 0:
            continue
        scores = [probability[class_id, pixel] for class_id in range(classes)]
        scores[0] *= np.float32(factor)
        chosen = 0
        for class_id in range(1, classes):
            if scores[class_id] > scores[chosen]:
                chosen = class_id
        correct[truth] += chosen == truth
        labelled[truth] += 1
        predicted[chosen] += 1
    counts = zip(correct, labelled, predicted, strict=True)
    ious = [hit / max(1, label + guess - hit) for hit, label, guess in counts]
    seen_iou = mean([value for class_id, value in enumerate(ious) if class_id not in unseen])
    unseen_iou = mean([value for class_id, value in enumerate(ious) if class_id in unseen])
    total = seen_iou + unseen_iou
    numbers = {
        "text/miou_seen": seen_iou,
        "text/miou_unseen": unseen_iou,
        "text/miou_harmonic": 2 * seen_iou * unseen_iou / total if total else 0.0,
        "text/miou": mean(ious),
    }
    return numbers, ious
