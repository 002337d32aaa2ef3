"""Backbone of the ViTSeg baseline: a frozen ImageNet ViT and CLIP's text encoder."""

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
from clipseg_pl.weights.places import download_weights, find_custom, find_weights

_HUB_NAMES = ("model.safetensors", "pytorch_model.bin")


class ViTBackbone(Backbone):
    """An ImageNet ViT that provides the activations, and CLIP's text encoder.

    The conditional vector of a text is its CLIP embedding. The conditional vector of an image is
    the ViT's CLS token, mapped by the randomly initialised, untrained linear layer `image_head`,
    as in the authors' code. The authors did not save this layer, so their models got a new random
    layer after loading. Our checkpoints store the layer.

    Position embeddings are resized to the image, so images of any size work. The authors instead
    resize images to the ViT's 384 px, and the predicted masks back to the size of the image, both
    by nearest neighbour. See `docs/deviations.md` (vitseg).

    Args:
        name: name of a plain ViT of timm, optionally with the tag of its weights, like
            "vit_base_patch16_384.augreg_in1k". For a custom ViT, the name of a `<name>_vit.json` in
            the folder $CLIPSEG_WEIGHTS with the arguments of timm's `VisionTransformer`, next to
            `<name>_vit.safetensors` or `<name>_vit.pt`.
        pretrained: false for random weights of both encoders. They are the same for every
            instance.
        clip: name of the CLIP that provides the text encoder. By default OpenAI's ViT-B/16; for a
            `<name>_vit.json`, the CLIP with the same name.
        tag: open_clip's tag of the CLIP weights.
        text_cache: number of text embeddings to cache, since the same phrases recur in training.

    Reference: paper, section 5 (baselines); details from the authors' code.
    """

    stored_state = ("image_head.",)

    def __init__(
        self,
        name: str = "vit_base_patch16_384",
        pretrained: bool = True,
        clip: str | None = None,
        tag: str = "openai",
        text_cache: int = 16384,
    ) -> None:
        """Build both encoders, load their weights, initialise the head and freeze everything."""
        super().__init__()
        self.vit = build_vit(name, pretrained=pretrained)
        clip = clip or default_clip(name)
        self.clip = build_clip(clip, tag=tag, pretrained=pretrained)
        del self.clip.visual  # CLIP only embeds texts
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
        """Return raw (not L2-normalised) CLIP embeddings (len(texts), C). See `TextEncoder`."""
        return self.text_encoder(texts)

    @torch.no_grad()
    def embed_image(self, images: Tensor) -> Tensor:
        """Map the CLS tokens of (N, 3, H, W) uint8 images to (N, C) with the random head."""
        tokens = self._run_blocks(images, [self.shape.depth - 1])[0]
        cls = self.vit.fc_norm(self.vit.norm(tokens)[:, 0])  # one of the two is the identity
        embeddings: Tensor = self.image_head(cls)
        return embeddings.float()

    @torch.no_grad()
    def activations(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the tokens after each given block: one (B, 1 + N, width) tensor per layer."""
        return self._run_blocks(images, layers)

    def _run_blocks(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        vit = self.vit
        assert vit.cls_token is not None and vit.pos_embed is not None  # see `_is_plain`
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
        name: see `ViTBackbone`. Weights of a timm model are searched as `<name>.safetensors` or
            `<name>.pt`, with timm's keys, in the folder $CLIPSEG_WEIGHTS, then in timm's cache.
            Otherwise they are downloaded.
        pretrained: false for random weights, which depend on the sizes only.

    Raises:
        ValueError: if the name or tag is unknown, the name belongs to an older toy ViT, the model
            is not a plain ViT with a CLS token, or the file is unreadable or belongs to another
            model.
        FileNotFoundError: if the weights are not on disk and the download fails.
    """
    own = _own_config(name)
    architecture = name.partition(".")[0]
    if not own and not timm.is_model(architecture):
        folder = os.environ.get("CLIPSEG_WEIGHTS", "not set")
        raise ValueError(
            f"unknown ViT {name!r}: use a ViT of timm (vit_base_patch16_384, "
            f"vit_small_patch16_224, ...) or put {name}_vit.json and its weights into the folder "
            f"$CLIPSEG_WEIGHTS ({folder})"
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
    """Build a ViT from a JSON file with the arguments of timm's `VisionTransformer`."""
    arguments = read_json(file)
    try:
        return VisionTransformer(**{**arguments, "num_classes": 0})
    except Exception as error:  # timm uses assertions
        raise ValueError(f"{file}: not a valid ViT configuration ({one_line(error)})") from error


def default_clip(name: str) -> str:
    """Return the name of the CLIP that provides the text encoder for a ViT by default."""
    return name if _own_config(name) else PAPERS_CLIP


def weights_on_disk(name: str) -> Path | None:
    """Return the local weights file of `build_vit`, or None if it needs a download.

    Raises:
        FileNotFoundError: if there is a `<name>_vit.json` without weights.
    """
    own = _own_config(name) is not None
    stem = f"{name}_vit" if own else name
    return find_weights(stem, own, partial(_repository, name), _HUB_NAMES)


def download_url(name: str) -> str:
    """Return the URL of the Hugging Face repository with the weights of a timm model."""
    return f"https://huggingface.co/{_repository(name)}"


def _repository(name: str) -> str:
    """Return the Hugging Face repository ("owner/name") of the weights of a timm model.

    Raises:
        ValueError: if timm has no such weights.
    """
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        config = None
    if not (config and config.has_weights):
        known = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*")) or "none"
        raise ValueError(f"timm has no weights {name} (available: {known})")
    return str(config.hf_hub_id)


def _own_config(name: str) -> Path | None:
    return find_custom(name, "ViT")


def _is_plain(vit: nn.Module) -> TypeGuard[VisionTransformer]:
    """Whether `ViTBackbone` supports the architecture of a model."""
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
