"""Zero-shot accuracy, retrieval and transfer of the toy CLIP on held-out images."""

from collections.abc import Sequence

import numpy as np
import torch
from open_clip.model import CLIP
from torch import Tensor
from torch.nn.functional import normalize

from datamodules.toy.language.sentences import describe
from datamodules.toy.language.vocabulary import ToyTokenizer
from datamodules.toy.language.words import kind_name
from datamodules.toy.pretraining.pictures import (
    coverage,
    held_out,
    normalised,
    single_things,
    stacked,
)
from datamodules.toy.scenes.kinds import KINDS, UNNAMED_KINDS
from datamodules.toy.scenes.paint import COLOURS
from datamodules.toy.scenes.scales import tapped_layers
from datamodules.toy.scenes.scene import Scene, draw_scene

_CHUNK = 128
_PATCH_SCENES = 1000  # images for the patch metrics
_INSIDE = 0.6  # minimum share of a patch that a thing must cover
_CANDIDATES = 20  # names among which a patch is classified
_RIDGE = 30.0  # weight of the penalty of the linear map


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
        self._of_patches = [
            draw_scene(rng, image_size, count=int(rng.integers(1, 4)), lengths=(0.35, 0.7))
            for _ in range(_PATCH_SCENES)
        ]
        names = [kind_name(kind) for kind in KINDS]
        self._kind_text = tokenize([f"a photo of a {name}." for name in names])
        self._colour_text = tokenize([f"{colour} thing" for colour in COLOURS])
        self._scene_text = tokenize(
            [
                ", ".join(describe(t, rng, colour=1.0, texture=0.0) for t in scene.things)
                for scene in several
            ]
        )

    @torch.no_grad()
    def scales(self, model: CLIP) -> tuple[float, float]:
        """Return the scales of a model that a decoder depends on, see `scenes/scales.py`.

        Returns:
            Standard deviation of the residual stream after the deepest tapped layer, and mean norm
            of the embeddings of the names of kinds.
        """
        device = model.logit_scale.device
        stream = _tapped(model, normalised(self._singles.to(device)))[-1]
        names = embed_texts(model, self._kind_text.to(device))
        return stream.std().item(), names.norm(dim=-1).mean().item()

    @torch.no_grad()
    def score(self, model: CLIP) -> dict[str, float]:
        """Return the figures of `model`; this leaves the model in evaluation mode.

        Returns:
            kind: zero-shot accuracy over all kinds, on images of one thing.
            colour: the same over the colours.
            image_to_text: share of the scenes whose own text is the closest of all texts.
            text_to_image: share of the texts whose own scene is the closest of all scenes.
            patch_kind, fitted, left_out, transfer: see `transfer`.
        """
        model.eval()
        device = model.logit_scale.device
        singles, scenes = (
            normalize(model.encode_image(normalised(images.to(device))), dim=-1).cpu()
            for images in (self._singles, self._scenes)
        )
        kind, colour, text = (
            normalize(embed_texts(model, rows.to(device)), dim=-1).cpu()
            for rows in (self._kind_text, self._colour_text, self._scene_text)
        )
        pairs = torch.arange(len(scenes))
        similarity = scenes @ text.T
        return {
            "kind": _accuracy(singles @ kind.T, self._kind),
            "colour": _accuracy(singles @ colour.T, self._colour),
            "image_to_text": _accuracy(similarity, pairs),
            "text_to_image": _accuracy(similarity.T, pairs),
            **transfer(model, self._of_patches, kind),
        }


def _tapped(model: CLIP, images: Tensor) -> list[Tensor]:
    """Return the patches (B, N, width) after the layers that a decoder taps, deepest last."""
    tapped: list[Tensor] = model.visual.forward_intermediates(
        images, _taps(model), output_fmt="NLC", intermediates_only=True
    )["image_intermediates"]
    return tapped


def _taps(model: CLIP) -> list[int]:
    return tapped_layers(len(model.visual.transformer.resblocks))


