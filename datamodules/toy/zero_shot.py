"""What a contrastive model has learned: zero-shot accuracy and retrieval on held-out pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from torch import Tensor
from torch.nn.functional import normalize

from datamodules.toy.kinds import KINDS
from datamodules.toy.paint import COLOURS
from datamodules.toy.scenes import draw_scene
from datamodules.toy.sentences import describe
from datamodules.toy.vocabulary import ToyTokenizer
from datamodules.toy.words import kind_name

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HELD_OUT = 2**31  # training seeds with (seed, step), steps stay far below
_CHUNK = 128


def normalised(images: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) uint8 RGB to float32 with ImageNet's mean and deviation."""
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (MEAN, STD))
    return (images.float() / 255 - mean) / std


class HeldOutPictures:
    """A fixed set of pictures that training never draws, and the questions asked about them.

    Args:
        seed: The seed of the training run.
        image_size: Side in pixels.
        tokenize: Text to rows.
        singles: Number of pictures with one thing.
        scenes: Number of pictures with several things, for retrieval among each other.
    """

    def __init__(
        self,
        seed: int,
        image_size: int,
        tokenize: ToyTokenizer,
        singles: int = 512,
        scenes: int = 256,
    ) -> None:
        rng = np.random.default_rng((seed, _HELD_OUT))
        drawn = [draw_scene(rng, image_size, count=1, lengths=(0.4, 0.85)) for _ in range(singles)]
        drawn = [scene for scene in drawn if scene.things]
        self._singles = _pictures([scene.image for scene in drawn])
        self._kind = torch.tensor([KINDS.index(scene.things[0].kind) for scene in drawn])
        self._colour = torch.tensor(
            [list(COLOURS).index(scene.things[0].colour) for scene in drawn]
        )
        several = [
            draw_scene(rng, image_size, count=int(rng.integers(2, 5))) for _ in range(scenes)
        ]
        self._scenes = _pictures([scene.image for scene in several])
        names = [kind_name(kind) for kind in KINDS]
        self._kind_text = tokenize([f"a photo of a {name}." for name in names])
        self._colour_text = tokenize([f"{colour} thing" for colour in COLOURS])
        self._both_text = tokenize([f"{colour} {name}" for name in names for colour in COLOURS])
        self._scene_text = tokenize(
            [
                ", ".join(describe(t, rng, colour=1.0, texture=0.0) for t in scene.things)
                for scene in several
            ]
        )

    @torch.no_grad()
    def score(self, model: CLIP) -> dict[str, float]:
        """Accuracies in [0, 1] of `model`, which is put into evaluation mode."""
        model.eval()
        device = model.logit_scale.device
        singles, scenes = (
            _encode(model, self._singles, device),
            _encode(model, self._scenes, device),
        )
        kind, colour, both, text = (
            normalize(model.encode_text(rows.to(device)).float(), dim=-1).cpu()
            for rows in (self._kind_text, self._colour_text, self._both_text, self._scene_text)
        )
        pairs = torch.arange(len(scenes))
        similarity = scenes @ text.T
        return {
            "kind": _accuracy(singles @ kind.T, self._kind),
            "colour": _accuracy(singles @ colour.T, self._colour),
            "colour_kind": _accuracy(singles @ both.T, self._kind * len(COLOURS) + self._colour),
            "image_to_text": _accuracy(similarity, pairs),
            "text_to_image": _accuracy(similarity.T, pairs),
        }


def _pictures(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def _encode(model: CLIP, images: Tensor, device: torch.device) -> Tensor:
    with torch.autocast(device.type, torch.bfloat16):
        chunks = [
            model.encode_image(normalised(chunk.to(device))).float()
            for chunk in torch.split(images, _CHUNK)
        ]
    return normalize(torch.cat(chunks), dim=-1).cpu()


def _accuracy(similarity: Tensor, target: Tensor) -> float:
    return round((similarity.argmax(1) == target).float().mean().item(), 4)
