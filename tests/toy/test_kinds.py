"""Kinds of things, and the grammar of parts from which they are composed."""

from itertools import combinations

import numpy as np
import pytest

from datamodules.datasets.pascal_5i import VOC_CLASSES
from datamodules.toy.language.vocabulary import ToyTokenizer, toy_vocabulary
from datamodules.toy.language.words import (
    COLOUR_WORDS,
    NAMES,
    PART_WORDS,
    PROPERTY_SENTENCES,
    SIZE_WORDS,
    STUFF_NAMES,
    TEXTURE_WORDS,
    properties_of,
)
from datamodules.toy.scenes.grammar import SLOTS, Parts, Proportions, draw
from datamodules.toy.scenes.kinds import (
    INVENTED_KINDS,
    KINDS,
    PASCAL_KINDS,
    UNNAMED_KINDS,
    VARIANTS,
)
from datamodules.toy.scenes.paint import paint, palette
from datamodules.toy.scenes.scene import draw_scene

LOOKS = {variant: look for variants in VARIANTS.values() for variant, look in variants.items()}
SIDE = 64


def differing(first, second):
    """Return the slots in which two combinations of parts differ."""
    return [slot for slot in SLOTS if getattr(first, slot) != getattr(second, slot)]


def picture(parts, proportions, seed):
    """Return a drawing on black, (64, 64, 3), without rotation and texture."""
    shapes = draw(parts, proportions, np.random.default_rng(seed))
    unit = SIDE / 3.6
    points = np.concatenate([shape.points for shape in shapes]) * unit + SIDE / 2
    paints = palette(np.random.default_rng(0), "red")
    return paint(shapes, points, unit, paints, "plain", 3, (SIDE, SIDE))[0].astype(float)


def changed(parts, slot):
    """Return the number of pixels that change without the part in a slot."""
    without = parts._replace(**{slot: ""})
    first, second = (picture(each, Proportions(), 0) for each in (parts, without))
    return int((np.abs(first - second).max(2) > 40).sum())


def test_kinds_are_pascals_and_140_invented_ones_of_which_a_fifth_is_unnamed():
    assert list(PASCAL_KINDS) == list(VOC_CLASSES)
    assert KINDS == (*PASCAL_KINDS, *INVENTED_KINDS) and len(set(KINDS)) == 160
    assert len(set(UNNAMED_KINDS)) == 28 and set(UNNAMED_KINDS) < set(INVENTED_KINDS)
    assert list(VARIANTS["person"]) == ["man", "woman"]
    assert all(list(VARIANTS[kind]) == [kind] for kind in KINDS if kind != "person")


def test_kinds_differ_in_at_least_two_parts():
    for pair in combinations(LOOKS, 2):
        first, second = (LOOKS[name].parts for name in pair)
        assert len(differing(first, second)) >= (1 if pair == ("man", "woman") else 2), pair


@pytest.mark.parametrize("slot", SLOTS)
def test_every_part_is_in_named_and_in_unnamed_invented_kinds(slot):
    def found(kinds):
        return {getattr(INVENTED_KINDS[kind].parts, slot) for kind in kinds}

    optional = {""} if slot != "body" else set()
    assert found(set(INVENTED_KINDS) - set(UNNAMED_KINDS)) == set(SLOTS[slot]) | optional
    assert found(UNNAMED_KINDS) == set(SLOTS[slot]) | optional


def test_near_misses_of_invented_kinds_differ_in_one_part_and_are_no_kind():
    known = {look.parts for look in LOOKS.values()}
    slots = set()
    for seed, kind in enumerate((*INVENTED_KINDS, *INVENTED_KINDS)):
        rng = np.random.default_rng(seed)
        for thing in draw_scene(rng, 48, count=1, kinds=[kind], near_misses=1.0).things:
            assert (thing.kind, thing.variant) == ("", "") and thing.parts not in known
            (slot,) = differing(thing.parts, LOOKS[kind].parts)
            slots.add((slot, bool(getattr(thing.parts, slot))))
    assert slots == {(s, full) for s in SLOTS for full in (True, False)} - {("body", False)}


