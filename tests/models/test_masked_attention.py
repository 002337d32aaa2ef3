"""Masked attention in CLIP, compared with loops over images, heads and tokens."""

import math

import pytest
import torch

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.masked_attention import AttentionMask, allowed_pairs, embed_masked
from tests.conftest import TINY_CLIP

PAPER = [("cls", "last"), ("cls", "all"), ("patches", "all")]
PATCH, SIDE = 16, 64  # of TINY_CLIP, hence a grid of 4 x 4
DEPTH = TINY_CLIP["vision_cfg"]["layers"]


@pytest.fixture(scope="module")
def backbone() -> CLIPBackbone:
    built = CLIPBackbone("tiny", pretrained=False)
    for block in built.clip.visual.transformer.resblocks:
        block.attn.in_proj_weight *= 3  # random weights give nearly uniform attention
    return built


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8)


@pytest.fixture
def masks() -> torch.Tensor:
    """Masks of three images, with objects of different sizes that are not aligned to patches."""
    masks = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    masks[0, 10:40, 30:64] = True
    masks[1, :20, :] = True
    masks[2, 47:50, 15:18] = True
    return masks


def looped(backbone, image, mask, queries, blocks, zeroed):
    """Embed one image with loops over queries, heads and keys."""
    visual = backbone.clip.visual
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((image / 255).permute(1, 2, 0) - mean) / std
    patches = visual.conv1(pixels.permute(2, 0, 1)[None])[0].flatten(1).T
    tokens = torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding
    tokens = visual.ln_pre(tokens)
    visible = [True]  # the CLS token, then the top left pixel of each patch
    visible += [
        bool(mask[row, col]) for row in range(0, SIDE, PATCH) for col in range(0, SIDE, PATCH)
    ]
    for index, block in enumerate(visual.transformer.resblocks):
        normed, attention = block.ln_1(tokens), block.attn
        query, key, value = (normed @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(
            3, dim=1
        )
        width = attention.embed_dim // attention.num_heads
        rows = []
        for position in range(len(tokens)):
            affected = (position == 0) == (queries == "cls")
            affected = affected and (blocks == "all" or index == DEPTH - 1)
            heads = []
            for head in range(attention.num_heads):
                part = slice(head * width, (head + 1) * width)
                weights = []
                for other in range(len(tokens)):
                    logit = float(query[position, part] @ key[other, part]) / math.sqrt(width)
                    if affected and not visible[other]:
                        weights.append(math.exp(0 * logit) if zeroed else 0.0)
                    else:
                        weights.append(math.exp(logit))
                share = torch.tensor(weights) / sum(weights)
                heads.append(share @ value[:, part])
            rows.append(attention.out_proj(torch.cat(heads)))
        tokens = tokens + torch.stack(rows)
        tokens = tokens + block.mlp(block.ln_2(tokens))
    return visual.ln_post(tokens[0]) @ visual.proj


@pytest.mark.parametrize("zeroed", [False, True])
@pytest.mark.parametrize(("queries", "blocks"), PAPER)
@torch.no_grad()
def test_masked_embeddings_equal_plain_loops(backbone, images, masks, queries, blocks, zeroed):
    actual = embed_masked(backbone, images, masks, AttentionMask(queries, blocks, zeroed))
    expected = torch.stack(
        [
            looped(backbone, image, mask, queries, blocks, zeroed)
            for image, mask in zip(images, masks, strict=True)
        ]
    )
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    plain = backbone.embed_image(images)
    assert (
        (actual - plain).norm(dim=1) > 0.01 * plain.norm(dim=1)
    ).all()  # the masks have an effect


@pytest.mark.parametrize("zeroed", [False, True])
@pytest.mark.parametrize(("queries", "blocks"), PAPER)
def test_full_mask_does_not_change_embeddings(backbone, queries, blocks, zeroed):
    images = torch.randint(0, 256, (2, 3, 96, 48), dtype=torch.uint8)
    masks = torch.ones(2, 96, 48, dtype=torch.bool)
    actual = embed_masked(backbone, images, masks, AttentionMask(queries, blocks, zeroed))
    torch.testing.assert_close(actual, backbone.embed_image(images), rtol=1e-4, atol=1e-4)


def test_images_in_a_batch_do_not_influence_each_other(backbone, images, masks):
    masking = AttentionMask("cls", "all")
    together = embed_masked(backbone, images, masks, masking)
    flipped = embed_masked(backbone, images.flip(0), masks.flip(0), masking).flip(0)
    torch.testing.assert_close(together, flipped, rtol=1e-4, atol=1e-4)


def test_cls_token_attends_to_itself_with_an_empty_mask(backbone, images):
    nothing = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    actual = embed_masked(backbone, images, nothing, AttentionMask("cls", "all"))
    # it does not depend on the image, so all embeddings are equal
    torch.testing.assert_close(actual, actual[:1].expand(3, -1), rtol=1e-4, atol=1e-4)


def test_allowed_pairs_of_a_small_example():
    patches = torch.tensor([[[True, False]], [[False, True]]])  # two images of 1 x 2 patches
    T, F = True, False
    assert allowed_pairs(patches, "cls").tolist() == [
        [[T, T, F], [T, T, T], [T, T, T]],
        [[T, F, T], [T, T, T], [T, T, T]],
    ]
    assert allowed_pairs(patches, "patches").tolist() == [
        [[T, T, T], [T, T, F], [T, T, F]],
        [[T, T, T], [T, F, T], [T, F, T]],
    ]
