"""One-shot episodes (query photo, class, support photos), sampled as in PFENet and HSNet."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

SUPPORT_PIXELS = 2 * 32 * 32
"""minimum number of pixels of a class in a photo for PFENet to use the photo"""
HSNET_EPISODES = 1000


class Episode(NamedTuple):
    """A query photo, a class and support photos."""

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

    A photo is a query if one of the fold's classes has at least 2048 pixels in it. The class of the
    episode is sampled from all classes of the fold in the photo, however small. The support photos
    are distinct photos other than the query, each with at least 2048 pixels of that class. PFENet
    samples without a seed. In this function, an episode depends only on the seed and on the
    query's position among all queries. See docs/deviations.md (pfenet-episodes).

    Args:
        pixels: photo -> class -> number of pixels, in the order of PFENet's list.
        classes: class ids of the fold.
        shots: support photos per episode.
        seed: seed for sampling.

    Reference: PFENet's data loader, as run by CLIPSeg, which passes over the list once.
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
    With several shots, an episode may contain a support photo twice, as in HSNet.

    Args:
        lines: photo and class id of each line of the fold's list.
        shots: support photos per episode.
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
    """Sample HSNet's 1000 test episodes on COCO-20i, each with a random class, query and supports.

    Args:
        photos: class id -> photos that show the class, for the fold's classes in ascending order.
        shots: support photos per episode.
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
    """Sample an index below `count`; calls `choice` as HSNet does, to get the same numbers."""
    return int(rng.choice(count, 1, replace=False)[0])


def _with_partners(photos: Mapping[int, Sequence[str]]) -> tuple[list[int], dict[str, int]]:
    """Return the classes with at least two photos, and the number of other classes, by reason."""
    usable = [class_id for class_id, names in photos.items() if len(set(names)) > 1]
    unusable = len(photos) - len(usable)
    return usable, {"classes with no second photo as support": unusable} if unusable else {}