def test_near_misses_have_the_given_share():
    things = [
        thing
        for seed in range(200)
        for thing in draw_scene(np.random.default_rng(seed), 64, near_misses=0.3).things
    ]
    assert 0.22 < np.mean([not thing.kind for thing in things]) < 0.38
    for thing in things:
        assert not thing.kind or thing.parts == LOOKS[thing.variant].parts


def test_instances_vary_and_are_most_similar_to_their_own_kind():
    names = list(LOOKS)
    first, second = (
        np.stack([picture(*LOOKS[name], seed).ravel() for name in names]) for seed in (0, 1)
    )
    assert (first != second).any(1).all()
    distances = np.square(first).sum(1) - 2 * second @ first.T  # up to a constant of each row
    assert (distances.argmin(1) == np.arange(len(names))).mean() > 0.98
    assert np.array_equal(picture(*LOOKS["dog"], 0), picture(*LOOKS["dog"], 0))


def test_proportions_of_an_instance_differ_by_at_most_8_percent():
    look = Parts("square body"), Proportions(width=1.5)
    bodies = [draw(*look, np.random.default_rng(seed))[0].points for seed in range(200)]
    # a square body is 1.04 wide and 0.84 high
    sizes = np.array([np.ptp(body, 0) for body in bodies]) / (1.5 * 1.04, 0.84)
    assert sizes.min() > 0.92 and sizes.max() < 1.08
    assert (np.ptp(sizes, 0) > 0.14).all()


@pytest.mark.parametrize(
    ("slot", "part"), [(s, part) for s in SLOTS if s != "body" for part in SLOTS[s]]
)
def test_every_part_of_a_round_thing_is_visible(slot, part):
    assert changed(Parts("round body", **{slot: part}), slot) > 12


def test_parts_of_all_kinds_are_visible():
    for look in LOOKS.values():
        for slot, part in zip(SLOTS, look.parts, strict=True):
            assert part in SLOTS[slot] or (part == "" and slot != "body")
            if part and slot != "body":
                assert changed(look.parts, slot) >= 14, look.parts


def test_names_are_unique_lower_case_words_with_different_tokens():
    names = list(dict.fromkeys(name for names in NAMES.values() for name in names))
    assert sum(map(len, NAMES.values())) == len(names) + 1  # "person" is a man and a woman
    assert all(name.isalpha() and name.islower() for name in INVENTED_KINDS)
    others = [*COLOUR_WORDS, *TEXTURE_WORDS, *PART_WORDS, "thing"]
    others += [w for table in (STUFF_NAMES, SIZE_WORDS) for words in table.values() for w in words]
    assert not set(names) & set(others)
    rows = ToyTokenizer(toy_vocabulary(), 24)([*names, *others])
    assert len(rows.unique(dim=0)) == len(names) + len(others)
    assert rows[:, 1:].ne(0).sum(1).max() <= 4  # at most three tokens, and the end of text


PAPER = {
    "sit on": "chair sofa",
    "drink from": "bottle",
    "ride on": "horse motorbike",
    "can fly": "aeroplane bird",
    "can be driven": "bus car",
    "can swim": "boat",
    "has wheels": "bicycle bus car motorbike",
    "has legs": "bird cat chair cow dog horse person sheep sofa",
    "has ears": "cat cow dog horse person sheep",
}
"""generalised prompt -> Pascal's classes to which it applies (paper, Table 8; "has ears": authors'
code)"""


def test_properties_of_pascals_kinds_are_the_papers():
    for kind in PASCAL_KINDS:
        for look in VARIANTS[kind].values():
            expected = {text for text, kinds in PAPER.items() if kind in kinds.split()}
            assert set(properties_of(look.parts)) == expected, kind


def test_properties_follow_from_the_parts_of_invented_kinds():
    assert properties_of(Parts("kite body", "tentacles", top="horns")) == []
    assert properties_of(Parts("seat body", "wheels", "bottleneck", "sail", side="wings")) == [
        "sit on", "drink from", "can fly", "can swim", "has wheels",
    ]  # fmt: skip
    assert properties_of(Parts("round body", "stub feet", top="ears")) == ["has legs", "has ears"]
    applying = {text for look in INVENTED_KINDS.values() for text in properties_of(look.parts)}
    assert applying == set(PAPER) == set(PROPERTY_SENTENCES)
    driven = ["can be driven" in properties_of(look.parts) for look in INVENTED_KINDS.values()]
    assert sum(driven) == 3
