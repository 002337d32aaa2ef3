"""Conversion of weight names and back is the identity, bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from clipseg_pl.convert.key_map import (
    authors_decoder,
    clip_state,
    decoder_state,
    hugging_face_clip,
    hugging_face_decoder,
)
from clipseg_pl.models.backbone import BackboneShape
from clipseg_pl.models.decoder import FiLMDecoder
from tests.models.tiny_clipseg import tiny_backbone

DEPTH = 6


@st.composite
def decoders(draw) -> FiLMDecoder:
    """Generate decoders with any layers, widths and head."""
    layers = draw(st.sets(st.integers(0, DEPTH - 1), min_size=1, max_size=4))
    patch = draw(st.sampled_from([8, 14, 16, 32]))
    shape = BackboneShape(draw(st.integers(1, 9)), draw(st.integers(1, 9)), patch, DEPTH)
    heads = draw(st.sampled_from([1, 2, 4]))
    return FiLMDecoder(
        shape,
        layers=sorted(layers),
        dim=heads * draw(st.integers(1, 3)) * 2,
        heads=heads,
        feedforward=draw(st.integers(1, 9)),
        head=draw(st.sampled_from(["simple", "refined"])),
    )


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@settings(max_examples=30, deadline=None)
@given(decoders(), st.permutations([authors_decoder, hugging_face_decoder]))
def test_decoder_survives_conversion_to_every_format(decoder, formats):
    state = decoder.state_dict()
    for renamed in formats:
        other = renamed(state)
        assert not other.keys() & {"film_scale.weight"}
        state = decoder_state(other)
    assert same(state, decoder.state_dict())


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_clip_survives_conversion(quick_gelu):
    state = tiny_backbone(quick_gelu=quick_gelu).clip.state_dict()
    assert same(clip_state(hugging_face_clip(state)), state)


def test_names_equal_those_of_transformers():
    """Compares with the state dict of transformers' class."""
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = CLIPSegConfig(
        text_config={**sizes, "num_hidden_layers": 2, "vocab_size": 50},
        vision_config={**sizes, "num_hidden_layers": 4, "image_size": 32, "patch_size": 16},
        projection_dim=10,
        extract_layers=[0, 1, 3],
        reduce_dim=8,
        use_complex_transposed_convolution=True,
    )
    theirs = CLIPSegForImageSegmentation(config).state_dict()
    clip, decoder = clip_state(theirs), decoder_state(theirs)
    assert same(hugging_face_clip(clip) | hugging_face_decoder(decoder), theirs)


def test_error_reports_weights_without_equivalent():
    for key in ("visual.transformer.resblocks.0.ls_1.gamma", "logit_bias_of_siglip"):
        with pytest.raises(ValueError, match=key):
            hugging_face_clip({key: torch.zeros(1)})
