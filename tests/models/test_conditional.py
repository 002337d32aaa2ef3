"""Conditional vectors: text, image, blends."""

import torch

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder


def test_a_prompt_without_support_is_its_text_alone_whatever_its_weight():
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
