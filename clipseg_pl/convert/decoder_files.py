"""Writes decoders: the authors' `.pth`, and checkpoints of ours that no `fit` made."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clipseg_pl.convert.checkpoints import PUBLISHED_HEADS
from clipseg_pl.convert.key_map import authors_decoder
from clipseg_pl.convert.loading import LoadedModel
from clipseg_pl.models.backbone import PAPER_SIZE, Backbone
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import Decoder, FiLMDecoder
from clipseg_pl.weights.clip import IMAGENET_MEAN, IMAGENET_STD, find_normalisation
from clipseg_pl.weights.files import write_tensors


def write_original(file: Path, decoder: Decoder) -> None:
    """Write a `.pth` with the authors' names. It does not say which layers the decoder taps.

    Raises:
        ValueError: for a decoder that such a file cannot give back.
    """
    if not isinstance(decoder, FiLMDecoder):
        raise ValueError(f"the authors' files hold FiLMDecoder only, not {type(decoder).__name__}")
    first: Any = decoder.blocks[0]
    if first.self_attn.num_heads != PUBLISHED_HEADS:
        raise ValueError(
            f"the authors' files do not say the number of heads: {PUBLISHED_HEADS}, not "
            f"{first.self_attn.num_heads}"
        )
    torch.save(authors_decoder(decoder.state_dict()), file)


def write_checkpoint(file: Path, source: LoadedModel, name: str, tag: str) -> None:
    """Write a checkpoint as `fit` does, without the optimizer's state.

    Args:
        file: replaced if it is there.
        source: CLIP with the FiLM decoder; CLIP is named, not written.
        name: of the backbone, for `CLIPBackbone`; where the source holds its CLIP, the name that
            `write_clip` gives it.
        tag: of its weights.

    Raises:
        ValueError: for another normalisation than the one that the name leads back to.
    """
    backbone, decoder = source.model.backbone, source.model.decoder
    assert isinstance(decoder, FiLMDecoder)  # as all that is published
    own = backbone.mean.flatten().tolist(), backbone.std.flatten().tolist()
    found = (IMAGENET_MEAN, IMAGENET_STD) if source.clip else find_normalisation(name, tag)
    if not np.allclose(own, found, atol=1e-4):  # only a Hugging Face folder says its own
        mean, std = map(list, found)
        raise ValueError(
            "a checkpoint names its CLIP, and images for that name are normalised by mean "
            f"{mean}, std {std}; if the decoder was trained with those, say so in the source's "
            "preprocessor_config.json (image_mean, image_std)"
        )
    first: Any = decoder.blocks[0]
    parts = {
        "backbone": (
            "clipseg_pl.models.clip_backbone.CLIPBackbone",
            {"name": name, "tag": tag, "pretrained": True, "text_cache": 16384},
        ),
        "decoder": (
            "clipseg_pl.models.decoder.FiLMDecoder",
            {
                "layers": sorted(decoder.layers),
                "dim": decoder.film_scale.out_features,
                "heads": first.self_attn.num_heads,
                "feedforward": first.linear1.out_features,
                "dropout": first.dropout.p,
                "head": "refined" if isinstance(decoder.head, nn.Sequential) else "simple",
            },
        ),
        # the paper's; loading builds what it needs from here, evaluation uses nothing of it
        "optimizer": ("torch.optim.AdamW", {"lr": 1e-3}),
    }
    described = {
        key: {"class_path": path, "init_args": arguments}
        for key, (path, arguments) in parts.items()
    }
    instantiator = {"_instantiator": "lightning.pytorch.cli.instantiate_module"}
    state = {f"model.decoder.{key}": value for key, value in decoder.state_dict().items()}
    content = {
        "pytorch-lightning_version": version("lightning"),
        "epoch": 0,
        "global_step": 0,
        "hyper_parameters": {**described, "min_lr": 1e-4, **instantiator},
        "state_dict": state,
        "threshold": source.threshold,
        "absent_cut": source.absent_cut,
        "layers": sorted(decoder.layers),
        "image_size": source.image_size or PAPER_SIZE,
    }
    torch.save(content, file)


def write_clip(folder: Path, name: str, backbone: Backbone, config: dict[str, Any]) -> None:
    """Write `<name>.json` and `<name>.safetensors`, a backbone for CLIPSEG_WEIGHTS.

    Args:
        folder: exists.
        name: that the backbone will have.
        backbone: a CLIPBackbone of CLIP's whole vocabulary.
        config: its open_clip configuration.
    """
    assert isinstance(backbone, CLIPBackbone)
    (folder / f"{name}.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    write_tensors(folder / f"{name}.safetensors", backbone.clip.state_dict())
