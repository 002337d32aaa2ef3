"""Names of weights: this project's, the authors' and Hugging Face's CLIPSeg, by one map.

The authors' names are the middle ground: ours and Hugging Face's differ from them by prefixes,
and Hugging Face keeps query, key and value of an attention apart and its projections transposed.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

# ours, authors', Hugging Face's
_DECODER_KEYS = (
    ("film_scale.", "film_mul.", "decoder.film_mul."),
    ("film_shift.", "film_add.", "decoder.film_add."),
    ("projections.", "reduces.", "decoder.reduces."),
    ("head.", "trans_conv.", "decoder.transposed_convolution."),
    ("blocks.", "blocks.", "decoder.layers."),
)
# authors', Hugging Face's; within a block of the decoder
_LAYER_KEYS = ((".linear1.", ".mlp.fc1."), (".linear2.", ".mlp.fc2."), (".norm", ".layer_norm"))
UNUSED = "reduce."
"""beginning of a layer of the authors' base class that CLIPSeg never calls"""
_AUTHORS_CLIP = ("clip_model.", "model.")  # whole models of the authors hold the frozen CLIP twice
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
_CLIP = "clip."
_CLIP_PREFIXES = (_CLIP, "clipseg.")  # the second in Hugging Face's first conversions, of 2022
_BUFFER = ".position_ids"  # 0, 1, 2 and so on, stored by transformers before 4.31
_OWN_DECODER, _OWN_BACKBONE = "model.decoder.", "model.backbone."


def decoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pick the decoder out of a state dict of any known origin and give it our names."""
    own = _with_beginning(state, _OWN_DECODER)
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
    """Pick what a checkpoint of this project holds of its backbone."""
    return _with_beginning(state, _OWN_BACKBONE)


def unread_keys(state: Mapping[str, Tensor]) -> list[str]:
    """Names that none of `decoder_state`, `backbone_state` and `clip_state` reads.

    The buffers `position_ids` of older versions of transformers are left out: they hold no weights.
    Decoders with the authors' names are taken whole, but for their unused layer `reduce` and the
    frozen CLIP of whole models, so that loading them refuses any other name.
    """
    if any(key.startswith(_OWN_DECODER) for key in state):
        read: tuple[str, ...] = (_OWN_DECODER, _OWN_BACKBONE)
    elif any(key.startswith("decoder.") for key in state):
        read = ("decoder.", *_CLIP_PREFIXES)
    else:
        return []
    return [key for key in state if not key.startswith(read) and not key.endswith(_BUFFER)]


def authors_decoder(decoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a decoder with our names those of the authors, as in their `.pth`."""
    names = [(ours, authors) for ours, authors, _ in _DECODER_KEYS]
    return {_with_prefix(key, names): value for key, value in decoder.items()}


def hugging_face_decoder(decoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a decoder with our names those of Hugging Face's `CLIPSegForImageSegmentation`."""
    names = [(ours, theirs) for ours, _, theirs in _DECODER_KEYS]
    renamed = {}
    for key, value in decoder.items():
        name = _with_prefix(key, names)
        for authors, theirs in _LAYER_KEYS:
            name = name.replace(authors, theirs)
        renamed[name] = value
    return _split_attention(renamed)


def clip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the CLIP in a Hugging Face CLIPSeg into an open_clip state dict.

    Its names begin with `clip.`, in the first conversions of 2022 with `clipseg.`.
    """
    clip: dict[str, Tensor] = {}
    for prefix in _CLIP_PREFIXES:
        clip |= _with_beginning(state, prefix)
    renamed = {}
    for key, value in _merge_attention(clip).items():
        if key.endswith(_BUFFER):
            continue
        name = _with_prefix(key, ((theirs, ours) for ours, theirs in _CLIP_KEYS))
        for open_clip_name, hf_name in _BLOCK_KEYS:
            name = name.replace(hf_name, open_clip_name)
        renamed[name] = value.T.contiguous() if key in _TRANSPOSED else value
    return renamed


def hugging_face_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn an open_clip state dict into the `clip.` part of a Hugging Face CLIPSeg.

    Raises:
        ValueError: naming a weight that Hugging Face's CLIP has no place for.
    """
    renamed = {}
    for key, value in state.items():
        name = _with_prefix(key, _CLIP_KEYS)
        in_block = [pair for pair in _BLOCK_KEYS if pair[0] in key]
        if not key.startswith(tuple(ours for ours, _ in _CLIP_KEYS)) or (
            ".resblocks." in key and not in_block
        ):
            raise ValueError(f"Hugging Face's CLIPSeg has no place for CLIP's {key}")
        for open_clip_name, hf_name in in_block:
            name = name.replace(open_clip_name, hf_name)
        renamed[_CLIP + name] = value.T.contiguous() if name in _TRANSPOSED else value
    return _split_attention(renamed)


def _with_beginning(state: Mapping[str, Tensor], beginning: str) -> dict[str, Tensor]:
    """The weights whose names begin so, without that beginning."""
    return {
        key.removeprefix(beginning): value
        for key, value in state.items()
        if key.startswith(beginning)
    }


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
    for authors, theirs in _LAYER_KEYS:
        key = key.replace(theirs, authors)
    return key


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


def _split_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take torch's `in_proj` apart into q, k and v projections."""
    split: dict[str, Tensor] = {}
    for key, value in state.items():
        match = re.fullmatch(r"(.*\.self_attn\.)in_proj_(weight|bias)", key)
        if match:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                split[f"{match[1]}{name}_proj.{match[2]}"] = part.clone()  # own memory
        else:
            split[key] = value
    return split
