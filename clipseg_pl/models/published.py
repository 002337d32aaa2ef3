"""Decoders that were not trained here: the authors' files and Hugging Face's CLIPSeg."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clipseg_pl.models.backbone import PAPER_SIZE, Backbone
from clipseg_pl.models.checkpoints import (
    PUBLISHED_HEADS,
    build_decoder,
    read_checkpoint,
    warn,
    warn_of_another_clip,
    warn_of_unread,
)
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clip_weights import PAPERS_CLIP, find_config
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.from_hugging_face import CONFIG, WEIGHTS, Description, describe, is_imagenets
from clipseg_pl.models.key_map import clip_state
from clipseg_pl.models.weights import read_state_dict


class Published(NamedTuple):
    """A model that was not trained here, and how it is to be used.

    `image_size` is the side in pixels of the squares it was trained on; `threshold` that of its
    probability and `absent_cut` the presence below which a prompt is taken to be absent, each None
    where the file does not say it; `clip` the open_clip configuration of its CLIP, None where
    that was not in the file.
    """

    model: CLIPSeg
    image_size: int
    threshold: float | None
    absent_cut: float | None
    clip: Mapping[str, Any] | None


def load_published(
    path: str | Path, backbone: Backbone | None = None, layers: Sequence[int] | None = None
) -> Published:
    """Load a decoder of the authors, a file of Hugging Face's CLIPSeg or a folder with it.

    What a file does not say is assumed, as a warning says: the tapped layers (3, 7, 9, the
    paper's), the activation of CLIP. A Hugging Face folder says both, its sizes and its
    normalisation, which is taken over.

    Args:
        path: the authors' `.pth`; `model.safetensors` or `pytorch_model.bin`, whose config.json
            is read where it lies beside it; or the folder that holds one of these.
        backbone: by default the CLIP that the file holds, else OpenAI's ViT-B/16. Its
            normalisation becomes that of a Hugging Face folder.
        layers: for a file that does not say them, counted from 0.

    Raises:
        FileNotFoundError: naming what is missing: the path, a folder's files, CLIP's weights.
        ValueError: naming the file and what in it does not fit.
    """
    path = Path(path).expanduser()
    file, described = _find(path)
    if described and layers is not None:
        raise ValueError(f"{path}: its config.json says its layers, {list(described.layers)}")
    state = read_state_dict(file)
    if _is_checkpoint(file, state):
        raise ValueError(f"{file}: a checkpoint of `fit`: rename it to .ckpt, by which it is read")
    held, config = clip_state(state), None
    try:
        if backbone is None and held:
            config = described.clip if described else find_config(PAPERS_CLIP)
            backbone = CLIPBackbone.holding(config, held)
        elif backbone is None:
            backbone = CLIPBackbone(PAPERS_CLIP)
        taps = described.layers if described else layers
        heads = described.heads if described else PUBLISHED_HEADS
        build = partial(build_decoder, state, layers=taps, heads=heads)
        model = CLIPSeg(backbone, build).eval()
    except ValueError as error:
        hint = f"; put its {CONFIG} beside it" if held and not described else ""
        raise ValueError(f"{file}: {error}{hint}") from error
    warn_of_unread(path, state)
    if described:
        _normalise_as(described, backbone, path)
    elif layers is None:
        taken = ", ".join(map(str, sorted(model.decoder.layers)))
        warn(
            f"{path} does not say which blocks of CLIP its decoder taps: {taken} are taken, by the "
            "paper's 3, 7, 9 of 12 (the authors' Quickstart and Hugging Face's defaults: 3, 6, 9)"
        )
    if config is None and isinstance(backbone, CLIPBackbone):
        _compare(described, held, backbone, path)
    if not described:
        return Published(model, PAPER_SIZE, None, None, config)
    kept = described.threshold, described.absent_cut
    return Published(model, described.image_size, *kept, config)


def _find(path: Path) -> tuple[Path, Description | None]:
    """The file of weights, and what a config.json says about it."""
    if path.is_dir():
        described = describe(path)
        for name in WEIGHTS:
            if (path / name).is_file():
                return path / name, described
        raise FileNotFoundError(f"{path}: holds neither {' nor '.join(WEIGHTS)}")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint {path}")
    beside = path.name in WEIGHTS and (path.parent / CONFIG).is_file()
    return path, describe(path.parent) if beside else None


def _is_checkpoint(file: Path, state: Mapping[str, Tensor]) -> bool:
    """Whether a file says more than weights: its backbone, its layers, its threshold."""
    if not any(key.startswith("model.") for key in state):  # spares a second reading
        return False
    try:
        return "hyper_parameters" in read_checkpoint(file)
    except ValueError:
        return False


def _normalise_as(described: Description, backbone: Backbone, path: Path) -> None:
    """Take over the constants of the folder's preprocessor."""
    for buffer, values in ((backbone.mean, described.mean), (backbone.std, described.std)):
        buffer.copy_(torch.tensor(values).view(3, 1, 1))
    if not is_imagenets(described.mean, described.std):
        warn(
            f"{path}: images are normalised by its preprocessor's mean {list(described.mean)} and "
            f"std {list(described.std)}, not by ImageNet's, which CLIPSeg was trained with"
        )


def _compare(
    described: Description | None, held: Mapping[str, Tensor], backbone: CLIPBackbone, path: Path
) -> None:
    """Say where the decoder was trained on another CLIP than the one it is put on."""
    quick = described.clip["quick_gelu"] if described else True
    if backbone.quick_gelu != quick:
        whose = "its decoder was" if described else "published decoders were"
        kinds = {True: "QuickGELU", False: "the exact GELU"}
        warn(
            f"{path}: {whose} trained on a CLIP with {kinds[quick]}, the backbone has "
            f"{kinds[backbone.quick_gelu]}"
        )
    warn_of_another_clip(path, held, backbone)
