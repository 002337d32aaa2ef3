"""Decoders on disk: this project's, the authors' and Hugging Face's, read strictly."""

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
PUBLISHED_HEADS = 4  # in all that was published


class PublishedWarning(UserWarning):
    """Something about a published file was assumed, or does not go together."""


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read a checkpoint of this project's `fit`; nothing but plain values is unpickled.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: naming the file, if it is something else or only the beginning of one, or
            is no checkpoint of this project.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint {file}")
    try:
        content = load_plain(file)
    except Exception as error:
        raise ValueError(f"{file}: not a checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict) or not content.keys() >= _NEEDED:
        raise ValueError(f"{file}: not a checkpoint of clipseg_pl")
    read: dict[str, Any] = content
    return read


def load_decoder(decoder: nn.Module, file: Path, state: Mapping[str, Tensor]) -> None:
    """Load a decoder of any known origin, strictly.

    Args:
        decoder: filled in place.
        file: where the weights are from, for messages.
        state: weights of the authors' file, Hugging Face's, or a checkpoint of this project.

    Raises:
        ValueError: naming the file and what does not fit: the head, the width D, the backbone's
            width, the number of layers, or keys.
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
    """Build the decoder that a state dict of any known origin holds.

    Width, hidden width and head are read off the weights; what is not in them is given.

    Args:
        state: see `decoder_state`.
        shape: sizes of the backbone.
        layers: tapped blocks; by default the paper's 3, 7 and 9 of 12, or
            their like in another depth (`default_layers`).
        heads: attention heads; by default those of all that was published.

    Raises:
        ValueError: if it holds none, or one for another backbone or number of layers.
    """
    decoder = decoder_state(state)
    if not decoder.keys() >= {"film_scale.weight", "blocks.0.linear1.weight"}:
        raise ValueError("holds no CLIPSeg decoder")
    built = FiLMDecoder(
        shape,
        layers=layers,
        dim=len(decoder["film_scale.weight"]),
        heads=heads,
        feedforward=len(decoder["blocks.0.linear1.weight"]),
        head="refined" if "head.0.weight" in decoder else "simple",
    )
    _load_strictly(built, decoder)
    return built


def warn_of_another_clip(path: Path, held: Mapping[str, Tensor], backbone: Backbone) -> None:
    """Warn where a file holds another CLIP than the backbone that its decoder is put on.

    Args:
        path: the file.
        held: its CLIP, by open_clip's names; empty where it has none.
        backbone: that is used in its place.
    """
    own = backbone.clip.state_dict() if isinstance(backbone, CLIPBackbone) else {}
    # the toy CLIP's table is cut down
    compared = [key for key in held if key != "token_embedding.weight"]
    if not all(key in own and torch.equal(held[key], own[key].to(held[key])) for key in compared):
        warn(f"{path}: the CLIP in it is another one than the backbone that it is put on")


def warn_of_unread(path: Path, state: Mapping[str, Tensor]) -> None:
    """Warn of weights in a file that nothing reads."""
    unread = unread_keys(state)
    if unread:
        warn(
            f"{path}: {len(unread)} of its {len(state)} weights are not read: {list_names(unread)}"
        )


def warn(message: str) -> None:
    """Say what was assumed about a published file, or does not go together in it."""
    warnings.warn(message, PublishedWarning, stacklevel=3)


def list_names(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - 3} more" if names[3:] else ""
    return f"{', '.join(names[:3])}{more}"


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
