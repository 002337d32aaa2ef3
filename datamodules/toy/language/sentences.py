"""Captions for contrastive pre-training, for whole scenes and for single things."""

import numpy as np

from clipseg_pl.prompts.text import PREFIXES
from datamodules.toy.language.captions import (
    RELATIONS,
    centre,
    distance,
    draw_phrases,
    names_of,
)
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
from datamodules.toy.scenes.scene import Scene, Thing

_PREFIXES = PREFIXES["shuffle_plus"]  # templates of the paper's training, with {} for a phrase
PLACES = ("on the left", "on the right"), ("at the top", "at the bottom")
_OFF_CENTRE = 0.15  # distance from the centre, as a share of the side
_MAX_LISTED = 4  # maximum number of things in a caption that lists them
_EMPTY = ("background", "the background", "an empty background")


def describe(
    thing: Thing,
    rng: np.random.Generator,
    *,
    colour: float = 0.85,
    texture: float = 0.5,
    parts: float = 0.0,
) -> str:
    """Return a noun with attributes and no article, such as "striped red dog with ears".

    Args:
        thing: The thing to describe.
        rng: The only source of randomness.
        colour: Probability of naming the colour.
        texture: Probability of naming a texture other than plain.
        parts: Probability of naming one to three parts; 1 for things without a kind.
    """
    words = []
    if thing.size and rng.random() < 0.15:
        words.append(str(rng.choice(SIZE_WORDS[thing.size])))
    if thing.texture != "plain" and rng.random() < texture:
        words.append(thing.texture)
    if rng.random() < colour:
        words.append(thing.colour)
    names = names_of(thing)
    words.append(names[0] if rng.random() < 0.5 else str(rng.choice(names)))
    if not thing.kind or rng.random() < parts:
        known = rng.permutation([value for value in thing.parts if value])
        words += ["with", " and ".join(known[: int(rng.integers(1, 4))])]
    return " ".join(words)


def place_of(scene: Scene, thing: Thing) -> str:
    """Return where in the scene a thing is, such as "on the left"; "" near the centre."""
    height, width = scene.image.shape[:2]
    x, y = centre(thing)
    offsets = x / width - 0.5, y / height - 0.5
    axis = int(abs(offsets[1]) > abs(offsets[0]))
    return PLACES[axis][int(offsets[axis] > 0)] if abs(offsets[axis]) > _OFF_CENTRE else ""


def relation_of(thing: Thing, other: Thing) -> str:
    """Return where a thing is from another thing: the predicate with the longest distance."""
    return max(RELATIONS, key=lambda predicate: distance(thing, predicate, other))


def _property_sentence(thing: Thing, rng: np.random.Generator) -> str:
    """Return a sentence about an affordance, attribute or part; if none fits, a description."""
    matching = properties_of(thing.parts)
    if not matching:
        return describe(thing, rng)
    sentence = str(rng.choice(PROPERTY_SENTENCES[str(rng.choice(matching))]))
    if rng.random() < 0.35:
        sentence = f"{describe(thing, rng)}, {sentence.replace(' {}', '').replace(' that is', '')}"
    return sentence.format(thing.colour)


def thing_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return a caption for a scene with exactly one thing."""
    (thing,) = scene.things
    choice = rng.random()
    if choice < 0.18:
        return _property_sentence(thing, rng)
    if choice < 0.26:
        return (
            f"{thing.colour} thing"
            if thing.texture == "plain"
            else f"{thing.texture} {thing.colour} thing"
        )
    # often without the colour, so that names of kinds are learned on their own
    words = describe(thing, rng, colour=0.6, parts=0.4)
    if choice < 0.5:
        stuff = [name for name, mask in scene.stuff.items() if mask.mean() > 0.1]
        if stuff:
            ground = rng.choice(STUFF_NAMES[str(rng.choice(stuff))])
            return f"{words} {rng.choice(('and', 'on', 'before'))} {ground}"
    return str(rng.choice(_PREFIXES)).format(words) if choice < 0.8 else words


def scene_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return a caption for any scene: a list of things, a relation, one phrase, or stuff."""
    stuff = [
        str(rng.choice(STUFF_NAMES[name]))
        for name, mask in scene.stuff.items()
        if mask.mean() > 0.05
    ]
    if not scene.things:
        ground = " and ".join(stuff)
        return ground if rng.random() < 0.6 else str(rng.choice(_EMPTY))
    things = [scene.things[index] for index in rng.permutation(len(scene.things))]
    choice = rng.random()
    if choice < 0.12:
        phrases = draw_phrases(scene, rng)
        return (
            str(rng.choice(_PREFIXES)).format(phrases[0].text)
            if rng.random() < 0.3
            else phrases[0].text
        )
    if choice < 0.27 and len(things) > 1:
        first, second = things[:2]
        return f"{describe(first, rng)} {relation_of(first, second)} {describe(second, rng)}"
    named = [
        _property_sentence(thing, rng)
        if rng.random() < 0.08
        else describe(thing, rng, colour=0.8, texture=0.4, parts=0.1)
        for thing in things[:_MAX_LISTED]
    ]
    if stuff and rng.random() < 0.3:
        named.append(str(rng.choice(stuff)))
    if choice > 0.8 and len(named) > 1:
        named = named[: int(rng.integers(1, len(named) + 1))]
    joined = ", ".join(named[:-1]) + " and " + named[-1] if len(named) > 1 else named[0]
    return f"a photo of {joined}" if rng.random() < 0.15 else joined


def all_words() -> list[str]:
    """Return the building blocks of all captions and phrases; their tokens are the vocabulary."""
    texts: list[str] = [
        *COLOUR_WORDS,
        "plain",
        *TEXTURE_WORDS,
        *PART_WORDS,
        *_PREFIXES,
        *RELATIONS,
        *_EMPTY,
    ]
    texts += [place for places in PLACES for place in places]
    texts += ["thing", "with", "and", "on", "before", ",", "a photo of"]
    for table in (NAMES, STUFF_NAMES, SIZE_WORDS, PROPERTY_SENTENCES):
        texts += [word for words in table.values() for word in words]
    return [text.replace("{}", " ") for text in texts]
