"""Decoders on disk: this project's, the authors' and Hugging Face's CLIPSeg, by one key map.

The authors' names are the middle ground: ours and Hugging Face's differ from them by prefixes,
and Hugging Face keeps query, key and value of an attention apart and its projections transposed.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from clipseg_pl.models.backbone import BackboneShape
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.models.weights import read_state_dict

# ours, authors', Hugging Face's
_DECODER_KEYS = (
    ("film_scale.", "film_mul.", "decoder.film_mul."),
    ("film_shift.", "film_add.", "decoder.film_add."),
    ("projections.", "reduces.", "decoder.reduces."),
    ("head.", "trans_conv.", "decoder.transposed_convolution."),
    ("blocks.", "blocks.", "decoder.layers."),
)
_UNUSED = "reduce."  # a layer of the authors' base class that CLIPSeg never calls
# open_clip's, Hugging Face's; within a tower
_BLOCK_KEYS = (
    (".attn.in_proj_", ".self_attn.in_proj_"),
    (".attn.out_proj.", ".self_attn.out_proj."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
)
_CLIP_KEYS = (
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
    ("visual.proj", "visual_projection.weight"),
    ("transformer.resblocks.", "text_model.encoder.layers."),
    ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.", "text_model.final_layer_norm."),
    ("text_projection", "text_projection.weight"),
    ("logit_scale", "logit_scale"),
)
_TRANSPOSED = ("visual_projection.weight", "text_projection.weight")
# what `CLIPSegModule` puts into a checkpoint
_CHECKPOINT = {"hyper_parameters", "state_dict", "threshold", "image_size"}


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read a checkpoint of this project's `fit`; nothing but plain values is unpickled.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: naming the file, if it is something else or only the beginning of one.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint {file}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{file}: not a checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict) or not content.keys() >= _CHECKPOINT:
        raise ValueError(f"{file}: not a checkpoint of clipseg_pl")
    return content


def load_decoder(decoder: nn.Module, file: Path) -> None:
    """Load a decoder of any known origin, strictly.

    Args:
        decoder: filled in place.
        file: the authors' `.pth`, Hugging Face's `model.safetensors` or `pytorch_model.bin`, or
            a checkpoint of this project.

    Raises:
        ValueError: naming the file and what does not fit: the head, the width D, the backbone's
            width, the number of layers, or keys.
    """
    try:
        _load_strictly(decoder, decoder_state(read_state_dict(file)))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def start_from(model: CLIPSeg, file: Path) -> Sequence[str]:
    """Load a decoder as `load_decoder` does, and what a checkpoint of ours has of its backbone.

    Returns:
        What its training had left out, by name (`BaseDataModule.excluded`): nothing that is known
        of where it is not a checkpoint of this project.
    """
    load_decoder(model.decoder, file)
    state, own = read_state_dict(file), "model.backbone."
    kept = {key.removeprefix(own): value for key, value in state.items() if key.startswith(own)}
    model.backbone.load_state_dict(kept, strict=False)
    if file.suffix != ".ckpt":
        return ()
    content = read_checkpoint(file)
    model.decoder.check_layers(content.get("layers"))
    excluded: Sequence[str] = content.get("excluded", ())
    return excluded


def build_decoder(state: Mapping[str, Tensor], shape: BackboneShape) -> FiLMDecoder:
    """Build the decoder that a state dict of any known origin holds.

    Width and head are read off the weights. The tapped blocks are not in them: they are taken to
    be 3, 7 and 9 of 12, as the paper says (the authors' Quickstart has 3, 6 and 9, trap T4), or
    their like in another depth (`default_layers`).

    Raises:
        ValueError: if it holds none, or one for another backbone.
    """
    decoder = decoder_state(state)
    if "film_scale.weight" not in decoder:
        raise ValueError("holds no CLIPSeg decoder")
    head: Literal["simple", "refined"]
    head = "refined" if "head.0.weight" in decoder else "simple"
    built = FiLMDecoder(shape, dim=len(decoder["film_scale.weight"]), head=head)
    _load_strictly(built, decoder)
    return built


def decoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pick the decoder out of a state dict of any known origin and give it our names."""
    own = "model.decoder."
    if any(key.startswith(own) for key in state):
        return {key.removeprefix(own): v for key, v in state.items() if key.startswith(own)}
    if any(key.startswith("decoder.") for key in state):
        merged = _merge_attention({k: v for k, v in state.items() if k.startswith("decoder.")})
        return {_from_authors(_to_authors(key)): value for key, value in merged.items()}
    known = tuple(authors for _, authors, _ in _DECODER_KEYS)
    kept = {key: value for key, value in state.items() if not key.startswith(_UNUSED)}
    if not any(key.startswith(known) for key in kept):
        return {}
    towers = ("clip_model.", "model.")  # whole models of the authors carry CLIP twice
    return {_from_authors(k): v for k, v in kept.items() if not k.startswith(towers)}


def clip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the `clip.` part of a Hugging Face CLIPSeg into an open_clip state dict."""
    clip = {key.removeprefix("clip."): v for key, v in state.items() if key.startswith("clip.")}
    renamed = {}
    for key, value in _merge_attention(clip).items():
        if key.endswith("position_ids"):
            continue
        name = _with_prefix(key, ((theirs, ours) for ours, theirs in _CLIP_KEYS))
        for open_clip_name, hf_name in _BLOCK_KEYS:
            name = name.replace(hf_name, open_clip_name)
        renamed[name] = value.T.contiguous() if key in _TRANSPOSED else value
    return renamed


def _with_prefix(key: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Exchange the first old prefix that the key has for the new one; without any it stays."""
    for old, new in pairs:
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def _from_authors(key: str) -> str:
    """From the authors' name of a decoder key to ours."""
    return _with_prefix(key, ((authors, ours) for ours, authors, _ in _DECODER_KEYS))


def _to_authors(key: str) -> str:
    """From Hugging Face's name of a decoder key to the authors'."""
    key = _with_prefix(key, ((theirs, authors) for _, authors, theirs in _DECODER_KEYS))
    key = key.replace(".mlp.fc1.", ".linear1.").replace(".mlp.fc2.", ".linear2.")
    return key.replace(".layer_norm", ".norm")


def _merge_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join q, k and v projections, in that order, into torch's `in_proj`."""
    merged: dict[str, Tensor] = {}
    for key, value in state.items():
        match = re.fullmatch(r"(.*\.self_attn\.)([qkv])_proj\.(weight|bias)", key)
        if not match:
            merged[key] = value
        elif match[2] == "q":
            parts = [state[f"{match[1]}{name}_proj.{match[3]}"] for name in "qkv"]
            merged[f"{match[1]}in_proj_{match[3]}"] = torch.cat(parts)
    return merged


def _load_strictly(decoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    problem = _explain_mismatch(decoder.state_dict(), state)
    if problem:
        raise ValueError(problem)
    decoder.load_state_dict(state)


def _explain_mismatch(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Say in one line why `given` does not fit into `own`; empty if it does."""
    if not given:
        return "holds no CLIPSeg decoder"
    for state, other, which in ((given, own, "file"), (own, given, "model")):
        if "head.0.weight" in state and "head.weight" in other:
            other_one = "model" if which == "file" else "file"
            return f"the {which} has the refined head, the {other_one} the simple one"
    blocks = [
        len({key.split(".")[1] for key in s if key.startswith("blocks.")}) for s in (own, given)
    ]
    if blocks[0] != blocks[1]:
        return f"the file has {blocks[1]} decoder blocks, the model taps {blocks[0]} layers"
    names = {"projections.0.weight": ("D", "backbone width"), "film_scale.weight": ("D", "C")}
    for key, axes in names.items():
        if key in own and key in given:
            for axis, name in enumerate(axes):
                if own[key].shape[axis] != given[key].shape[axis]:
                    sizes = given[key].shape[axis], own[key].shape[axis]
                    return f"{name} is {sizes[0]} in the file and {sizes[1]} in the model"
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or extra:
        return f"missing keys {missing[:3]}, unexpected keys {extra[:3]}"
    wrong = [key for key in own if own[key].shape != given[key].shape]
    if wrong:
        key = wrong[0]
        return f"{key} is {tuple(given[key].shape)} in the file, {tuple(own[key].shape)} here"
    return ""
