"""Which photo is asked about which class, with which supports: the published ways to draw it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

SUPPORT_PIXELS = 2 * 32 * 32
"""pixels of a class from which PFENet takes a photo for it"""
HSNET_EPISODES = 1000


class Episode(NamedTuple):
    """One question."""

    query: str
    """name of the photo"""
    class_id: int
    """from 0; its label is one more"""
    supports: tuple[str, ...]
    """names of other photos that show the class"""


class Drawn(NamedTuple):
    """Episodes, and what could not become one."""

    episodes: list[Episode]
    skipped: dict[str, int]
    """reason -> number of photos or classes"""


def pfenet_episodes(
    pixels: Mapping[str, Mapping[int, int]], classes: Sequence[int], shots: int, seed: int
) -> Drawn:
    """One episode for each photo that shows enough of a class.

    A photo counts if one of the classes has at least 2048 pixels in it. Asked for is one of the
    classes that it shows at all, supports are other photos that show enough of that class, without
    repetition; PFENet draws both without a seed, here they depend on the seed and on the photo's
    place in the list.

    Args:
        pixels: photo -> class -> its number of pixels, in the list's order.
        classes: of the fold.
        shots: K, supports an episode.
        seed: of the draws.

    Reference: PFENet's loader as CLIPSeg runs it: once over the list.
    """
    enough = {
        wanted: [name for name, counts in pixels.items() if counts.get(wanted, 0) >= SUPPORT_PIXELS]
        for wanted in classes
    }
    showing = {name for names in enough.values() for name in names}
    queries = [name for name in pixels if name in showing]
    episodes: list[Episode] = []
    skipped: dict[str, int] = {}
    for place, query in enumerate(queries):
        rng = np.random.default_rng([seed, place])
        present = [wanted for wanted in classes if pixels[query].get(wanted, 0)]
        chosen = int(present[rng.integers(len(present))])
        others = [name for name in enough[chosen] if name != query]
        if len(others) < shots:
            reason = f"that show a class with fewer than {shots} other photos"
            skipped[reason] = skipped.get(reason, 0) + 1
            continue
        drawn = rng.choice(len(others), shots, replace=False)
        episodes.append(Episode(query, chosen, tuple(others[index] for index in drawn)))
    return Drawn(episodes, skipped)


def hsnet_pascal_episodes(lines: Sequence[tuple[str, int]], shots: int, seed: int) -> Drawn:
    """HSNet's test episodes on Pascal-5i: 1000, going round the fold's list.

    The draws are those of numpy's old generator, so that seed 0 gives the very episodes that
    HSNet's test script evaluates. With several shots a support may come twice, as there.

    Args:
        lines: photo and class of each line of the fold's list.
        shots: K, supports an episode.
        seed: HSNet's is 0.
    """
    photos: dict[int, list[str]] = {}
    for name, class_id in lines:
        photos.setdefault(class_id, []).append(name)
    usable, skipped = _with_partners(photos)
    asked = [(name, class_id) for name, class_id in lines if class_id in usable]
    if not asked:
        return Drawn([], skipped)
    rng = np.random.RandomState(seed)
    episodes = []
    for number in range(HSNET_EPISODES):
        query, class_id = asked[number % len(asked)]
        episodes.append(_with_supports(query, class_id, photos[class_id], shots, rng))
    return Drawn(episodes, skipped)


def hsnet_coco_episodes(photos: Mapping[int, Sequence[str]], shots: int, seed: int) -> Drawn:
    """HSNet's test episodes on COCO-20i: 1000 times a class, a query and supports at random.

    Args:
        photos: class of the fold, rising -> photos that show it.
        shots: K, supports an episode.
        seed: HSNet's is 0.
    """
    usable, skipped = _with_partners(photos)
    rng = np.random.RandomState(seed)
    episodes = []
    for _ in range(HSNET_EPISODES if usable else 0):
        class_id = int(rng.choice(usable, 1, replace=False)[0])
        names = photos[class_id]
        query = names[_draw(rng, len(names))]
        episodes.append(_with_supports(query, class_id, names, shots, rng))
    return Drawn(episodes, skipped)


def _with_supports(
    query: str, class_id: int, names: Sequence[str], shots: int, rng: np.random.RandomState
) -> Episode:
    supports: list[str] = []
    while len(supports) < shots:
        name = names[_draw(rng, len(names))]
        if name != query:
            supports.append(name)
    return Episode(query, class_id, tuple(supports))


def _draw(rng: np.random.RandomState, count: int) -> int:
    """As numpy's `choice` without replacement draws one of so many."""
    return int(rng.choice(count, 1, replace=False)[0])


def _with_partners(photos: Mapping[int, Sequence[str]]) -> tuple[list[int], dict[str, int]]:
    """The classes with at least two photos, and how many have fewer."""
    usable = [class_id for class_id, names in photos.items() if len(set(names)) > 1]
    lonely = len(photos) - len(usable)
    return usable, {"classes with no second photo as support": lonely} if lonely else {}
