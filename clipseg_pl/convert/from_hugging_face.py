"""Reading the settings of a CLIPSeg model in Hugging Face's format, without transformers.

Settings missing in `config.json` get the defaults of transformers 5.23 (`models/clipseg`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_pl.models.backbone import PAPER_SIZE
from clipseg_pl.weights.clip import IMAGENET_MEAN, IMAGENET_STD
from clipseg_pl.weights.files import read_json
from clipseg_pl.weights.hub import CONFIG, PREPROCESSORS

_TOKENS, _END = 49408, 49407  # CLIP's vocabulary
# configs before 2023 contain 2, for which transformers takes the largest id as the end of a text
_ENDS = (_END, 2)
_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_TEXT = {
    "vocab_size": _TOKENS,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": _END,
}
_MODEL = {
    "projection_dim": 512,
    "extract_layers": [3, 6, 9],
    "decoder_num_attention_heads": 4,
    "conditional_layer": 0,
}


@dataclass(frozen=True)
class Description:
    """Settings of a CLIPSeg model in Hugging Face's format.

    Args:
        clip: open_clip configuration of its CLIP.
        layers: tapped layers, counted from 0 as in this project: for layer i transformers uses
            hidden_states[i + 1], since hidden_states[0] is the input of block 0.
        heads: number of attention heads of the decoder.
        image_size: side in pixels of the square that images are resized to.
        mean: mean of the normalisation for each channel.
        std: standard deviation of the normalisation for each channel.
        threshold: stored threshold of the probability; only in folders written by this project.
        absent_cut: presence score below which a prompt is considered absent; only in folders
            written by this project.
        class_thresholds: phrase -> threshold of its class; only in folders written by this project.
    """

    clip: dict[str, Any]
    layers: tuple[int, ...]
    heads: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    threshold: float | None
    absent_cut: float | None
    class_thresholds: Mapping[str, float]


def is_imagenet_norm(mean: Sequence[float], std: Sequence[float]) -> bool:
    """Whether a normalisation is ImageNet's, with which CLIPSeg was trained."""
    return bool(np.allclose([mean, std], [IMAGENET_MEAN, IMAGENET_STD], atol=1e-4))


def describe(folder: Path) -> Description:
    """Read the settings of a folder in Hugging Face's format.

    Raises:
        ValueError: if a file is invalid or has a setting that this project does not support.
        FileNotFoundError: if there is no config.json.
    """
    file = folder / CONFIG
    config = {**_MODEL, **_read(file)}
    layers = config["extract_layers"]
    try:
        if config.get("model_type") != "clipseg":
            raise ValueError(f"model_type is {config.get('model_type')!r}, not 'clipseg'")
        # transformers feeds the last layer in the list to the first projection, this project feeds
        # the deepest layer to it. These are the same layer only if the list is ascending
        if layers != sorted(layers):
            raise ValueError(f"extract_layers {layers} must be in ascending order")
        if config["conditional_layer"] != 0:
            raise ValueError(f"conditional_layer must be 0, not {config['conditional_layer']}")
        clip = _open_clip_config(config)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from error
    return Description(
        clip,
        tuple(layers),
        config["decoder_num_attention_heads"],
        *_read_preprocessor(folder),
        config.get("threshold"),
        config.get("absent_cut"),
        config.get("class_thresholds", {}),
    )


def _open_clip_config(config: Mapping[str, Any]) -> dict[str, Any]:
    towers = []
    for name, defaults in (("vision", _VISION), ("text", _TEXT)):
        # files of 2022 contain a second dictionary with the settings that differ from the defaults
        parts = (config.get(f"{name}_config"), config.get(f"{name}_config_dict"))
        towers.append({**defaults, **(parts[0] or {}), **(parts[1] or {})})
    vision, text = towers
    activations = [vision["hidden_act"], text["hidden_act"]]
    if activations not in (["quick_gelu"] * 2, ["gelu"] * 2):
        raise ValueError(f"hidden_act must be quick_gelu or gelu in both towers, not {activations}")
    if text["vocab_size"] != _TOKENS or text["eos_token_id"] not in _ENDS:
        raise ValueError(
            f"vocab_size {text['vocab_size']} and eos_token_id {text['eos_token_id']} are not "
            f"CLIP's {_TOKENS} and {_END}"
        )
    if [vision["layer_norm_eps"], text["layer_norm_eps"]] != [1e-5] * 2:
        raise ValueError("layer_norm_eps must be CLIP's 1e-5")
    return {
        "embed_dim": config["projection_dim"],
        "quick_gelu": activations[0] == "quick_gelu",
        "vision_cfg": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            **_tower(vision),
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "heads": text["num_attention_heads"],
            **_tower(text),
        },
    }


def _tower(tower: Mapping[str, Any]) -> dict[str, Any]:
    width: int = tower["hidden_size"]
    ratio = tower["intermediate_size"] / width
    return {"layers": tower["num_hidden_layers"], "width": width, "mlp_ratio": ratio}


def _read_preprocessor(folder: Path) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Read image size in pixels, mean and std; missing settings get the values of the paper.

    Raises:
        ValueError: if the preprocessor does not scale pixels to [0, 1].
    """
    settings: dict[str, Any] = {}
    for name in reversed(PREPROCESSORS):  # the first file takes precedence
        if (folder / name).is_file():
            part = _read(folder / name)
            settings.update(part.get("image_processor", part))
    size = settings.get("size", PAPER_SIZE)
    sides = list(size.values()) if isinstance(size, dict) else [size]
    side = round(math.sqrt(sides[0] * sides[-1]))
    scale = settings.get("do_rescale", True) and settings.get("rescale_factor", 1 / 255)
    if abs(scale * 255 - 1) > 1e-3:
        raise ValueError(f"{folder}: the preprocessor does not scale pixels to [0, 1]")
    if not settings.get("do_normalize", True):
        return side, (0.0,) * 3, (1.0,) * 3
    mean, std = settings.get("image_mean", IMAGENET_MEAN), settings.get("image_std", IMAGENET_STD)
    return side, tuple(mean), tuple(std)


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"no {file}: a folder in Hugging Face's format needs this file")
    content = read_json(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file}: must contain a JSON object")
    return content
