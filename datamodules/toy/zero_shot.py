"""Zero-shot accuracy and retrieval of the toy CLIP on held-out images."""

import torch
from open_clip.model import CLIP
from torch import Tensor
from torch.nn.functional import normalize

from datamodules.toy.language.sentences import describe
from datamodules.toy.language.vocabulary import ToyTokenizer
from datamodules.toy.language.words import kind_name
from datamodules.toy.pretraining.pictures import held_out, normalised, single_things, stacked
from datamodules.toy.scenes.kinds import KINDS
from datamodules.toy.scenes.paint import COLOURS
from datamodules.toy.scenes.scene import draw_scene

_CHUNK = 128


class HeldOutPictures:
    """Fixed set of images that training never draws, and the texts to which they are matched.

    Args:
        seed: Seed of the training run.
        image_size: Side of the images in pixels.
        tokenize: Tokenizer of the model.
        singles: Number of images with one thing (object), for classification.
        scenes: Number of images with several things, for retrieval.
    """

    def __init__(
        self,
        seed: int,
        image_size: int,
        tokenize: ToyTokenizer,
        singles: int = 512,
        scenes: int = 256,
    ) -> None:
        rng = held_out(seed)
        self._singles, things = single_things(rng, image_size, singles)
        self._kind = torch.tensor([KINDS.index(thing.kind) for thing in things])
        self._colour = torch.tensor([list(COLOURS).index(thing.colour) for thing in things])
        several = [
            draw_scene(rng, image_size, count=int(rng.integers(2, 5))) for _ in range(scenes)
        ]
        self._scenes = stacked([scene.image for scene in several])
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
        """Return accuracies in [0, 1] of `model`; this leaves the model in evaluation mode."""
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


def _encode(model: CLIP, images: Tensor, device: torch.device) -> Tensor:
    with torch.autocast(device.type, torch.bfloat16):
        chunks = [
            model.encode_image(normalised(chunk.to(device))).float()
            for chunk in torch.split(images, _CHUNK)
        ]
    return normalize(torch.cat(chunks), dim=-1).cpu()


def _accuracy(similarity: Tensor, target: Tensor) -> float:
    return round((similarity.argmax(1) == target).float().mean().item(), 4)
