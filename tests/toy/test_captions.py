import re
from collections import Counter

import numpy as np
import pytest

from datamodules.datasets.exclusion import AFFORDANCE_WORDS, Exclusion
from datamodules.toy.language.captions import draw_phrases
from datamodules.toy.language.sentences import describe, place_of, scene_caption, thing_caption
from datamodules.toy.language.words import (
    COLOUR_WORDS,
    NAMES,
    PART_WORDS,
    PROPERTY_SENTENCES,
    SIZE_WORDS,
    STUFF_NAMES,
    properties_of,
)
from datamodules.toy.scenes.grammar import Parts
from datamodules.toy.scenes.kinds import KINDS, PASCAL_KINDS, UNNAMED_KINDS
from datamodules.toy.scenes.scene import Scene, Thing, draw_scene

SIZES = {word: size for size, words in SIZE_WORDS.items() for word in words}
STUFF = {name: stuff for stuff, names in STUFF_NAMES.items() for name in names}


def draw_described(count, nameless=()):
    """Draw scenes with phrases, in turn from three kinds, Pascal's kinds and all kinds."""
    result = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        scene = draw_scene(
            rng, 64, kinds=(("dog", "chair", "person"), PASCAL_KINDS, KINDS)[seed % 3]
        )
        result.append((scene, draw_phrases(scene, rng, nameless)))
    return result


@pytest.fixture(scope="module")
def described():
    return draw_described(450)


def centre(thing):
    return thing.box[0] + thing.box[2] / 2, thing.box[1] + thing.box[3] / 2


def named(thing):
    """Return the names of a thing."""
    return NAMES[thing.variant] if thing.kind else ()


def parts_in(text):
    """Return the parts that a text names, as whole words."""
    return {part for part in PART_WORDS if re.search(rf"\b{part}\b", text)}


def describes(scene, thing, name, attributes, relations):
    """Return whether a phrase describes a thing, without the code under test."""
    if name not in (*named(thing), "thing"):
        return False
    for word in attributes:
        if word not in (thing.colour, thing.texture) and SIZES.get(word) != thing.size:
            return False
    for predicate, noun in relations:
        if predicate == "with":
            if noun not in thing.parts:
                return False
            continue
        (x, y) = centre(thing)
        (other,) = [centre(t) for t in scene.things if noun in NAMES[t.variant]]
        distance = {
            "left": other[0] - x,
            "right": x - other[0],
            "above": other[1] - y,
            "below": y - other[1],
        }
        if distance[predicate.split()[0]] <= 0:
            return False
    return True


@pytest.mark.parametrize("nameless", [(), ("dog", *UNNAMED_KINDS)])
def test_phrase_refers_to_exactly_the_things_it_describes(nameless):
    kinds_of_phrases = Counter()
    for scene, phrases in draw_described(450, nameless):
        for phrase in phrases:
            if phrase.stuff:
                assert STUFF[phrase.text] == phrase.stuff
                assert np.array_equal(phrase.masks(scene)[0], scene.stuff[phrase.stuff])
                continue
            expected = [
                index
                for index, thing in enumerate(scene.things)
                if describes(scene, thing, phrase.name, phrase.attributes, phrase.relations)
            ]
            assert list(phrase.things) == expected != [], phrase
            assert np.array_equal(
                np.any(phrase.masks(scene), 0), np.any([scene.things[i].mask for i in expected], 0)
            )
            relation = phrase.relations[0][0].split()[0] if phrase.relations else ""
            kinds_of_phrases[phrase.name == "thing", relation] += 1
    directions = ("", "with", "left", "right", "above", "below")
    assert all(kinds_of_phrases[False, relation] > 20 for relation in directions)
    assert (
        (kinds_of_phrases[True, "with"] > 20) == (kinds_of_phrases[True, ""] > 20) == bool(nameless)
    )


def test_nameless_kinds_are_called_thing_in_names_and_relations():
    phrases = [phrase for _, phrases in draw_described(150, KINDS) for phrase in phrases]
    assert {phrase.name for phrase in phrases if phrase.things} == {"thing"}
    assert not any(phrase.text == "thing" for phrase in phrases)
    assert {predicate for phrase in phrases for predicate, _ in phrase.relations} == {"with"}
    for _, phrases in draw_described(450, UNNAMED_KINDS):
        words = {word for phrase in phrases for word in phrase.text.split()}
        assert not words.intersection(UNNAMED_KINDS)


def test_phrase_text_is_built_from_its_structure_as_in_phrasecut(described):
    for _, phrases in described:
        assert len({phrase.text for phrase in phrases}) == len(phrases)
        for phrase in phrases:
            text = phrase.name
            for attribute in phrase.attributes:
                text = f"{attribute} {text}"
            for predicate, noun in phrase.relations:
                text = f"{text} {predicate} {noun}"
            assert phrase.text == text


