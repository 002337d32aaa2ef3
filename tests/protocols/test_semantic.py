"""Semantic segmentation: metrics equal plain loops, and do not depend on chunks."""

from collections import Counter

import numpy as np
import pytest
import torch

from clipseg_pl.metrics.confusion import semantic_metrics
from clipseg_pl.protocols import semantic
from clipseg_pl.protocols.referring import ReferringProtocol
from clipseg_pl.protocols.semantic import SemanticProtocol
from clipseg_pl.sample import Classes, collate
from clipseg_pl.training.faults import reject_empty_evaluation
from clipseg_pl.training.seen_photos import SeenPhotos

SIDE = 8
SMALL = 4, 5
IGNORED = -1


def plain_metrics(pairs, classes):
    """Compute the metrics from their definitions, in loops over (label, prediction) of pixels."""
    counted = [(label, guess) for label, guess in pairs if label != IGNORED]
    ious, weighted, accuracies = {}, 0.0, []
    for number in range(classes):
        both = sum(label == guess == number for label, guess in counted)
        labelled = sum(label == number for label, _ in counted)
        guessed = sum(guess == number for _, guess in counted)
        union = labelled + guessed - both
        if union:
            ious[number] = both / union
            weighted += labelled / len(counted) * ious[number]
        if labelled:
            accuracies.append(both / labelled)
    return {
        "text/miou": sum(ious.values()) / max(1, len(ious)),
        "text/fwiou": weighted,
        "text/pixel_accuracy": sum(label == guess for label, guess in counted)
        / max(1, len(counted)),
        "text/mean_accuracy": sum(accuracies) / max(1, len(accuracies)),
        "text/pixels": len(counted),
    }, ious


def sample(label_map, class_ids):
    empty = torch.empty(1, 0, 0, dtype=torch.bool)
    return {
        "query_image": torch.zeros(3, SIDE, SIDE, dtype=torch.uint8),
        "query_size": tuple(label_map.shape),
        "prompts": [
            {
                "prompt_id": str(place),
                "query_mask": empty,
                "valid_mask": empty,
                "phrase": str(place),
                "text_prompt": str(place),
                "supports": [],
                "mix_weight": 1.0,
                "class_id": number,
                "negative": False,
            }
            for place, number in enumerate(class_ids)
        ],
        "label_map": torch.from_numpy(label_map.astype(np.int16))[None],
    }


def random_case(rng, names, background):
    """Return classes, and label maps and logits of two photos of the model's size.

    Args:
        rng: random generator.
        names: number of names of each class.
        background: whether class 0 has no prompt; its number of names is not used.
    """
    phrasings = [tuple(f"{number}.{name}" for name in range(count)) for number, count in
                 enumerate(names)]  # fmt: skip
    if background:
        phrasings[0] = ()
    ids = [number for number, words in enumerate(phrasings) for _ in words]
    classes = Classes(tuple(map(str, range(len(names)))), phrasings=tuple(phrasings))
    labels = rng.integers(-1, len(names), (2, SIDE, SIDE))
    logits = rng.normal(-0.5, 1, (2, len(ids), SIDE, SIDE)).astype(np.float32)
    return classes, ids, labels, logits


def guess_of(scores, ids, background, threshold):
    """Return the class of a pixel from the probabilities of its prompts."""
    best, highest = 0 if background else None, threshold if background else -1
    for number, score in zip(ids, scores, strict=True):
        if score > highest:
            best, highest = number, score
    return best


def distinct_logits(rng, prompts):
    """Return logits of a photo, (1, prompts, *SMALL), all different within a pixel.

    They are not close to each other or to the threshold, because torch's sigmoid of a number
    depends on the position in a tensor.
    """
    place = rng.random((1, 40, *SMALL)).argsort(1)[:, :prompts]
    return (place / 10 - 2.57).astype(np.float32)


