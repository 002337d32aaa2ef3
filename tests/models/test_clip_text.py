"""The embedding of a text depends only on the text, bit for bit."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clip_text import TextEncoder

WORDS = "a dog cat near the red sofa behind two small white chairs under an old tree".split()
TEXTS = [" ".join(WORDS[start : start + length]) for length in range(1, 17) for start in (0, 4, 9)]
CLIPS = {"tiny": False, "toy2": True}


@cache
def encoder(name: str) -> TextEncoder:
    return CLIPBackbone(name, pretrained=CLIPS[name]).text_encoder


@cache
def embedded_separately(name: str) -> dict[str, Tensor]:
    """Embed each text in its own call, with an empty cache."""
    encoder(name).cache_size = 0
    return {text: encoder(name)([text])[0] for text in TEXTS}


@pytest.mark.parametrize("name", CLIPS)
@settings(max_examples=50, deadline=None)
@given(
    calls=st.lists(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=25), min_size=1),
    cache_size=st.sampled_from([3, 100]),
)
def test_embedding_does_not_depend_on_other_texts_order_or_cache(name, calls, cache_size):
    expected = embedded_separately(name)
    encoder(name).cache_size = cache_size
    for texts in calls:
        assert torch.equal(encoder(name)(texts), torch.stack([expected[text] for text in texts]))
    encoder(name).cache_size = 0
    encoder(name)(TEXTS[:1])  # empties the cache
