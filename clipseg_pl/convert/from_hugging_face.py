"""What a Hugging Face folder of CLIPSeg says beside its weights.

Read off transformers 5.23 (`models/clipseg`); it is not needed here. What a `config.json` leaves
out has the default of transformers' classes.
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

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# transformers 5 puts the preprocessor into the first
_PREPROCESSORS = ("processor_config.json", "preprocessor_config.json")
_TOKENS, _END = 49408, 49407  # CLIP's vocabulary
_ENDS = (_END, 2)  # 2 in configs before 2023, where transformers looks for the largest id
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
_WHOLE = {
    "projection_dim": 512,
    "extract_layers": [3, 6, 9],
    "decoder_num_attention_heads": 4,
    "conditional_layer": 0,
}


@dataclass(frozen=True)
class Description:
    """What a Hugging Face folder says beside the weights.

    Args:
        clip: open_clip's configuration of its CLIP.
        layers: tapped blocks, counted from 0 as ours: transformers takes hidden_states[i + 1]
            for a layer i, the first being what enters block 0.
        heads: of the decoder's attention.
        image_size: side in pixels of the square that photos are brought to.
        mean: of the normalisation, a channel each.
        std: the same.
        threshold: of the probability, where the folder was written by this project.
        absent_cut: presence below which a prompt is taken to be absent, the same.
    """

    clip: dict[str, Any]
    layers: tuple[int, ...]
    heads: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    threshold: float | None
    absent_cut: float | None


def is_imagenets(mean: Sequence[float], std: Sequence[float]) -> bool:
    """Whether images are normalised as in all training of CLIPSeg."""
    return bool(np.allclose([mean, std], [IMAGENET_MEAN, IMAGENET_STD], atol=1e-4))


def describe(folder: Path) -> Description:
    """Read what a folder says beside the weights.

    Raises:
        ValueError: naming the file and what in it is unknown to this project.
        FileNotFoundError: if there is no config.json.
    """
    file = folder / CONFIG
    config = {**_WHOLE, **_read(file)}
    layers = config["extract_layers"]
    try:
        if config.get("model_type") != "clipseg":
            raise ValueError(f"describes {config.get('model_type')!r}, not 'clipseg'")
        # transformers gives the last of them to the first projection; here that is the deepest
        if layers != sorted(layers):
            raise ValueError(f"extract_layers {layers} do not rise")
        if config["conditional_layer"] != 0:
            raise ValueError(f"conditional_layer is {config['conditional_layer']}, 0 is known here")
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
    )


def _open_clip_config(config: Mapping[str, Any]) -> dict[str, Any]:
    towers = []
    for name, defaults in (("vision", _VISION), ("text", _TEXT)):
        # files of 2022 keep what differs from the defaults a second time
        parts = (config.get(f"{name}_config"), config.get(f"{name}_config_dict"))
        towers.append({**defaults, **(parts[0] or {}), **(parts[1] or {})})
    vision, text = towers
    activations = [vision["hidden_act"], text["hidden_act"]]
    if activations not in (["quick_gelu"] * 2, ["gelu"] * 2):
        raise ValueError(f"hidden_act {activations}; quick_gelu or gelu, in both towers")
    if text["vocab_size"] != _TOKENS or text["eos_token_id"] not in _ENDS:
        raise ValueError(f"its {text['vocab_size']} tokens are not CLIP's {_TOKENS}")
    if [vision["layer_norm_eps"], text["layer_norm_eps"]] != [1e-5] * 2:
        raise ValueError("layer_norm_eps is not CLIP's 1e-5")
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
    """Side in pixels, mean and std; what is not said is as CLIPSeg was trained.

    Raises:
        ValueError: naming the folder, if pixels are not brought to 0 to 1.
    """
    given: dict[str, Any] = {}
    for name in reversed(_PREPROCESSORS):  # the first counts
        if (folder / name).is_file():
            part = _read(folder / name)
            given.update(part.get("image_processor", part))
    size = given.get("size", PAPER_SIZE)
    sides = list(size.values()) if isinstance(size, dict) else [size]
    side = round(math.sqrt(sides[0] * sides[-1]))
    scale = given.get("do_rescale", True) and given.get("rescale_factor", 1 / 255)
    if abs(scale * 255 - 1) > 1e-3:
        raise ValueError(f"{folder}: its preprocessor does not bring pixels to 0 to 1")
    if not given.get("do_normalize", True):
        return side, (0.0,) * 3, (1.0,) * 3
    mean, std = given.get("image_mean", IMAGENET_MEAN), given.get("image_std", IMAGENET_STD)
    return side, tuple(mean), tuple(std)


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"no {file}: Hugging Face's CLIPSeg has one beside its weights")
    content = read_json(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file}: not a description of a model")
    return content
