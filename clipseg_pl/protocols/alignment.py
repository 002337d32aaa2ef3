"""Table 2: ways to show CLIP which object of an image is meant, and what CLIP makes of each."""

from collections.abc import Iterable, Sequence
from itertools import islice

import cv2
import numpy as np
import torch
from torch import Tensor

from clipseg_pl.images import RGB
from clipseg_pl.metrics.alignment import target_probability
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.masked_attention import AttentionMask, embed_masked
from clipseg_pl.prompts.visual import TABLE_2, Mask, VisualPrompt

ORIGINAL = "original"
LARGE = "nothing, at masking's size"
MASKINGS = {
    "mask CLS, last layer": AttentionMask("cls", "last"),
    "mask CLS, all layers": AttentionMask("cls", "all"),
    "mask all, all layers": AttentionMask("patches", "all"),
    "mask CLS, last layer, logits x 0": AttentionMask("cls", "last", zero_logits=True),
    "mask CLS, all layers, logits x 0": AttentionMask("cls", "all", zero_logits=True),
    "mask all, all layers, logits x 0": AttentionMask("patches", "all", zero_logits=True),
}
"""The CLIP modifications of Table 2, by exclusion and then as the authors' code does it (T11)."""
PAPER = {
    "mask CLS, last layer": 1.34,
    "mask CLS, all layers": 1.71,
    "mask all, all layers": -14.44,
    "dye object red": 1.21,
    "red outline": 2.29,
    "intensity 50%": 3.08,
    "intensity 10%": 13.85,
    "intensity 0%": 23.40,
    "blur": 13.15,
    "blur + intensity 10%": 21.73,
    "crop large context": 6.27,
    "crop": 13.60,
    "crop & blur": 15.34,
    "crop & intensity 10%": 21.73,
    "crop + blur + intensity 10%": 23.50,
}
"""The paper's Delta P, in percentage points."""
_UNTOUCHED = VisualPrompt(blur=0, background=1, context=None)
_TEXT = "a photo of a {}"
_BATCH = 16


def image_sizes(backbone: CLIPBackbone) -> tuple[int, int]:
    """Sides in pixels of the images that CLIP is shown, and of the samples and for masking.

    The first is CLIP's own; the second is to it as 352 to 224, the paper's, in whole patches.
    """
    own, patch = int(backbone.clip.visual.image_size[0]), backbone.shape.patch_size
    return own, own * 11 // 7 // patch * patch


@torch.no_grad()
def measure(
    backbone: CLIPBackbone, samples: Iterable[tuple[RGB, Mask, Sequence[str]]]
) -> dict[str, Tensor]:
    """Probability that CLIP gives the name of an object, in every way of showing it.

    Args:
        backbone: see `embed_modified`.
        samples: N images, at least one, with a mask each, see `embed_modified`; and the names that
            CLIP chooses from, the object's first.

    Returns:
        Row -> (N,) float32 on the CPU, 0 to 1; `ORIGINAL` is the unmodified image.
    """
    scale = float(backbone.clip.logit_scale.exp())
    probabilities, rows, left = [], [], iter(samples)
    while batch := list(islice(left, _BATCH)):
        images, masks, names = zip(*batch, strict=True)
        embedded = embed_modified(backbone, images, masks)
        rows = list(embedded)
        for versions, words in zip(torch.stack(list(embedded.values()), 1), names, strict=True):
            texts = backbone.embed_text([_TEXT.format(word) for word in words])
            probabilities.append(target_probability(versions, texts, scale).cpu())
    return dict(zip(rows, torch.stack(probabilities, 1), strict=True))


def embed_modified(
    backbone: CLIPBackbone, images: Sequence[RGB], masks: Sequence[Mask]
) -> dict[str, Tensor]:
    """Embed images unmodified and modified in every way of Table 2.

    The authors modify images of 352 pixels and show them to CLIP at 224, but mask its attention at
    352 and compare that with the unmodified image at 224: what the size alone does is a row of its
    own here.

    Args:
        backbone: any CLIP.
        images: N of the second of `image_sizes`, (side, side, 3) uint8 RGB.
        masks: N masks, (side, side) bool, true on the object.

    Returns:
        Row -> (N, C) raw embeddings; `ORIGINAL` is the unmodified image.
    """
    own, _ = image_sizes(backbone)
    embedded = {}
    for row, prompt in {ORIGINAL: _UNTOUCHED, **TABLE_2}.items():
        shown = [prompt(image, mask, own) for image, mask in zip(images, masks, strict=True)]
        # OpenCV's bilinear, like the authors' from torch, does not smooth
        resized = [np.asarray(cv2.resize(image, (own, own)), np.uint8) for image in shown]
        embedded[row] = backbone.embed_image(_batch(resized, backbone))
    large = _batch(images, backbone)
    objects = torch.from_numpy(np.stack(masks)).to(large.device)
    embedded[LARGE] = backbone.embed_image(large)
    for row, masking in MASKINGS.items():
        embedded[row] = embed_masked(backbone, large, objects, masking)
    return embedded


def _batch(images: Sequence[RGB], backbone: CLIPBackbone) -> Tensor:
    """(N, 3, H, W) uint8 on the backbone's device."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(backbone.mean.device)
