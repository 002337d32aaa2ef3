"""Writes decoders: the authors' `.pth`, and checkpoints of ours that no `fit` made."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clipseg_pl.models.backbone import Backbone
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import Decoder, FiLMDecoder
from clipseg_pl.models.from_hugging_face import is_imagenets
from clipseg_pl.models.key_map import authors_decoder
from clipseg_pl.models.weights import write_tensors

_HEADS = 4  # in all that was published


def write_original(file: Path, decoder: Decoder) -> None:
    """Write a `.pth` with the authors' names. It does not say which layers the decoder taps.

    Raises:
        ValueError: for a decoder that such a file cannot give back.
    """
    if not isinstance(decoder, FiLMDecoder):
        raise ValueError(f"the authors' files hold FiLMDecoder only, not {type(decoder).__name__}")
    first: Any = decoder.blocks[0]
    if first.self_attn.num_heads != _HEADS:
        raise ValueError(
            f"the authors' files do not say the number of heads: {_HEADS}, not "
            f"{first.self_attn.num_heads}"
        )
    torch.save(authors_decoder(decoder.state_dict()), file)


def write_checkpoint(
    file: Path, model: CLIPSeg, image_size: int, threshold: float | None, name: str, tag: str
) -> None:
    """Write a checkpoint as `fit` does, without the optimizer's state.

    Args:
        file: replaced if it is there.
        model: CLIP with the FiLM decoder; CLIP is named, not written.
        image_size: side in pixels of the squares that it was trained on.
        threshold: of the probability, None for the paper's.
        name: of the backbone, for `CLIPBackbone`.
        tag: of its weights.

    Raises:
        ValueError: for another normalisation than ImageNet's, which a name does not lead back to.
    """
    backbone, decoder = model.backbone, model.decoder
    assert isinstance(decoder, FiLMDecoder)  # as all that is published
    if not is_imagenets(backbone.mean.flatten().tolist(), backbone.std.flatten().tolist()):
        raise ValueError(
            "a checkpoint knows ImageNet's normalisation only; if the decoder was trained with "
            "it, say so in preprocessor_config.json (image_mean 0.485, 0.456, 0.406, image_std "
            "0.229, 0.224, 0.225)"
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
        "threshold": threshold,
        "absent_cut": None,
        "layers": sorted(decoder.layers),
        "image_size": image_size,
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
