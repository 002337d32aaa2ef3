"""Export of decoders to the authors' `.pth` format and to checkpoints of this project."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipseg_pl.convert.checkpoints import PUBLISHED_HEADS
from clipseg_pl.convert.key_map import authors_decoder
from clipseg_pl.convert.loading import LoadedModel
from clipseg_pl.models.backbone import PAPER_SIZE, Backbone
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.weights.clip import IMAGENET_MEAN, IMAGENET_STD, find_normalisation
from clipseg_pl.weights.files import write_tensors


def write_original(file: Path, model: CLIPSeg) -> None:
    """Write the decoder of a model as a `.pth` file with the authors' names of the weights.

    The format does not store the tapped layers and the number of heads.

    Raises:
        ValueError: if the decoder is not a FiLMDecoder, or if its number of attention heads is not
            `PUBLISHED_HEADS`, the number that all published decoders have, or if the model has
            trained blocks of CLIP.
    """
    decoder = model.decoder
    if not isinstance(decoder, FiLMDecoder):
        kind = type(decoder).__name__
        raise ValueError(f"the authors' format supports FiLMDecoder only, not {kind}")
    heads = decoder.settings["heads"]
    if heads != PUBLISHED_HEADS:
        raise ValueError(
            f"the authors' format does not store the number of heads and requires "
            f"{PUBLISHED_HEADS}, not {heads}"
        )
    if model.unfreeze_blocks:
        raise ValueError(
            "the authors' format stores the decoder only, but the model has trained blocks of "
            "CLIP: export it to hf or onnx"
        )
    torch.save(authors_decoder(decoder.state_dict()), file)


def write_checkpoint(file: Path, source: LoadedModel, name: str, tag: str) -> None:
    """Write a checkpoint like those of `fit`, without the optimizer state.

    Args:
        file: file to write; replaced if it exists.
        source: model with a CLIP backbone and a FiLM decoder. The checkpoint stores the name of
            the CLIP and not its weights.
        name: `name` argument of `CLIPBackbone`. If the source file contained its CLIP, this is the
            name passed to `write_clip`.
        tag: `tag` argument of `CLIPBackbone`.

    Raises:
        ValueError: if the normalisation differs from that of `CLIPBackbone(name, tag)`.
    """
    backbone, decoder = source.model.backbone, source.model.decoder
    assert isinstance(decoder, FiLMDecoder)  # true for all published models
    own = backbone.mean.flatten().tolist(), backbone.std.flatten().tolist()
    expected = (IMAGENET_MEAN, IMAGENET_STD) if source.clip else find_normalisation(name, tag)
    if not np.allclose(own, expected, atol=1e-4):  # possible for a Hugging Face folder
        mean, std = map(list, expected)
        raise ValueError(
            "a checkpoint cannot store the source's normalisation: its images are "
            f"always normalised with mean {mean} and std {std}. If the decoder was trained with "
            "these values, set image_mean and image_std in the source's preprocessor_config.json "
            "to them. Otherwise, the source cannot be exported as a checkpoint"
        )
    parts = {
        "backbone": (
            "clipseg_pl.models.clip_backbone.CLIPBackbone",
            {"name": name, "tag": tag, "pretrained": True, "text_cache": 16384},
        ),
        "decoder": (
            "clipseg_pl.models.decoder.FiLMDecoder",
            decoder.settings,
        ),
        # the paper's optimizer; loading requires this entry, but evaluation does not use it
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
        "class_thresholds": dict(source.class_thresholds),
        "layers": sorted(decoder.layers),
        "image_size": source.image_size or PAPER_SIZE,
    }
    torch.save(content, file)


def write_clip(folder: Path, name: str, backbone: Backbone, config: dict[str, Any]) -> None:
    """Write `<name>.json` and `<name>.safetensors`, a custom CLIP for $CLIPSEG_WEIGHTS.

    Args:
        folder: existing folder.
        name: name of the new CLIP.
        backbone: CLIPBackbone with CLIP's full vocabulary.
        config: open_clip configuration of the backbone.
    """
    assert isinstance(backbone, CLIPBackbone)
    (folder / f"{name}.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    write_tensors(folder / f"{name}.safetensors", backbone.clip.state_dict())
