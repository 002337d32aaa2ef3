"""Strict loading of decoders from this project, the authors and Hugging Face."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipseg_pl.convert.key_map import decoder_state, unread_keys
from clipseg_pl.models.backbone import Backbone, BackboneShape
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.weights.files import load_plain

_NEEDED = {"hyper_parameters", "state_dict", "threshold", "image_size", "global_step"}
PUBLISHED_HEADS = 4  # attention heads of all published decoders


class PublishedWarning(UserWarning):
    """Warning that a setting of a published file was assumed, or that its parts do not match."""


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read a checkpoint of this project's `fit` command (with `weights_only`).

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if the file is truncated or is not a checkpoint of this project.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint {file}")
    try:
        content = load_plain(file)
    except Exception as error:
        raise ValueError(f"{file}: not a checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict) or not content.keys() >= _NEEDED:
        raise ValueError(f"{file}: not a checkpoint of clipseg_pl")
    checkpoint: dict[str, Any] = content
    return checkpoint


def load_decoder(decoder: nn.Module, file: Path, state: Mapping[str, Tensor]) -> None:
    """Load weights from any supported source into a decoder, with strict checks.

    Args:
        decoder: decoder to fill in place.
        file: source of the weights, for error messages.
        state: weights from the authors, from Hugging Face or from a checkpoint of this project.

    Raises:
        ValueError: if the weights do not fit the decoder. The message reports the mismatch: head,
            width D, width of the backbone, number of layers or keys.
    """
    try:
        _load_strictly(decoder, decoder_state(state))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    warn_of_unread(file, state)


def build_decoder(
    state: Mapping[str, Tensor],
    shape: BackboneShape,
    *,
    layers: Sequence[int] | None = None,
    heads: int = PUBLISHED_HEADS,
) -> FiLMDecoder:
    """Build the decoder of a state dict from any supported source.

    Its width, its MLP's hidden width and the type of its head follow from the weights.

    Args:
        state: see `decoder_state`.
        shape: sizes of the backbone.
        layers: tapped layers. By default the paper's 3, 7 and 9 of 12, or their equivalent in
            backbones of another depth (`default_layers`).
        heads: number of attention heads; by default that of all published decoders.

    Raises:
        ValueError: if the state dict has no decoder, or a decoder for another backbone or number
            of layers.
    """
    decoder = decoder_state(state)
    if not has_film_decoder(decoder):
        raise ValueError("contains no CLIPSeg decoder")
    built = FiLMDecoder(shape, layers=layers, heads=heads, **decoder_sizes(decoder))
    _load_strictly(built, decoder)
    return built


def has_film_decoder(decoder: Mapping[str, Tensor]) -> bool:
    """Whether weights, with the names of `FiLMDecoder`, contain its main parts."""
    return decoder.keys() >= {"film_scale.weight", "blocks.0.linear1.weight"}


def decoder_sizes(decoder: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of `FiLMDecoder` that follow from its weights."""
    return {
        "dim": len(decoder["film_scale.weight"]),
        "feedforward": len(decoder["blocks.0.linear1.weight"]),
        "head": "refined" if "head.0.weight" in decoder else "simple",
    }


def warn_if_clip_differs(path: Path, clip: Mapping[str, Tensor], backbone: Backbone) -> None:
    """Warn if the CLIP in a file differs from the backbone that the file's decoder is used with.

    Args:
        path: path of the file.
        clip: CLIP in the file, with open_clip's names; empty if there is none.
        backbone: backbone that is used instead of this CLIP.
    """
    own = backbone.clip.state_dict() if isinstance(backbone, CLIPBackbone) else {}
    # embedding tables are not compared, because the toy CLIP's table is pruned
    compared = [key for key in clip if key != "token_embedding.weight"]
    if not all(key in own and torch.equal(clip[key], own[key].to(clip[key])) for key in compared):
        warn(
            f"{path}: the CLIP in the file differs from the backbone that the file's decoder is "
            "used with"
        )


def warn_of_unread(path: Path, state: Mapping[str, Tensor]) -> None:
    """Warn about weights in a file that are ignored."""
    unread = unread_keys(state)
    if unread:
        warn(f"{path}: {len(unread)} of its {len(state)} weights are ignored: {list_names(unread)}")


def warn(message: str) -> None:
    """Issue a `PublishedWarning`."""
    warnings.warn(message, PublishedWarning, stacklevel=3)


def list_names(names: Sequence[str]) -> str:
    """Return the first three names and the number of others."""
    more = f" and {len(names) - 3} more" if names[3:] else ""
    return f"{', '.join(names[:3])}{more}"


def _load_strictly(decoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    problem = _explain_mismatch(decoder.state_dict(), state)
    if problem:
        raise ValueError(problem)
    decoder.load_state_dict(state)


def _explain_mismatch(own: Mapping[str, Tensor], loaded: Mapping[str, Tensor]) -> str:
    """Return one line that explains why `loaded` does not fit `own`; empty if it fits."""
    if not loaded:
        return "contains no CLIPSeg decoder"
    for state, other, which in ((loaded, own, "file"), (own, loaded, "model")):
        if "head.0.weight" in state and "head.weight" in other:
            counterpart = "model" if which == "file" else "file"
            return f"the {which} has the refined head, the {counterpart} the simple one"
    blocks = [
        len({key.split(".")[1] for key in s if key.startswith("blocks.")}) for s in (own, loaded)
    ]
    if blocks[0] != blocks[1]:
        return f"the file has {blocks[1]} decoder blocks, but the model taps {blocks[0]} layers"
    width = "decoder width D"
    names = {
        "projections.0.weight": (width, "backbone width"),
        "film_scale.weight": (width, "conditional vector width C"),
    }
    for key, axes in names.items():
        if key in own and key in loaded:
            for axis, name in enumerate(axes):
                if own[key].shape[axis] != loaded[key].shape[axis]:
                    sizes = loaded[key].shape[axis], own[key].shape[axis]
                    return f"{name} is {sizes[0]} in the file and {sizes[1]} in the model"
    missing, extra = sorted(own.keys() - loaded.keys()), sorted(loaded.keys() - own.keys())
    if missing or extra:
        return f"missing keys {missing[:3]}, unexpected keys {extra[:3]}"
    wrong = [key for key in own if own[key].shape != loaded[key].shape]
    if wrong:
        key = wrong[0]
        shapes = tuple(loaded[key].shape), tuple(own[key].shape)
        return f"{key} has shape {shapes[0]} in the file and {shapes[1]} in the model"
    return ""
