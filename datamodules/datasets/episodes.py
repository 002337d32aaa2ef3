"""One-shot episodes (query photo, class, supports), sampled by the rules of PFENet and HSNet."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

SUPPORT_PIXELS = 2 * 32 * 32
"""minimum number of pixels of a class in a photo for PFENet to use the photo"""
HSNET_EPISODES = 1000


class Episode(NamedTuple):
    """A query photo, a class and supports."""

    query: str
    """name of the query photo"""
    class_id: int
    """class, from 0; its label in a map is `class_id` + 1"""
    supports: tuple[str, ...]
    """names of other photos that show the class"""


class SampledEpisodes(NamedTuple):
    """Episodes, and the number of photos or classes without an episode."""

    episodes: list[Episode]
    skipped: dict[str, int]
    """reason -> number of photos or classes"""


def pfenet_episodes(
    pixels: Mapping[str, Mapping[int, int]], classes: Sequence[int], shots: int, seed: int
) -> SampledEpisodes:
    """Sample one episode for each photo that shows enough of a class.

    A photo is a query if one of the classes has at least 2048 pixels in it. The class is sampled
    from all classes of the fold in the photo, however small. The supports are different other
    photos with at least 2048 pixels of that class. PFENet samples without a seed; here the result
    depends on the seed and the photo's position among the queries.

    Args:
        pixels: photo -> class -> number of pixels, in the order of the list.
        classes: class ids of the fold.
        shots: supports per episode.
        seed: seed for sampling.

    Reference: PFENet's data loader, as run by CLIPSeg: once over the list.
    """
    enough = {
        c: [name for name, counts in pixels.items() if counts.get(c, 0) >= SUPPORT_PIXELS]
        for c in classes
    }
    usable = {name for names in enough.values() for name in names}
    queries = [name for name in pixels if name in usable]
    episodes: list[Episode] = []
    skipped: dict[str, int] = {}
    for place, query in enumerate(queries):
        rng = np.random.default_rng([seed, place])
        present = [c for c in classes if pixels[query].get(c, 0)]
        chosen = int(present[rng.integers(len(present))])
        others = [name for name in enough[chosen] if name != query]
        if len(others) < shots:
            reason = f"photos of a class with fewer than {shots} other usable photos"
            skipped[reason] = skipped.get(reason, 0) + 1
            continue
        sampled = rng.choice(len(others), shots, replace=False)
        episodes.append(Episode(query, chosen, tuple(others[index] for index in sampled)))
    return SampledEpisodes(episodes, skipped)


def hsnet_pascal_episodes(
    lines: Sequence[tuple[str, int]], shots: int, seed: int
) -> SampledEpisodes:
    """Sample HSNet's 1000 test episodes on Pascal-5i, cycling through the fold's list.

    Uses numpy's legacy generator, so that seed 0 gives exactly the episodes of HSNet's test script.
    With several shots a support may repeat, as in HSNet.

    Args:
        lines: photo and class id of each line of the fold's list.
        shots: supports per episode.
        seed: seed for sampling; HSNet uses 0.
    """
    photos: dict[int, list[str]] = {}
    for name, class_id in lines:
        photos.setdefault(class_id, []).append(name)
    usable, skipped = _with_partners(photos)
    pairs = [(name, class_id) for name, class_id in lines if class_id in usable]
    if not pairs:
        return SampledEpisodes([], skipped)
    rng = np.random.RandomState(seed)
    episodes = []
    for number in range(HSNET_EPISODES):
        query, class_id = pairs[number % len(pairs)]
        episodes.append(_with_supports(query, class_id, photos[class_id], shots, rng))
    return SampledEpisodes(episodes, skipped)


def hsnet_coco_episodes(
    photos: Mapping[int, Sequence[str]], shots: int, seed: int
) -> SampledEpisodes:
    """Sample HSNet's 1000 test episodes on COCO-20i: a random class, query and supports each.

    Args:
        photos: class id of the fold, in ascending order -> photos that show the class.
        shots: supports per episode.
        seed: seed for sampling; HSNet uses 0.
    """
    usable, skipped = _with_partners(photos)
    rng = np.random.RandomState(seed)
    episodes = []
    for _ in range(HSNET_EPISODES if usable else 0):
        class_id = int(rng.choice(usable, 1, replace=False)[0])
        names = photos[class_id]
        query = names[_sample_index(rng, len(names))]
        episodes.append(_with_supports(query, class_id, names, shots, rng))
    return SampledEpisodes(episodes, skipped)


def _with_supports(
    query: str, class_id: int, names: Sequence[str], shots: int, rng: np.random.RandomState
) -> Episode:
    supports: list[str] = []
    while len(supports) < shots:
        name = names[_sample_index(rng, len(names))]
        if name != query:
            supports.append(name)
    return Episode(query, class_id, tuple(supports))


def _sample_index(rng: np.random.RandomState, count: int) -> int:
    """Sample an index below `count` with `choice`, which uses the same random numbers as HSNet."""
    return int(rng.choice(count, 1, replace=False)[0])


def _with_partners(photos: Mapping[int, Sequence[str]]) -> tuple[list[int], dict[str, int]]:
    """Return the classes with at least two photos, and the number of other classes, by reason."""
    usable = [class_id for class_id, names in photos.items() if len(set(names)) > 1]
    unusable = len(photos) - len(usable)
    return usable, {"classes with no second photo as support": unusable} if unusable else {}
