"""Delta P: increase of the probability that CLIP assigns to an object when its image is modified.

The paper defines Delta P as a difference of dot products of embeddings. The authors' code and this
module measure a difference of softmax probabilities. See docs/deviations.md (delta-p).

Reference: paper, section 4 and Table 2.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class DeltaP(NamedTuple):
    """Delta P over samples, in percentage points."""

    mean: float
    standard_error: float
    """of the mean, assuming independent samples"""


def target_probability(images: Tensor, texts: Tensor, logit_scale: float) -> Tensor:
    """Return the probability that CLIP assigns to the first of K texts.

    Args:
        images: (R, C) embeddings of R versions of an image, not necessarily normalised.
        texts: (K, C) embeddings, first the target object, then other objects in the image.
        logit_scale: factor for the cosine similarities before the softmax, about 100 in CLIP.

    Returns:
        (R,) probabilities, 0 to 1.
    """
    cosines = F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T  # R K
    return (logit_scale * cosines).softmax(1)[:, 0]


def delta_p(original: Tensor, modified: Tensor) -> DeltaP:
    """Return the mean increase of the target's probability.

    Args:
        original: (N,) probabilities on the original images, 0 to 1.
        modified: (N,) probabilities on the modified images, 0 to 1.

    Raises:
        ValueError: for fewer than two samples, since they have no standard error.

    Reference: paper, section 4 and Table 2.
    """
    if len(original) < 2:
        raise ValueError(f"Delta P needs at least two samples, not {len(original)}")
    gains = 100 * (modified.double() - original.double())
    return DeltaP(float(gains.mean()), float(gains.std() / len(gains) ** 0.5))