def embed_images(model: CLIP, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the raw embeddings of images, and of their patches in the deepest tapped layer.

    Args:
        model: A CLIP of open_clip.
        images: (B, 3, H, W) uint8 RGB.

    Returns:
        (B, C) and (B, N, C). Patches use the final normalisation and projection of the CLS token.
    """
    out = model.visual.forward_intermediates(
        normalised(images), _taps(model)[-1:], output_fmt="NLC", normalize_intermediates=True
    )
    return out["image_features"], out["image_intermediates"][0] @ model.visual.proj


def embed_texts(model: CLIP, rows: Tensor) -> Tensor:
    """Return the embeddings (N, C) of texts, equal to `CLIP.encode_text`, but skip the padding.

    Args:
        model: A CLIP of open_clip.
        rows: (N, L) vocabulary rows, N may be 0; the end of text has the highest.
    """
    length = int(rows.argmax(-1).max()) + 1 if len(rows) else 1
    rows = rows[:, :length]
    tokens = model.token_embedding(rows) + model.positional_embedding[:length]
    tokens = model.ln_final(model.transformer(tokens, attn_mask=model.attn_mask[:length, :length]))
    embeddings: Tensor = tokens[torch.arange(len(rows)), rows.argmax(-1)] @ model.text_projection
    return embeddings


@torch.no_grad()
def transfer(model: CLIP, scenes: Sequence[Scene], names: Tensor) -> dict[str, float]:
    """Estimate how well a decoder would find kinds never named in its training.

    A linear map (ridge regression) takes the activations of a patch in the tapped layers to the
    embedding of the name of its kind, from which the mean of all names is subtracted. The map is
    fitted on three quarters of the scenes, without the patches of `UNNAMED_KINDS`. The CLIP itself
    was pre-trained on all kinds. A patch is classified among the name of its kind and 19 random
    other names.

    Args:
        model: A CLIP of open_clip.
        scenes: Square scenes of the model's image size, without near misses.
        names: (K, C) L2-normalised embeddings of the names of `KINDS`.

    Returns:
        patch_kind: top-1 accuracy of the patch embeddings, without the map.
        fitted: top-1 accuracy of the mapped activations, for the kinds in the fit, on the last
            quarter of the scenes.
        left_out: the same for `UNNAMED_KINDS`, in all scenes.
        transfer: left_out / fitted.
    """
    visual = model.visual
    patch = visual.conv1.stride[0]
    device = model.logit_scale.device
    activations: list[Tensor] = []
    embedded: list[Tensor] = []
    kinds: list[int] = []
    of_scene: list[int] = []
    for start in range(0, len(scenes), _CHUNK):
        chunk = scenes[start : start + _CHUNK]
        images = stacked([scene.image for scene in chunk]).to(device)
        layers = _tapped(model, normalised(images))
        tapped = torch.cat(layers, -1).cpu()
        tokens = normalize(visual.ln_post(layers[-1]) @ visual.proj, dim=-1).cpu()
        for index, scene in enumerate(chunk):
            for thing in scene.things:
                for place in np.flatnonzero(coverage(thing.mask, patch) > _INSIDE):
                    activations.append(tapped[index, place])
                    embedded.append(tokens[index, place])
                    kinds.append(KINDS.index(thing.kind))
                    of_scene.append(start + index)
    kind = torch.tensor(kinds)
    x = torch.stack(activations).double()
    x = torch.cat(((x - x.mean(0)) / (x.std(0) + 1e-6), torch.ones(len(x), 1)), 1)
    centred = normalize(names - names.mean(0), dim=-1).double()
    left_out = torch.tensor([name in UNNAMED_KINDS for name in KINDS])[kind]
    of_fit = torch.tensor(of_scene) < len(scenes) * 3 // 4
    fit = x[~left_out & of_fit]
    target = centred[kind[~left_out & of_fit]]
    weights = torch.linalg.solve(fit.T @ fit + _RIDGE * torch.eye(x.shape[1]), fit.T @ target)
    mapped = normalize(x @ weights, dim=-1)
    correct = _top_1(mapped @ centred.T, kind)
    fitted = correct[~left_out & ~of_fit].mean().item()
    unfitted = correct[left_out].mean().item()
    return {
        "patch_kind": round(_top_1(torch.stack(embedded) @ names.T, kind).mean().item(), 4),
        "fitted": round(fitted, 4),
        "left_out": round(unfitted, 4),
        "transfer": round(unfitted / max(fitted, 1e-6), 4),
    }


def _top_1(similarity: Tensor, target: Tensor) -> Tensor:
    """Return (N,): 1 if the target is more similar than 19 random other classes, else 0.

    Args:
        similarity: (N, K) similarity to each class.
        target: (N,) class.
    """
    generator = torch.Generator().manual_seed(0)
    own = similarity.gather(1, target[:, None])
    others = torch.rand(similarity.shape, generator=generator)
    others = others.scatter(1, target[:, None], 2.0).argsort(1)[:, : _CANDIDATES - 1]
    return (own > similarity.gather(1, others)).all(1).float()


def _accuracy(similarity: Tensor, target: Tensor) -> float:
    return round((similarity.argmax(1) == target).float().mean().item(), 4)
