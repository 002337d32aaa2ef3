import re

import numpy as np
import pytest

from datamodules.datasets.exclusion import AFFORDANCE_WORDS
from datamodules.toy.language.captions import draw_phrases
from datamodules.toy.language.sentences import scene_caption, thing_caption
from datamodules.toy.language.words import (
    COLOUR_WORDS,
    NAMES,
    PROPERTIES,
    SIZE_WORDS,
    STUFF_NAMES,
)
from datamodules.toy.scenes.kinds import KINDS
from datamodules.toy.scenes.scene import draw_scene

SIZES = {word: size for size, words in SIZE_WORDS.items() for word in words}
STUFF = {name: stuff for stuff, names in STUFF_NAMES.items() for name in names}


@pytest.fixture(scope="module")
def described():
    result = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, 64, kinds=KINDS if seed % 2 else ("dog", "chair", "person"))
        result.append((scene, draw_phrases(scene, rng)))
    return result


def centre(thing):
    return thing.box[0] + thing.box[2] / 2, thing.box[1] + thing.box[3] / 2


def describes(scene, thing, name, attributes, relations):
    """Return whether a phrase describes a thing, without the code under test."""
    if name not in NAMES[thing.variant]:
        return False
    for word in attributes:
        if word not in (thing.colour, thing.texture) and SIZES.get(word) != thing.size:
            return False
    for predicate, noun in relations:
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


def test_phrase_refers_to_exactly_the_things_it_describes(described):
    count = 0
    for scene, phrases in described:
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
            count += 1
    assert count > 600


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


def test_phrases_do_not_mention_affordances_attributes_or_parts(described):
    words = {word for _, phrases in described for phrase in phrases for word in phrase.text.split()}
    assert not words.intersection(AFFORDANCE_WORDS)


def test_pretraining_captions_mention_only_properties_of_the_thing():
    mentioned = set()
    for seed in range(600):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, 64, count=1)
        caption = thing_caption(scene, rng)
        for text, kinds in PROPERTIES.items():
            (word,) = set(AFFORDANCE_WORDS).intersection(text.split())
            if word in caption.replace(",", " ").split():
                mentioned.add(text)
                assert scene.things[0].kind in kinds, caption
    assert mentioned == set(PROPERTIES)


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
        scene = draw_scene(rng, 64)
        present = {w for t in scene.things for n in NAMES[t.variant] for w in n.split()}
        present |= {name for stuff in scene.stuff for name in STUFF_NAMES[stuff]}
        words = set(scene_caption(scene, rng).replace(",", " ").replace(".", " ").split())
        assert words & nouns <= present
