"""How far a change of an image moves CLIP toward the text of the object meant.

Reference: paper section 4 and Table 2; the paper prints a difference of products, its code
measures probabilities, as is done here.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class DeltaP(NamedTuple):
    """Percentage points of probability, over samples."""

    mean: float
    standard_error: float
    """of the mean, as if samples were independent"""


def target_probability(images: Tensor, texts: Tensor, logit_scale: float) -> Tensor:
    """Probability that CLIP gives the first of some texts.

    Args:
        images: (R, C) embeddings of an image in R versions; their lengths do not matter.
        texts: (K, C) embeddings: of the object meant, then of the other things in the image.
        logit_scale: factor of the cosines before the softmax, about 100 in CLIP.

    Returns:
        (R,), 0 to 1.
    """
    cosines = F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T  # R K
    return (logit_scale * cosines).softmax(1)[:, 0]


def delta_p(original: Tensor, modified: Tensor) -> DeltaP:
    """Mean gain of the target's probability.

    Args:
        original: (N,) probabilities on the images as they are, 0 to 1.
        modified: (N,) probabilities on the same images, modified.

    Raises:
        ValueError: for fewer than two samples, which have no standard error.
    """
    if len(original) < 2:
        raise ValueError(f"a standard error needs two samples, not {len(original)}")
    gains = 100 * (modified.double() - original.double())
    return DeltaP(float(gains.mean()), float(gains.std() / len(gains) ** 0.5))
