"""Table 2: effect of visual prompts and masked attention on the text alignment of CLIP."""

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
"""Attention masks of Table 2. Masked patches get no attention. In the rows "logits x 0", their
logits are multiplied by 0, as in the authors' code. See docs/deviations.md (masked-attention)."""
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
"""Delta P from Table 2 of the paper: change in the probability of the object's name, in percentage
points."""
_UNTOUCHED = VisualPrompt(blur=0, background=1, context=None)
_TEXT = "a photo of a {}"
_BATCH = 16


def image_sizes(backbone: CLIPBackbone) -> tuple[int, int]:
    """Return the image sizes for CLIP and for the samples, in pixels.

    The first is the native input size of CLIP, 224 in the paper. The second is the size of the
    samples and of images with masked attention, 352 in the paper. For CLIPs of another native size,
    the second keeps the ratio 352 / 224 and is rounded down to a multiple of the patch size.
    """
    own, patch = backbone.clip.visual.image_size, backbone.shape.patch_size
    return own, own * 11 // 7 // patch * patch


@torch.no_grad()
def measure(
    backbone: CLIPBackbone, samples: Iterable[tuple[RGB, Mask, Sequence[str]]]
) -> dict[str, Tensor]:
    """Compute the probability of the name of the masked object, for every row of Table 2.

    Args:
        backbone: any CLIP.
        samples: at least one tuple (image, mask, class names). For the image and the mask, see
            `embed_modified`. The softmax is over the class names; the first is the object's.

    Returns:
        Row name -> (N,) float32 probabilities of N samples, on the CPU; `ORIGINAL` is the
        unmodified image.

    Reference: paper, section 4 and Table 2.
    """
    scale = float(backbone.clip.logit_scale.exp())
    probabilities, rows, remaining = [], [], iter(samples)
    while batch := list(islice(remaining, _BATCH)):
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
    """Embed images without modification and with each modification of Table 2.

    The authors modify images of 352 pixels and embed them at 224 pixels. They mask attention at 352
    pixels, but compare the result with the unmodified image at 224 pixels. The additional row
    `LARGE`, the unmodified image at 352 pixels, shows the effect of the size alone. See
    docs/deviations.md (alignment-samples).

    Args:
        backbone: any CLIP.
        images: N images (side, side, 3) uint8 RGB; side is the second value of `image_sizes`.
        masks: N masks (side, side) bool, true on the object.

    Returns:
        Row name -> (N, C) raw embeddings; `ORIGINAL` is the unmodified image.

    Reference: paper, section 4 and Table 2.
    """
    own, _ = image_sizes(backbone)
    embedded = {}
    for row, prompt in {ORIGINAL: _UNTOUCHED, **TABLE_2}.items():
        prompted = [prompt(image, mask, own) for image, mask in zip(images, masks, strict=True)]
        # bilinear without antialiasing, like the authors' resizing in torch
        resized = [np.asarray(cv2.resize(image, (own, own)), np.uint8) for image in prompted]
        embedded[row] = backbone.embed_image(_batch(resized, backbone))
    large = _batch(images, backbone)
    objects = torch.from_numpy(np.stack(masks)).to(large.device)
    embedded[LARGE] = backbone.embed_image(large)
    for row, masking in MASKINGS.items():
        embedded[row] = embed_masked(backbone, large, objects, masking)
    return embedded


def _batch(images: Sequence[RGB], backbone: CLIPBackbone) -> Tensor:
    """Stack images to (N, 3, H, W) uint8 on the backbone's device."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(backbone.mean.device)
