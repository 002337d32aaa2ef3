"""Export of CLIPSeg and its processor to a folder for transformers' `from_pretrained`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clipseg_pl.convert.clip_vocabulary import (
    END,
    START,
    vocabulary,
    whole_embedding,
    write_vocabulary,
)
from clipseg_pl.convert.key_map import hugging_face_clip, hugging_face_decoder
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.weights.files import write_tensors

_REFINED_PATCH = 16  # transformers' refined head supports only this patch size
_PROCESSOR = {"processor_class": "CLIPSegProcessor"}
_SPECIAL = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}


def write_hugging_face(
    folder: Path,
    model: CLIPSeg,
    image_size: int,
    threshold: float | None,
    absent_cut: float | None = None,
    class_thresholds: Mapping[str, float] | None = None,
) -> None:
    """Write config.json, preprocessor_config.json, tokenizer files and model.safetensors.

    A pruned vocabulary is expanded to CLIP's full vocabulary, to match transformers' tokenizer.
    Trained blocks of CLIP replace the pre-trained ones; transformers also embeds image prompts with
    them.

    Args:
        folder: existing folder; files with the same names are replaced.
        model: model with a CLIP backbone and a FiLM decoder.
        image_size: side in pixels of the square that the processor resizes images to; rounded to a
            multiple of the patch size.
        threshold: threshold of the probability, stored in config.json. transformers ignores it.
        absent_cut: presence score below which a prompt is considered absent, stored in config.json.
            transformers ignores it.
        class_thresholds: phrase -> threshold of its class, stored in config.json. transformers
            ignores them.

    Raises:
        ValueError: if transformers does not support the model.
    """
    backbone, decoder = model.backbone, model.decoder
    if not isinstance(backbone, CLIPBackbone) or not isinstance(decoder, FiLMDecoder):
        names = f"{type(backbone).__name__} and {type(decoder).__name__}"
        raise ValueError(f"Hugging Face's format needs CLIPBackbone and FiLMDecoder, not {names}")
    patch = backbone.shape.patch_size
    if decoder.settings["head"] == "refined" and patch != _REFINED_PATCH:
        raise ValueError(f"Hugging Face's refined head supports patches of 16 pixels, not {patch}")
    # transformers ignores the pixels of incomplete patches
    size = max(1, round(image_size / patch)) * patch
    text, clip = backbone.text_encoder, dict(backbone.clip.state_dict())
    clip["token_embedding.weight"] = whole_embedding(text)
    for key, value in backbone.trained_blocks.state_dict().items():
        clip[f"visual.transformer.resblocks.{key}"] = value
    tensors = hugging_face_clip(clip) | hugging_face_decoder(decoder.state_dict())
    calibrated = {
        "threshold": threshold,
        "absent_cut": absent_cut,
        "class_thresholds": dict(class_thresholds) if class_thresholds else None,
    }
    known = {name: value for name, value in calibrated.items() if value is not None}
    _write(folder / "config.json", {**_config(backbone, decoder), **known})
    _write(folder / "preprocessor_config.json", _preprocessor(backbone, size))
    context = backbone.clip.context_length
    tokenizer = {"tokenizer_class": "CLIPTokenizer", "model_max_length": context, **_PROCESSOR}
    _write(folder / "tokenizer_config.json", {**tokenizer, **_SPECIAL})
    _write(folder / "special_tokens_map.json", _SPECIAL)
    write_vocabulary(folder, text)
    write_tensors(folder / "model.safetensors", tensors)


def _config(backbone: CLIPBackbone, decoder: FiLMDecoder) -> dict[str, Any]:
    clip, visual, ids = backbone.clip, backbone.clip.visual, vocabulary(backbone.text_encoder)
    activation = {"hidden_act": "quick_gelu" if backbone.quick_gelu else "gelu"}
    grid = math.isqrt(len(visual.positional_embedding) - 1)
    settings = decoder.settings
    return {
        "architectures": ["CLIPSegForImageSegmentation"],
        "model_type": "clipseg",
        "dtype": "float32",
        "projection_dim": backbone.shape.embed_dim,
        "extract_layers": settings["layers"],
        "conditional_layer": 0,
        "reduce_dim": settings["dim"],
        "use_complex_transposed_convolution": settings["head"] == "refined",
        "decoder_num_attention_heads": settings["heads"],
        "decoder_intermediate_size": settings["feedforward"],
        "decoder_attention_dropout": 0.0,
        "decoder_hidden_act": "relu",
        "text_config": {
            "model_type": "clipseg_text_model",
            "vocab_size": len(ids),
            "bos_token_id": ids[START],
            "eos_token_id": ids[END],
            "pad_token_id": ids[END],
            "max_position_embeddings": clip.context_length,
            **_tower(clip.transformer),
            **activation,
        },
        "vision_config": {
            "model_type": "clipseg_vision_model",
            "image_size": grid * backbone.shape.patch_size,
            "patch_size": backbone.shape.patch_size,
            **_tower(visual.transformer),
            **activation,
        },
    }


def _tower(transformer: Any) -> dict[str, Any]:  # noqa: ANN401 - open_clip has no types
    block = transformer.resblocks[0]
    return {
        "hidden_size": block.attn.embed_dim,
        "intermediate_size": block.mlp.c_fc.out_features,
        "num_hidden_layers": len(transformer.resblocks),
        "num_attention_heads": block.attn.num_heads,
        "layer_norm_eps": block.ln_1.eps,
    }


def _preprocessor(backbone: CLIPBackbone, size: int) -> dict[str, Any]:
    return {
        "image_processor_type": "ViTImageProcessor",
        **_PROCESSOR,
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 2,  # PIL's bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _numbers(backbone.mean),
        "image_std": _numbers(backbone.std),
    }


def _numbers(values: Tensor) -> list[float]:
    """Return the shortest decimal numbers that equal the values when rounded to float32."""
    return [float(str(np.float32(value))) for value in values.flatten().tolist()]


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
