"""Frozen ViT of timm with CLIP's text encoder beside it: the backbone of the ViTSeg baseline."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypeGuard

import timm
import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from clipseg_pl.models.backbone import Backbone, BackboneShape
from clipseg_pl.models.clip_backbone import resize_position_embedding
from clipseg_pl.models.clip_text import TextEncoder
from clipseg_pl.weights.clip import PAPERS_CLIP, build_clip
from clipseg_pl.weights.files import load_strictly, one_line, read_json, repeatable_weights
from clipseg_pl.weights.places import download_weights, find_file, find_weights

_HUB_NAMES = ("model.safetensors", "pytorch_model.bin")


class ViTBackbone(Backbone):
    """An ImageNet ViT, tapped as CLIP is, with CLIP's embeddings as the condition of a text.

    The condition of an image is the ViT's CLS token behind `image_head`, a linear map that is
    drawn at random and never trained, as in the authors' code. Theirs was not saved, so that a
    reloaded model had another one; ours is part of every checkpoint.

    Images are taken as they come, of any size, by resizing the grid of position embeddings; the
    authors bring images to the ViT's own 384 px, and masks back, by nearest neighbour.

    Args:
        name: a plain ViT of timm, with or without the tag of its weights, as in
            "vit_base_patch16_384.augreg_in1k"; or a name for which the folder that CLIPSEG_WEIGHTS
            names holds a `<name>_vit.json`, arguments of timm's `VisionTransformer`, with
            `<name>_vit.safetensors` or `.pt` beside it.
        pretrained: false for random weights of both encoders (always the same ones).
        clip: whose text encoder to use; by default OpenAI's ViT-B/16, or for a `<name>_vit.json`
            the CLIP of that name.
        tag: which weights of that CLIP.
        text_cache: how many text embeddings to keep; training repeats its phrases.

    Reference: paper section 5, baselines; details from the authors' code.
    """

    kept_state = ("image_head.",)

    def __init__(
        self,
        name: str = "vit_base_patch16_384",
        pretrained: bool = True,
        clip: str | None = None,
        tag: str = "openai",
        text_cache: int = 16384,
    ) -> None:
        """Build both encoders, load their weights, draw the head and freeze everything."""
        super().__init__()
        self.vit = build_vit(name, pretrained=pretrained)
        clip = clip or clip_beside(name)
        self.clip = build_clip(clip, tag=tag, pretrained=pretrained)
        del self.clip.visual  # only texts are embedded by it
        self.text_encoder = TextEncoder(self.clip, clip, text_cache)
        self.shape = BackboneShape(
            width=self.vit.embed_dim,
            embed_dim=self.clip.text_projection.shape[1],
            patch_size=self.vit.patch_embed.patch_size[0],
            depth=len(self.vit.blocks),
        )
        self.image_head = nn.Linear(self.shape.width, self.shape.embed_dim)
        self.freeze()

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts by CLIP, raw (not L2-normalised): (len(texts), C). See `TextEncoder`."""
        return self.text_encoder(texts)

    @torch.no_grad()
    def embed_image(self, images: Tensor) -> Tensor:
        """Map the CLS tokens of (N, 3, H, W) uint8 images by the random head: (N, C)."""
        tokens = self._run_blocks(images, [self.shape.depth - 1])[0]
        cls = self.vit.fc_norm(self.vit.norm(tokens)[:, 0])  # one of the two does nothing
        embeddings: Tensor = self.image_head(cls)
        return embeddings.float()

    @torch.no_grad()
    def activations(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the tokens after the given blocks: one (B, 1 + N, width) tensor a layer."""
        return self._run_blocks(images, layers)

    def _run_blocks(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        vit = self.vit
        assert vit.cls_token is not None and vit.pos_embed is not None  # it is plain
        patches = vit.patch_embed.proj(self.normalise(images))  # B 3 H W -> B width h w
        positions = resize_position_embedding(vit.pos_embed[0], patches.shape[2:])
        tokens = patches.flatten(2).transpose(1, 2)  # B width h w -> B N width
        cls = vit.cls_token.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        tokens = vit.norm_pre(torch.cat([cls, tokens], 1) + positions.to(tokens.dtype))
        tapped = {}
        for index, block in enumerate(vit.blocks[: max(layers) + 1]):
            tokens = block(tokens)
            if index in layers:
                tapped[index] = tokens
        return [tapped[index] for index in layers]


def build_vit(name: str, *, pretrained: bool) -> VisionTransformer:
    """Build a ViT without its classifier.

    Args:
        name: see `ViTBackbone`. Weights of a name of timm are looked for as `<name>.safetensors`
            or `.pt` in the folder that CLIPSEG_WEIGHTS names, with timm's own keys, then in timm's
            cache; what is in neither is downloaded.
        pretrained: false for random weights, which depend on nothing but the sizes.

    Raises:
        ValueError: unknown name or tag; a model that is no plain ViT with a CLS token; a file that
            is unreadable or of another model.
        FileNotFoundError: weights neither on disk nor to be had; says where they were looked for.
    """
    own = _own_config(name)
    architecture = name.partition(".")[0]
    if not own and not timm.is_model(architecture):
        folder = os.environ.get("CLIPSEG_WEIGHTS", "not set")
        raise ValueError(
            f"unknown ViT {name!r}: give a name of timm (vit_base_patch16_384, "
            f"vit_small_patch16_224, ...) or put {name}_vit.json and its weights into the folder "
            f"that CLIPSEG_WEIGHTS names ({folder})"
        )
    vit: nn.Module
    with repeatable_weights():
        if own:
            vit = _build_own(own)
        else:
            vit = timm.create_model(architecture, num_classes=0)
    if not _is_plain(vit):
        raise ValueError(f"{name} is not a plain ViT with a CLS token and square patches")
    if pretrained:
        file = weights_on_disk(name) or download_weights(
            f"for {name}", name, _repository(name), _HUB_NAMES
        )
        load_strictly(vit, name, file, ignored=("head.",))  # the classifier
    return vit


def _build_own(file: Path) -> VisionTransformer:
    """The ViT that a file describes by the arguments of timm's class."""
    given = read_json(file)
    try:
        return VisionTransformer(**{**given, "num_classes": 0})
    except Exception as error:  # timm checks little, and by assertions
        raise ValueError(f"{file}: describes no ViT ({one_line(error)})") from error


def clip_beside(name: str) -> str:
    """The CLIP whose text encoder stands beside a ViT unless another is named."""
    return name if _own_config(name) else PAPERS_CLIP


def weights_on_disk(name: str) -> Path | None:
    """The file that `build_vit` would read; None where it would have to download one.

    Raises:
        FileNotFoundError: no weights beside a `<name>_vit.json`.
    """
    own = _own_config(name) is not None
    stem = f"{name}_vit" if own else name
    return find_weights(stem, own, partial(_repository, name), _HUB_NAMES)


def published_at(name: str) -> str:
    """Address that the weights of a name of timm are downloaded from."""
    return f"https://huggingface.co/{_repository(name)}"


def _repository(name: str) -> str:
    """Where timm has the weights of a name.

    Raises:
        ValueError: nowhere.
    """
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        config = None
    if not (config and config.has_weights):
        known = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*")) or "none"
        raise ValueError(f"timm knows no weights {name} (known: {known})")
    return str(config.hf_hub_id)


def _own_config(name: str) -> Path | None:
    return find_file(f"{name}_vit", (".json",))


def _is_plain(vit: nn.Module) -> TypeGuard[VisionTransformer]:
    """Whether `ViTBackbone` computes what the model does."""
    return (
        isinstance(vit, VisionTransformer)
        and type(vit.patch_embed) is PatchEmbed
        and isinstance(vit.patch_embed.norm, nn.Identity)
        and len(set(vit.patch_embed.patch_size)) == 1
        and len(set(vit.patch_embed.grid_size or ())) == 1
        and vit.cls_token is not None
        and vit.num_prefix_tokens == 1
        and vit.pos_embed is not None
        and not vit.no_embed_class
    )
