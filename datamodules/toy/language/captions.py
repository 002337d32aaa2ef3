"""PhraseCut-style phrases of a toy scene, each with the masks that it means."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.toy.language.words import NAMES, SIZE_WORDS, STUFF_NAMES
from datamodules.toy.scenes.scene import Scene, Thing

PhraseType = Literal["name", "attribute", "relation", "verbose"]
_CLEARLY = 0.1  # share of the picture's side by which centres must differ for a relation to hold


@dataclass(frozen=True)
class Phrase:
    """A phrase and what it means in its scene.

    Attributes:
        text: The words, lower case.
        name: The noun.
        attributes: Attributes in the order in which PhraseCut prepends them.
        relations: Pairs of predicate and object name.
        type: What told the meant things apart, as PhraseCut has it.
        things: Indices into the scene's things, in order; empty for stuff.
        stuff: Name of the stuff that is meant, else "".
    """

    text: str
    name: str
    attributes: tuple[str, ...]
    relations: tuple[tuple[str, str], ...]
    type: PhraseType
    things: tuple[int, ...]
    stuff: str = ""

    def masks(self, scene: Scene) -> list[NDArray[np.bool_]]:
        """One (H, W) bool mask per instance; the phrase means their union."""
        return (
            [scene.stuff[self.stuff]]
            if self.stuff
            else [scene.things[index].mask for index in self.things]
        )


def names_of(thing: Thing) -> tuple[str, ...]:
    """All nouns for a thing, the commonest first."""
    return NAMES[thing.variant]


def _centre(thing: Thing) -> tuple[float, float]:
    x, y, width, height = thing.box
    return x + width / 2, y + height / 2


RELATIONS: dict[str, tuple[int, int]] = {
    "left of the": (0, 1),
    "right of the": (0, -1),
    "above the": (1, 1),
    "below the": (1, -1),
}
"""Predicate -> axis (0 is x) and sign of the way from the thing to the relation's object."""


def distance(thing: Thing, predicate: str, other: Thing) -> float:
    """Pixels by which a relation such as "left of the" holds between centres; negative if not."""
    axis, sign = RELATIONS[predicate]
    return sign * (_centre(other)[axis] - _centre(thing)[axis])


def _related(scene: Scene, thing: Thing, other: Thing, predicate: str) -> bool | None:
    """Whether `predicate` holds clearly, None where a person would hesitate."""
    side = scene.image.shape[1 - RELATIONS[predicate][0]]
    share = distance(thing, predicate, other) / side
    return True if share > _CLEARLY else False if share < 0 else None


def _is(thing: Thing, attribute: str) -> bool:
    """Whether a colour, texture or size word is true of a thing."""
    return attribute in (thing.colour, thing.texture, *SIZE_WORDS.get(thing.size, ()))


def _phrase(scene: Scene, name: str, *attributes: str) -> Phrase:
    """The phrase of all things called `name` of which every attribute is true."""
    called = [index for index, thing in enumerate(scene.things) if name in names_of(thing)]
    meant = tuple(i for i in called if all(_is(scene.things[i], word) for word in attributes))
    text = " ".join((*reversed(attributes), name))
    manner: PhraseType = "attribute" if len(meant) < len(called) else "name"
    return Phrase(text, name, attributes, (), manner, meant)


def _relation_phrase(scene: Scene, rng: np.random.Generator, name: str) -> Phrase | None:
    """A phrase such as "dog left of the chair", or None where none is clear for every dog."""
    called = [index for index, thing in enumerate(scene.things) if name in names_of(thing)]
    others = [thing for thing in scene.things if name not in names_of(thing)]
    rng.shuffle(others)
    for other in others:
        predicate = str(rng.choice(tuple(RELATIONS)))
        noun = str(rng.choice(names_of(other)))
        references = [thing for thing in scene.things if noun in names_of(thing)]
        if len(references) != 1:
            continue
        verdicts = [_related(scene, scene.things[index], other, predicate) for index in called]
        if None in verdicts or not any(verdicts):
            continue
        meant = tuple(index for index, verdict in zip(called, verdicts, strict=True) if verdict)
        manner: PhraseType = "relation" if len(meant) < len(called) else "verbose"
        return Phrase(f"{name} {predicate} {noun}", name, (), ((predicate, noun),), manner, meant)
    return None


def _candidates(scene: Scene, rng: np.random.Generator) -> Iterator[Phrase]:
    """Phrases of each thing and each stuff region, in random order within a thing."""
    for thing in scene.things:
        names = names_of(thing)
        name = names[0] if rng.random() < 0.6 else str(rng.choice(names))
        colour, texture, size = thing.colour, thing.texture, thing.size
        choice = rng.random()
        if choice < 0.26:
            yield _phrase(scene, name)
        elif choice < 0.58:
            yield _phrase(scene, name, colour)
        elif choice < 0.72 and texture != "plain":
            yield _phrase(scene, name, texture)
        elif choice < 0.78 and texture != "plain":
            yield _phrase(scene, name, colour, texture)
        elif choice < 0.86 and size:
            yield _phrase(scene, name, str(rng.choice(SIZE_WORDS[size])))
        elif (related := _relation_phrase(scene, rng, name)) is not None:
            yield related
        else:
            yield _phrase(scene, name, colour)
    for stuff, mask in scene.stuff.items():
        if rng.random() < 0.4 and mask.mean() > 0.03:
            name = str(rng.choice(STUFF_NAMES[stuff]))
            yield Phrase(name, name, (), (), "name", (), stuff)


def draw_phrases(scene: Scene, rng: np.random.Generator) -> list[Phrase]:
    """Draws about one phrase per thing and one per two stuff regions, no text twice.

    Args:
        scene: What to describe.
        rng: The only source of randomness.

    Returns:
        Phrases in random order; a phrase means every thing of the scene that it is true of.
    """
    phrases = list({phrase.text: phrase for phrase in _candidates(scene, rng)}.values())
    return [phrases[index] for index in rng.permutation(len(phrases))]