def test_metrics_equal_plain_loops_on_2000_random_sets():
    protocols, kinds = {}, Counter()
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        background = bool(rng.random() < 0.5)
        names = rng.integers(1, 3, rng.integers(2, 7)).tolist()
        classes, ids, labels, _ = random_case(rng, names, background)
        absent, hidden = rng.integers(len(names), size=2)
        labels = labels[:1, : SMALL[0], : SMALL[1]]
        labels[labels == absent] = IGNORED
        logits = distinct_logits(rng, len(ids))
        logits[:, np.equal(ids, hidden)] -= 5  # all below the other prompts and the threshold
        if rng.random() < 0.2:
            logits -= 5
        if rng.random() < 0.05:
            labels[:] = IGNORED
        # the names of a class do not matter, only whether it has any
        key = len(names), background
        if key not in protocols:
            protocols[key] = SemanticProtocol(0.45)
            protocols[key].classes = classes
        protocol = protocols[key]
        protocol.reset()
        batch = collate([sample(one, ids) for one in labels])
        flat = torch.from_numpy(logits).flatten(0, 1)[:, None]
        protocol.update("text", flat, batch, torch.ones(len(flat), dtype=torch.bool))
        scores = torch.from_numpy(logits).sigmoid().movedim(1, 3).flatten(0, 2).tolist()
        guesses = [guess_of(pixel, ids, background, 0.45) for pixel in scores]
        pairs = list(zip(labels.ravel().tolist(), guesses, strict=True))
        expected, ious = plain_metrics(pairs, len(names))
        assert protocol.compute(None) == pytest.approx(expected, abs=1e-12), seed
        by_class = protocol.report(None)["text: iou by class"]
        assert by_class == pytest.approx({str(number): iou for number, iou in ious.items()}), seed
        kinds["class that is not labelled"] += absent in guesses
        kinds["class that is not predicted"] += hidden not in guesses and hidden in labels
        kinds["only background predicted"] += set(guesses) == {0} and background
        kinds["no pixel labelled"] += not expected["text/pixels"]
    assert min(kinds.values()) > 40, kinds
    assert protocol.monitor in expected and protocol.best_threshold() is None


def bilinear(row, height, width):
    """Enlarge an array as the definition says: sample at pixel centres, repeat the border."""
    result = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * row.shape[0] / height - 0.5, 0), row.shape[0] - 1)
            u = min(max((x + 0.5) * row.shape[1] / width - 0.5, 0), row.shape[1] - 1)
            top, left = int(v), int(u)
            down, right = min(top + 1, row.shape[0] - 1), min(left + 1, row.shape[1] - 1)
            a, b = v - top, u - left
            upper = (1 - b) * row[top, left] + b * row[top, right]
            lower = (1 - b) * row[down, left] + b * row[down, right]
            result[y, x] = (1 - a) * upper + a * lower
    return result


def test_photos_of_different_sizes_are_evaluated_at_the_size_of_their_label_maps():
    rng = np.random.default_rng(0)
    classes, ids, _, logits = random_case(rng, [1, 2, 1], background=False)
    sizes = (13, 21), (30, 9)
    labels = [rng.integers(-1, 3, size) for size in sizes]
    protocol = SemanticProtocol()
    protocol.classes = classes
    batch = collate([sample(one, ids) for one in labels])
    assert batch["label_map"].shape == (2, 1, 30, 21)
    protocol.update("text", torch.from_numpy(logits).flatten(0, 1)[:, None], batch, torch.ones(8))
    probability = torch.from_numpy(logits).sigmoid().numpy()
    pairs = []
    for own, label_map, size in zip(probability, labels, sizes, strict=True):
        scores = np.stack([bilinear(row, *size) for row in own])
        guess = np.array(ids)[scores.argmax(0)]
        pairs += zip(label_map.ravel().tolist(), guess.ravel().tolist(), strict=True)
    expected, _ = plain_metrics(pairs, 3)
    assert protocol.compute(None) == pytest.approx(expected, abs=1e-12)


