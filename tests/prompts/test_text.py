"""Prefixes of text prompts."""

from collections import Counter

import numpy as np
import pytest

from clipseg_pl.prompts.text import PREFIXES, draw_text_prompt

NINE = {
    "a photo of a dog.",
    "a photograph of a dog.",
    "an image of a dog.",
    "dog.",
    "a cropped photo of a dog.",
    "a good photo of a dog.",
    "a photo of one dog.",
    "a bad photo of a dog.",
    "a photo of the dog.",
}
FOUR = {"a photo of a dog.", "a photograph of a dog.", "an image of a dog.", "dog."}


def sampled(name: str, times: int, phrase: str = "dog") -> Counter:
    rng = np.random.default_rng(0)
    return Counter(draw_text_prompt(phrase, name, rng) for _ in range(times))


def test_prefix_lists_have_the_authors_names():
    assert set(PREFIXES) == {"plain", "fixed", "shuffle", "shuffle_plus"}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("plain", {"dog"}),
        ("fixed", {"a photo of a dog."}),
        ("shuffle", FOUR),
        ("shuffle_plus", NINE),
    ],
)
def test_all_prefixes_of_a_list_are_sampled(name, wanted):
    assert set(sampled(name, 500)) == wanted


@pytest.mark.parametrize(("name", "choices"), [("shuffle", 4), ("shuffle_plus", 9)])
def test_prefixes_are_sampled_uniformly(name, choices):
    times = 1000 * choices
    spread = 5 * (1000 * (1 - 1 / choices)) ** 0.5  # five standard deviations
    assert all(abs(count - 1000) < spread for count in sampled(name, times).values())


def test_equal_seeds_sample_equal_prompts():
    one, other = (np.random.default_rng(3) for _ in range(2))
    for _ in range(50):
        prompts = [draw_text_prompt("dog", "shuffle_plus", rng) for rng in (one, other)]
        assert prompts[0] == prompts[1]


def test_braces_in_a_phrase_are_not_replaced():
    assert set(sampled("plain", 1, "a {curly} {} dog")) == {"a {curly} {} dog"}
    assert set(sampled("fixed", 1, "{}")) == {"a photo of a {}."}


def test_unknown_prefixes_raise():
    with pytest.raises(ValueError, match=r"plain, fixed, shuffle, shuffle_plus, not 'shuffle\+'"):
        draw_text_prompt("a cat", "shuffle+", np.random.default_rng(0))
