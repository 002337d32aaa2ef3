"""PhraseCut-style phrases about a toy scene, each with the masks of its things or stuff."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.toy.language.words import NAMES, SIZE_WORDS, STUFF_NAMES
from datamodules.toy.scenes.scene import Scene, Thing

NAMELESS = "thing"
"""Noun that fits every thing; things without a name have no other noun."""
BACKGROUND = "background"
"""Phrase for everything but the things of a scene."""
PhraseType = Literal["name", "attribute", "relation", "verbose"]
_MIN_DISTANCE = 0.1  # between the centres of related things, as a share of the image side


@dataclass(frozen=True)
class Phrase:
    """A phrase and the things or the stuff region that it refers to.

    Attributes:
        text: The words, lower case.
        name: The noun.
        attributes: Attributes, the one next to the noun first. This is the order in which PhraseCut
            prepends them.
        relations: Pairs of predicate and object, such as ("left of the", "chair") or
            ("with", "ears").
        type: PhraseCut's phrase type. "attribute" or "relation" is the part that separates the
            referred things from others of the same name. If there are no others, the type is
            "verbose" for phrases with a relation and "name" for all other phrases.
        things: Indices into the scene's things, in order; empty for stuff.
        stuff: Name of the stuff region, or `BACKGROUND` for all stuff; "" for things.
    """

    text: str
    name: str
    attributes: tuple[str, ...]
    relations: tuple[tuple[str, str], ...]
    type: PhraseType
    things: tuple[int, ...]
    stuff: str = ""

    def masks(self, scene: Scene) -> list[NDArray[np.bool_]]:
        """Return one (H, W) bool mask per instance; the phrase refers to their union."""
        if self.stuff == BACKGROUND:
            return [np.any(list(scene.stuff.values()), 0)]
        return (
            [scene.stuff[self.stuff]]
            if self.stuff
            else [scene.things[index].mask for index in self.things]
        )


def names_of(thing: Thing) -> tuple[str, ...]:
    """Return all names of a thing, the most common one first; only "thing" if it has no kind."""
    return NAMES[thing.variant] if thing.kind else (NAMELESS,)


def centre(thing: Thing) -> tuple[float, float]:
    """Return the centre (x, y) of the visible part of a thing in pixels."""
    x, y, width, height = thing.box
    return x + width / 2, y + height / 2


RELATIONS: dict[str, tuple[int, int]] = {
    "left of the": (0, 1),
    "right of the": (0, -1),
    "above the": (1, 1),
    "below the": (1, -1),
}
"""Predicate -> axis (0 is x, 1 is y) and sign of the direction from the thing to the object."""


def distance(thing: Thing, predicate: str, other: Thing) -> float:
    """Return the distance of two centres along the predicate in pixels; negative if untrue."""
    axis, sign = RELATIONS[predicate]
    return sign * (centre(other)[axis] - centre(thing)[axis])


def _related(scene: Scene, thing: Thing, other: Thing, predicate: str) -> bool | None:
    """Return whether `predicate` is true; None if the centres are too close to tell."""
    side = scene.image.shape[1 - RELATIONS[predicate][0]]
    share = distance(thing, predicate, other) / side
    return True if share > _MIN_DISTANCE else False if share < 0 else None


def _has_attribute(thing: Thing, attribute: str) -> bool:
    """Return whether a colour, texture or size word describes a thing."""
    return attribute in (thing.colour, thing.texture, *SIZE_WORDS.get(thing.size, ()))


def _named(scene: Scene, name: str) -> list[int]:
    """Return the indices of the things called `name`; everything can be called "thing"."""
    return [
        index
        for index, thing in enumerate(scene.things)
        if name == NAMELESS or name in names_of(thing)
    ]


def _phrase(scene: Scene, name: str, *attributes: str) -> Phrase:
    """Return the phrase for all things called `name` that have every attribute."""
    named = _named(scene, name)
    referred = tuple(
        i for i in named if all(_has_attribute(scene.things[i], word) for word in attributes)
    )
    text = " ".join((*reversed(attributes), name))
    phrase_type: PhraseType = "attribute" if len(referred) < len(named) else "name"
    return Phrase(text, name, attributes, (), phrase_type, referred)


def _part_phrase(scene: Scene, rng: np.random.Generator, name: str, thing: Thing) -> Phrase:
    """Return a phrase such as "dog with ears", with a random part of `thing`."""
    part = str(rng.choice([value for value in thing.parts if value]))
    named = _named(scene, name)
    referred = tuple(index for index in named if part in scene.things[index].parts)
    phrase_type: PhraseType = "relation" if len(referred) < len(named) else "verbose"
    return Phrase(f"{name} with {part}", name, (), (("with", part),), phrase_type, referred)


def _relation_phrase(
    scene: Scene, rng: np.random.Generator, name: str, nameless: Collection[str]
) -> Phrase | None:
    """Return a phrase such as "dog left of the chair"; None if no unambiguous one is found."""
    named = _named(scene, name)
    others = [t for i, t in enumerate(scene.things) if i not in named and t.kind not in nameless]
    rng.shuffle(others)
    for other in others:
        predicate = str(rng.choice(tuple(RELATIONS)))
        noun = str(rng.choice(names_of(other)))
        if len(_named(scene, noun)) != 1:
            continue
        related = [_related(scene, scene.things[index], other, predicate) for index in named]
        if None in related or not any(related):
            continue
        referred = tuple(index for index, true in zip(named, related, strict=True) if true)
        phrase_type: PhraseType = "relation" if len(referred) < len(named) else "verbose"
        text = f"{name} {predicate} {noun}"
        return Phrase(text, name, (), ((predicate, noun),), phrase_type, referred)
    return None


def _candidates(
    scene: Scene, rng: np.random.Generator, nameless: Collection[str]
) -> Iterator[Phrase]:
    """Yield one random phrase per thing, and one for about 40 % of the larger stuff regions."""
    for thing in scene.things:
        names = (NAMELESS,) if thing.kind in nameless else names_of(thing)
        name = names[0] if rng.random() < 0.6 else str(rng.choice(names))
        colour, texture, size = thing.colour, thing.texture, thing.size
        choice = rng.random()
        if choice < 0.26 and name != NAMELESS:
            yield _phrase(scene, name)
        elif choice < 0.38:
            yield _part_phrase(scene, rng, name, thing)
        elif choice < 0.58:
            yield _phrase(scene, name, colour)
        elif choice < 0.72 and texture != "plain":
            yield _phrase(scene, name, texture)
        elif choice < 0.78 and texture != "plain":
            yield _phrase(scene, name, colour, texture)
        elif choice < 0.86 and size:
            yield _phrase(scene, name, str(rng.choice(SIZE_WORDS[size])))
        elif (related := _relation_phrase(scene, rng, name, nameless)) is not None:
            yield related
        else:
            yield _phrase(scene, name, colour)
    for stuff, mask in scene.stuff.items():
        if rng.random() < 0.4 and mask.mean() > 0.03:
            name = str(rng.choice(STUFF_NAMES[stuff]))
            yield Phrase(name, name, (), (), "name", (), stuff)


def draw_phrases(
    scene: Scene, rng: np.random.Generator, nameless: Collection[str] = ()
) -> list[Phrase]:
    """Sample about one phrase per thing, and one for 40 % of the stuff, without duplicate texts.

    Args:
        scene: The scene to describe.
        rng: The only source of randomness.
        nameless: Kinds that are called "thing" instead of their names.

    Returns:
        Phrases in random order. A phrase refers to every thing in the scene that it describes.
    """
    phrases = list({phrase.text: phrase for phrase in _candidates(scene, rng, nameless)}.values())
    return [phrases[index] for index in rng.permutation(len(phrases))]