def test_chunks_of_any_size_give_the_same_counts(monkeypatch):
    rng = np.random.default_rng(1)
    classes, ids, labels, logits = random_case(rng, [1, 3, 1, 2, 1], background=True)
    batch, flat = collate([sample(one, ids) for one in labels]), torch.from_numpy(logits)
    counts, classified, sizes = [], [], []
    for at_once in (1, 3, 7, 1000):
        monkeypatch.setattr(semantic, "_AT_ONCE", at_once)
        protocol = SemanticProtocol()
        protocol.classes = classes

        def segment(prompt_type, selected):
            sizes.append(int(selected.sum()))
            return flat.flatten(0, 1)[:, None][selected]

        predicted, every = protocol.evaluate(batch, segment)["text"]
        assert predicted.shape == batch["label_map"].shape and every.all()
        classified.append(predicted)
        counts.append(protocol.confusion.compute())
        assert max(sizes) == min(at_once, 14) and sum(sizes) == 14
        sizes.clear()
    assert all(torch.equal(counts[0], other) for other in counts[1:])
    assert all(torch.equal(classified[0], other) for other in classified[1:])
    protocol.reset()
    assert not protocol.confusion.compute().any()


def test_metrics_without_seen_photos_are_those_of_the_other_photos():
    rng = np.random.default_rng(2)
    classes, ids, _, logits = random_case(rng, [1, 2, 1], background=True)
    labels = [rng.integers(-1, 3, size) for size in ((7, 12), (10, 5))]
    made = [sample(one, ids) | {"coco_id": 3 + place} for place, one in enumerate(labels)]
    flat = torch.from_numpy(logits).flatten(0, 1)[:, None]
    protocol, alone = SemanticProtocol(), SemanticProtocol()
    protocol.classes = alone.classes = classes
    found = SeenPhotos(protocol, np.array([3, 4]), torch.tensor([3]), 2)
    batch = collate(made)
    found.update(batch, protocol.evaluate(batch, lambda _, selected: flat[selected]))
    found.compute("val", None, None, {})
    alone.update("text", flat[len(ids) :], collate(made[1:]), torch.ones(len(ids)))
    expected = {f"val/{name}": value for name, value in alone.compute(None).items()}
    assert found.numbers == pytest.approx(expected) and found.numbers["val/text/pixels"] > 30
    assert str(found) == "1 of 2 evaluated COCO photos were trained on"


def test_threshold_itself_does_not_claim_a_pixel():
    protocol = SemanticProtocol(0.5)
    protocol.classes = Classes(("background", "cat"), phrasings=((), ("cat",)))
    batch = collate([sample(np.zeros((SIDE, SIDE), int), [1])])
    protocol.update("text", torch.zeros(1, 1, SIDE, SIDE), batch, torch.ones(1))
    assert protocol.compute(None)["text/pixel_accuracy"] == 1


def test_probabilities_that_are_not_numbers_raise():
    protocol = SemanticProtocol()
    protocol.classes = Classes(("dog", "cat"), phrasings=(("dog",), ("cat",)))
    batch = collate([sample(np.zeros((SIDE, SIDE), int), [0, 1])])
    logits = torch.zeros(2, 1, SIDE, SIDE)
    logits[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"probabilities must be in \[0, 1\], not NaN"):
        protocol.update("text", logits, batch, torch.ones(2))


def test_metrics_without_pixels_are_zero():
    numbers = semantic_metrics(torch.zeros(3, 3, dtype=torch.long))
    assert set(numbers.values()) == {0.0}


def test_evaluation_of_ignored_pixels_alone_raises():
    protocol = SemanticProtocol()
    protocol.classes = Classes(("dog", "cat"), phrasings=(("dog",), ("cat",)))
    batch = collate([sample(np.full((SIDE, SIDE), IGNORED), [0, 1])])
    protocol.update("text", torch.zeros(2, 1, SIDE, SIDE), batch, torch.ones(2))
    with pytest.raises(ValueError, match="all pixels of the label maps are ignored"):
        reject_empty_evaluation(protocol.compute(None), protocol.prompt_types)


def test_protocols_reject_each_others_data():
    batch = collate([sample(np.zeros((SIDE, SIDE), int), [0])])
    with pytest.raises(ValueError, match="ReferringProtocol cannot evaluate label maps: set"):
        ReferringProtocol().evaluate(batch, lambda *_: torch.zeros(1, 1, SIDE, SIDE))
    del batch["label_map"]
    with pytest.raises(ValueError, match="SemanticProtocol needs label maps: set --data"):
        SemanticProtocol().evaluate(batch, lambda *_: torch.zeros(1, 1, SIDE, SIDE))
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], not 1.5"):
        SemanticProtocol(1.5)
