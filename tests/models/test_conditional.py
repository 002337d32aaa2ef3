"""Conditional vectors from texts, images and both."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg, blend
from clipseg_pl.models.decoder import FiLMDecoder


def test_prompt_without_support_ignores_its_weight():
    model = CLIPSeg(CLIPBackbone("tiny", pretrained=False), FiLMDecoder)
    support = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    texts = ["a dog", "a cat"]
    blended = model.conditional(texts, support, torch.tensor([0]), torch.tensor([0.5, 0.5]))
    text = model.backbone.embed_text(texts)
    assert torch.equal(blended[1], text[1])
    image = model.backbone.embed_image(support)
    assert torch.allclose(blended[0], 0.5 * text[0] + 0.5 * image[0], atol=1e-6)


def test_supports_of_a_prompt_are_averaged():
    model = CLIPSeg(CLIPBackbone("tiny", pretrained=False), FiLMDecoder)
    supports = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    owner, weight = torch.tensor([0, 1, 1]), torch.zeros(2)
    conditional = model.conditional(["a", "b"], supports, owner, weight)
    images = model.backbone.embed_image(supports)
    assert torch.allclose(conditional[0], images[0], atol=1e-6)
    assert torch.allclose(conditional[1], images[1:].mean(0), atol=1e-6)


@st.composite
def embeddings(draw):
    """Generate texts (P, C), supports (S, C) in any order, their prompts (S,) and weights (P,)."""
    prompts, supports = draw(st.integers(1, 6)), draw(st.integers(0, 9))
    owners = draw(st.lists(st.integers(0, prompts - 1), min_size=supports, max_size=supports))
    weights = draw(st.lists(st.floats(0, 1, width=32), min_size=prompts, max_size=prompts))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    text, support = (torch.randn(n, 5, generator=random) for n in (prompts, supports))
    return text, support, torch.tensor(owners, dtype=torch.long), torch.tensor(weights)


@settings(deadline=None)
@given(embeddings())
def test_blend_equals_a_loop_in_float64(given_embeddings):
    text, supports, owner, weight = given_embeddings
    actual = blend(text, supports, owner, weight)
    for row in range(len(text)):
        expected = text[row].double()
        own = [supports[place].double() for place in range(len(owner)) if owner[place] == row]
        if own:
            share = float(weight[row])
            expected = share * expected + (1 - share) * sum(own) / len(own)
        torch.testing.assert_close(actual[row], expected.float(), rtol=1e-5, atol=1e-6)


@settings(deadline=None)
@given(embeddings())
def test_blend_is_exact_at_weights_0_half_and_1_and_between_its_ends(given_embeddings):
    text, supports, owner, weight = given_embeddings
    lone = ~torch.isin(torch.arange(len(text)), owner)
    at = {
        share: blend(text, supports, owner, torch.full_like(weight, share)) for share in (0, 0.5, 1)
    }
    assert torch.equal(at[1], text)
    assert torch.equal(at[0][lone], text[lone])
    assert torch.equal(at[0.5], (at[0] + at[1]) / 2)
    between, ends = blend(text, supports, owner, weight), torch.stack([at[0], at[1]])
    rounding = 2**-22 * ends.abs().amax(0)  # two products and a sum, each to 24 bits
    assert (ends.amin(0) - rounding <= between).all()
    assert (between <= ends.amax(0) + rounding).all()