def test_all_phrase_types_occur(described):
    phrases = [phrase for _, of_scene in described for phrase in of_scene]
    texts = {phrase.text for phrase in phrases}
    words = {word for text in texts for word in text.split()}
    assert {phrase.type for phrase in phrases} == {"name", "attribute", "relation", "verbose"}
    assert any(len(phrase.things) > 1 for phrase in phrases)
    assert {
        "man",
        "person",
        "striped",
        "plane",
        "couch",
        "bike",
        "tv",
        "plant",
        "sky",
        "left",
        "big",
    } <= words
    assert set(COLOUR_WORDS) <= words


@pytest.mark.parametrize("rule", ["paper", "mended"])
def test_phrases_mention_words_of_generalised_prompts_only_as_parts_and_can_be_excluded(
    described, rule
):
    excluded = Exclusion("affordances", rule).phrase_filter()
    found = set()
    for phrase in (phrase for _, phrases in described for phrase in phrases):
        words = set(AFFORDANCE_WORDS).intersection(phrase.text.split())
        assert excluded(phrase.text) == bool(words)
        found |= {phrase.relations[0] for _ in words}
    assert found == {("with", part) for part in ("two legs", "four legs", "wheels", "ears")}


@pytest.fixture(scope="module")
def captioned():
    """Return scenes of one thing, 30 % of them near misses, with captions."""
    result = []
    for seed in range(900):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, 64, count=1, near_misses=0.3)
        result += [(thing, thing_caption(scene, rng)) for thing in scene.things]
    return result


def test_pretraining_captions_mention_only_properties_of_the_thing(captioned):
    mentioned = set()
    for thing, caption in captioned:
        for text in PROPERTY_SENTENCES:
            (word,) = set(AFFORDANCE_WORDS).intersection(text.split())
            if word in caption.replace(",", " ").split():
                mentioned.add(text)
                assert text in properties_of(thing.parts), caption
    assert mentioned == set(PROPERTY_SENTENCES)


def test_pretraining_captions_mention_only_parts_and_names_of_the_thing(captioned):
    names = {name for names in NAMES.values() for name in names}
    mentioned = set()
    for thing, caption in captioned:
        assert parts_in(caption) <= set(thing.parts), caption
        assert {word for word in caption.split() if word in names} <= {
            word for name in named(thing) for word in name.split()
        }, caption
        mentioned |= parts_in(caption)
    assert mentioned == set(PART_WORDS)


def test_description_of_a_thing_without_a_kind_names_one_to_three_parts():
    parts = Parts("round body", "wheels", top="horns", side="wings")
    thing = Thing("", "", parts, "red", "striped", "", (0, 0, 4, 4), np.ones((4, 4), bool))
    texts = [
        describe(thing, np.random.default_rng(seed), texture=1, colour=1) for seed in range(60)
    ]
    assert {len(parts_in(text)) for text in texts} == {1, 2, 3}
    for text in texts:
        assert text.startswith("striped red thing with ") and parts_in(text) < set(parts)
        assert len(text.removeprefix("striped red thing with ").split(" and ")) == len(
            parts_in(text)
        )


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((5, 20, 10, 20), "on the left"),  # centre 10, 30 of 100 x 60
        ((80, 20, 10, 20), "on the right"),
        ((45, 0, 10, 20), "at the top"),
        ((45, 40, 10, 20), "at the bottom"),
        ((55, 25, 10, 20), ""),
        ((70, 50, 10, 10), "at the bottom"),  # 25 % to the right, 42 % down
    ],
)
def test_place_is_the_side_with_the_larger_offset(box, place):
    thing = Thing(
        "dog", "dog", Parts("long body"), "red", "plain", "", box, np.ones((60, 100), bool)
    )
    assert place_of(Scene(np.zeros((60, 100, 3), np.uint8), (thing,), {}), thing) == place


def test_relations_in_scene_captions_are_true():
    found = set()
    for seed in range(1500):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, (48, 80), count=2, kinds=("dog", "chair"))
        things = {thing.kind: thing for thing in scene.things}
        caption = scene_caption(scene, rng)
        match = re.search(r"(dog|chair) (left|right|above|below)\b.* (dog|chair)", caption)
        if match and len(things) == 2:
            first, predicate, second = match.groups()
            assert describes(scene, things[first], first, (), [(predicate, second)]), caption
            found.add((first, predicate))
    assert len(found) == 8


def test_scene_captions_mention_only_things_and_stuff_of_the_scene():
    nouns = {name for names in NAMES.values() for name in names if " " not in name} | set(STUFF)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, 64, near_misses=0.3)
        present = {w for t in scene.things for n in named(t) for w in n.split()}
        present |= {name for stuff in scene.stuff for name in STUFF_NAMES[stuff]}
        caption = scene_caption(scene, rng)
        words = set(caption.replace(",", " ").replace(".", " ").split())
        assert words & nouns <= present
        assert parts_in(caption) <= {part for thing in scene.things for part in thing.parts}
