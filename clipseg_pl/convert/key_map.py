"""Conversion of weight names between this project, the authors and Hugging Face.

This project's names of the decoder's weights differ from the authors' names only in their prefixes.
Hugging Face also renames layers within blocks, stores query, key and value of an attention layer
separately, and transposes CLIP's projections.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

# this project's, authors' and Hugging Face's prefixes
_DECODER_KEYS = (
    ("film_scale.", "film_mul.", "decoder.film_mul."),
    ("film_shift.", "film_add.", "decoder.film_add."),
    ("projections.", "reduces.", "decoder.reduces."),
    ("head.", "trans_conv.", "decoder.transposed_convolution."),
    ("blocks.", "blocks.", "decoder.layers."),
)
# authors' and Hugging Face's names within a decoder block
_LAYER_KEYS = ((".linear1.", ".mlp.fc1."), (".linear2.", ".mlp.fc2."), (".norm", ".layer_norm"))
UNUSED = "reduce."
"""prefix of a layer in the authors' files, see docs/deviations.md (unused-layer)"""
_AUTHORS_CLIP = ("clip_model.", "model.")  # full models of the authors contain CLIP twice
# open_clip's and Hugging Face's names within a block of CLIP
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
_CLIP = "clip."
_CLIP_PREFIXES = (_CLIP, "clipseg.")  # the latter in Hugging Face's files of 2022
_BUFFER = ".position_ids"  # the constant 0, 1, 2, ..., which transformers before 4.31 stored
_OWN_DECODER, _OWN_BACKBONE = "model.decoder.", "model.backbone."


def decoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Extract the decoder from a state dict of any supported source, with this project's names.

    Args:
        state: checkpoint of this project, weights of the authors or weights of Hugging Face.

    Returns:
        State dict of the decoder; empty if there is none.
    """
    own = _strip_prefix(state, _OWN_DECODER)
    if own:
        return own
    theirs = {key: value for key, value in state.items() if key.startswith("decoder.")}
    if theirs:
        merged = _merge_attention(theirs)
        return {_from_authors(_to_authors(key)): value for key, value in merged.items()}
    known = tuple(authors for _, authors, _ in _DECODER_KEYS)
    if not any(key.startswith(known) for key in state):
        return {}
    left_out = (UNUSED, *_AUTHORS_CLIP)
    return {_from_authors(k): v for k, v in state.items() if not k.startswith(left_out)}


def backbone_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Extract the backbone's weights stored in a checkpoint of this project."""
    return _strip_prefix(state, _OWN_BACKBONE)


def unread_keys(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of weights that `decoder_state`, `backbone_state` and `clip_state` ignore.

    The buffers `position_ids` of older versions of transformers are not in the result. For files
    of the authors the result is empty. `decoder_state` returns all their weights, except the
    unused layer `reduce` and the frozen CLIP. If they have unknown names, loading them is an error.
    """
    if any(key.startswith(_OWN_DECODER) for key in state):
        known: tuple[str, ...] = (_OWN_DECODER, _OWN_BACKBONE)
    elif any(key.startswith("decoder.") for key in state):
        known = ("decoder.", *_CLIP_PREFIXES)
    else:
        return []
    return [key for key in state if not key.startswith(known) and not key.endswith(_BUFFER)]


def authors_decoder(decoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a decoder from this project's names to the authors' names."""
    names = [(ours, authors) for ours, authors, _ in _DECODER_KEYS]
    return {_replace_prefix(key, names): value for key, value in decoder.items()}


def hugging_face_decoder(decoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a decoder from this project's names to Hugging Face's names."""
    names = [(ours, theirs) for ours, _, theirs in _DECODER_KEYS]
    renamed = {}
    for key, value in decoder.items():
        name = _replace_prefix(key, names)
        for authors, theirs in _LAYER_KEYS:
            name = name.replace(authors, theirs)
        renamed[name] = value
    return _split_attention(renamed)


def clip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the CLIP in a Hugging Face CLIPSeg to an open_clip state dict.

    Names of CLIP's weights start with `clip.`, or with `clipseg.` in files of 2022.

    Args:
        state: weights of Hugging Face's CLIPSeg.

    Returns:
        State dict of CLIP; empty if there is none.
    """
    clip: dict[str, Tensor] = {}
    for prefix in _CLIP_PREFIXES:
        clip |= _strip_prefix(state, prefix)
    renamed = {}
    for key, value in _merge_attention(clip).items():
        if key.endswith(_BUFFER):
            continue
        name = _replace_prefix(key, ((theirs, ours) for ours, theirs in _CLIP_KEYS))
        for open_clip_name, hf_name in _BLOCK_KEYS:
            name = name.replace(hf_name, open_clip_name)
        renamed[name] = value.T.contiguous() if key in _TRANSPOSED else value
    return renamed


def hugging_face_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert an open_clip state dict to the `clip.` part of a Hugging Face CLIPSeg.

    Raises:
        ValueError: if Hugging Face's CLIP has no equivalent of a weight.
    """
    renamed = {}
    for key, value in state.items():
        name = _replace_prefix(key, _CLIP_KEYS)
        in_block = [pair for pair in _BLOCK_KEYS if pair[0] in key]
        if not key.startswith(tuple(ours for ours, _ in _CLIP_KEYS)) or (
            ".resblocks." in key and not in_block
        ):
            raise ValueError(f"Hugging Face's CLIPSeg has no equivalent of CLIP's weight {key}")
        for open_clip_name, hf_name in in_block:
            name = name.replace(open_clip_name, hf_name)
        renamed[_CLIP + name] = value.T.contiguous() if name in _TRANSPOSED else value
    return _split_attention(renamed)


def _strip_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Select the weights with a prefix and remove it from their names."""
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def _replace_prefix(key: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Replace the first matching prefix of a key; return other keys unchanged."""
    for old, new in pairs:
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def _from_authors(key: str) -> str:
    """Convert the authors' name of a decoder key to this project's name."""
    return _replace_prefix(key, ((authors, ours) for ours, authors, _ in _DECODER_KEYS))


def _to_authors(key: str) -> str:
    """Convert Hugging Face's name of a decoder key to the authors' name."""
    key = _replace_prefix(key, ((theirs, authors) for _, authors, theirs in _DECODER_KEYS))
    for authors, theirs in _LAYER_KEYS:
        key = key.replace(theirs, authors)
    return key


def _merge_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Concatenate the q, k and v projections into torch's `in_proj`."""
    merged: dict[str, Tensor] = {}
    for key, value in state.items():
        match = re.fullmatch(r"(.*\.self_attn\.)([qkv])_proj\.(weight|bias)", key)
        if not match:
            merged[key] = value
        elif match[2] == "q":
            parts = [state[f"{match[1]}{name}_proj.{match[3]}"] for name in "qkv"]
            merged[f"{match[1]}in_proj_{match[3]}"] = torch.cat(parts)
    return merged


def _split_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split torch's `in_proj` into q, k and v projections."""
    split: dict[str, Tensor] = {}
    for key, value in state.items():
        match = re.fullmatch(r"(.*\.self_attn\.)in_proj_(weight|bias)", key)
        if match:  # cloned, because safetensors rejects shared memory
            for name, part in zip("qkv", value.chunk(3), strict=True):
                split[f"{match[1]}{name}_proj.{match[2]}"] = part.clone()
        else:
            split[key] = value
    return split
