"""One-shot episodes, sampled by the published rules of PFENet and HSNet."""

import json

import numpy as np
import pytest

from datamodules.datasets.episodes import (
    HSNET_EPISODES,
    Episode,
    hsnet_coco_episodes,
    hsnet_pascal_episodes,
    pfenet_episodes,
)

ENOUGH = 2048
PIXELS = {
    "both": {0: ENOUGH, 1: ENOUGH},
    "first": {0: ENOUGH + 5},
    "a little of the first": {0: ENOUGH - 1},
    "second": {1: 9000},
    "a little of the first, enough of the second": {0: 3, 1: ENOUGH},
    "neither": {},
}


def test_pfenet_uses_every_photo_with_enough_pixels_once():
    sampled = pfenet_episodes(PIXELS, [0, 1], 1, seed=0)
    assert [episode.query for episode in sampled.episodes] == [
        "both",
        "first",
        "second",
        "a little of the first, enough of the second",
    ]
    assert not sampled.skipped


def test_pfenet_samples_any_visible_class_and_supports_with_enough_pixels():
    queries, supports = set(), set()
    for seed in range(60):
        for query, class_id, (support,) in pfenet_episodes(PIXELS, [0, 1], 1, seed).episodes:
            assert support != query and PIXELS[support].get(class_id, 0) >= ENOUGH
            queries.add((query, class_id))
            supports.add((query, support))
    # a class with few pixels in the query can be sampled, too
    assert ("a little of the first, enough of the second", 0) in queries
    assert {class_id for query, class_id in queries if query == "both"} == {0, 1}
    assert {support for query, support in supports if query == "second"} == {
        "both",
        "a little of the first, enough of the second",
    }


def test_pfenet_supports_are_different_photos_and_queries_with_too_few_are_counted():
    names = [f"photo {number}" for number in range(6)]
    sampled = pfenet_episodes({name: {4: ENOUGH} for name in names}, [4], 5, seed=1)
    assert all(set(e.supports) == set(names) - {e.query} for e in sampled.episodes)
    assert len(sampled.episodes) == 6
    few = pfenet_episodes({name: {4: ENOUGH} for name in names}, [4], 6, seed=1)
    assert not few.episodes
    assert few.skipped == {"photos of a class with fewer than 6 other usable photos": 6}


def test_pfenet_episodes_depend_on_the_seed_only():
    first, again, other = (pfenet_episodes(PIXELS, [0, 1], 1, seed) for seed in (0, 0, 3))
    assert first == again and first != other


def test_hsnet_cycles_through_its_list():
    lines = [("a", 0), ("b", 0), ("c", 1), ("d", 1), ("d", 0)]
    episodes = hsnet_pascal_episodes(lines, 1, seed=0).episodes
    assert len(episodes) == HSNET_EPISODES
    assert [(e.query, e.class_id) for e in episodes[:10]] == lines * 2
    for query, class_id, (support,) in episodes:
        assert support != query and (support, class_id) in lines


def test_hsnet_repeats_supports_if_there_are_too_few():
    episodes = hsnet_pascal_episodes([("a", 0), ("b", 0)], 3, seed=0).episodes
    assert episodes[0] == Episode("a", 0, ("b", "b", "b"))


@pytest.mark.parametrize("too_few", [["x"], ["x", "x"], []])
def test_classes_without_a_second_photo_are_skipped_and_counted(too_few):
    photos = {2: ["a", "b", "c"], 6: too_few}
    sampled = hsnet_coco_episodes(photos, 1, seed=0)
    assert {episode.class_id for episode in sampled.episodes} == {2}
    assert sampled.skipped == {"classes with no second photo as support": 1}
    lines = [(name, class_id) for class_id, names in photos.items() for name in names]
    assert {e.class_id for e in hsnet_pascal_episodes(lines, 1, 0).episodes} == {2}


def test_no_usable_class_gives_no_episodes():
    assert not hsnet_coco_episodes({3: ["a"]}, 1, 0).episodes
    assert not hsnet_pascal_episodes([("a", 3)], 1, 0).episodes
    assert not pfenet_episodes({"a": {3: 9000}}, [3], 1, 0).episodes


def test_coco_samples_a_class_then_a_query_then_supports():
    """Compare with a plain loop that samples like HSNet."""
    photos = {1: ["a", "b", "c"], 5: ["d", "e"], 9: ["a", "e", "f", "g"]}
    rng = np.random.RandomState(7)
    expected = []
    for _ in range(50):
        class_id = rng.choice([1, 5, 9], 1, replace=False)[0]
        query = rng.choice(photos[class_id], 1, replace=False)[0]
        while True:
            support = rng.choice(photos[class_id], 1, replace=False)[0]
            if support != query:
                break
        expected.append(Episode(str(query), int(class_id), (str(support),)))
    assert hsnet_coco_episodes(photos, 1, seed=7).episodes[:50] == expected


def test_episodes_equal_those_published_by_hsnet(real_data):
    splits = real_data / "splits"
    published = json.loads((splits / "hsnet_test_episodes_1shot_seed0.json").read_text())
    for fold in range(4):
        words = (splits / f"hsnet/pascal/val/fold{fold}.txt").read_text().split()
        lines = [(word[:-4], int(word[-2:]) - 1) for word in words]
        episodes = hsnet_pascal_episodes(lines, 1, seed=0).episodes
        ours = [[e.query, *e.supports, e.class_id] for e in episodes]
        assert ours == published[f"pascal_fold{fold}"]
