"""Models with their settings, from checkpoints of `fit` and from what others published."""

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clipseg_pl.convert.checkpoints import (
    PUBLISHED_HEADS,
    build_decoder,
    list_names,
    load_decoder,
    read_checkpoint,
    warn,
    warn_of_another_clip,
    warn_of_unread,
)
from clipseg_pl.convert.from_hugging_face import (
    CONFIG,
    WEIGHTS,
    Description,
    describe,
    is_imagenets,
)
from clipseg_pl.convert.key_map import backbone_state, clip_state
from clipseg_pl.models.backbone import Backbone
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import Decoder, FiLMDecoder
from clipseg_pl.weights.clip import PAPERS_CLIP, find_config
from clipseg_pl.weights.files import one_line, read_state_dict
from clipseg_pl.weights.places import find_checkpoint


class StoredModel(NamedTuple):
    """What a file holds of a model, read but not built yet.

    `state` has its weights, by the names in the file; `checkpoint` all else that a checkpoint of
    `fit` holds; `described` what a config.json of Hugging Face says.
    """

    path: Path
    state: Mapping[str, Tensor]
    checkpoint: Mapping[str, Any] | None = None
    described: Description | None = None


class LoadedModel(NamedTuple):
    """A model, and the settings that its file stores; None for what the file does not say.

    `image_size` is the side in pixels of the squares it was trained on; `threshold` the best of its
    validation, of the probability; `absent_cut` the presence below which a prompt is taken to be
    absent; `clip` the open_clip configuration of the CLIP that was in the file.
    """

    model: CLIPSeg
    image_size: int | None
    threshold: float | None
    absent_cut: float | None
    clip: Mapping[str, Any] | None = None


def load_model(
    path: str | Path, backbone: Backbone | None = None, layers: Sequence[int] | None = None
) -> LoadedModel:
    """Load a checkpoint of this project, a decoder of the authors or Hugging Face's CLIPSeg.

    Published files do not say everything; what is assumed is said in a warning: the tapped layers
    (3, 7, 9, the paper's), the activation of CLIP. A Hugging Face folder says both, its sizes and
    its normalisation, which is taken over.

    Args:
        path: "toy"; a `.ckpt` of `fit`; the authors' `.pth`; `model.safetensors` or
            `pytorch_model.bin`, whose config.json is read where it lies beside it; or the folder
            that holds one of these.
        backbone: for a published file. By default the CLIP that the file holds, else OpenAI's
            ViT-B/16. Its normalisation becomes that of a Hugging Face folder.
        layers: for a file that does not say them, counted from 0.

    Raises:
        FileNotFoundError: naming what is missing: the path, a folder's files, CLIP's weights.
        ValueError: naming the file and what in it does not fit.
    """
    return build_model(read_model(path), backbone, layers)


def read_model(path: str | Path) -> StoredModel:
    """Read a file of a model once; see `load_model`.

    Raises:
        FileNotFoundError: naming what is missing: the path, or a folder's files.
        ValueError: naming the file, if it holds something else.
    """
    path = find_checkpoint(path)
    if path.suffix == ".ckpt":
        content = read_checkpoint(path)
        return StoredModel(path, content["state_dict"], content)
    described, file = None, path
    if path.is_dir():
        described = describe(path)
        files = [path / name for name in WEIGHTS if (path / name).is_file()]
        if not files:
            raise FileNotFoundError(f"{path}: holds neither {' nor '.join(WEIGHTS)}")
        file = files[0]
    elif path.name in WEIGHTS and (path.parent / CONFIG).is_file():
        described = describe(path.parent)
    state = read_state_dict(file)
    if any(key.startswith("model.decoder.") for key in state):
        raise ValueError(f"{file}: a checkpoint of `fit`: rename it to .ckpt, by which it is read")
    return StoredModel(file, state, None, described)


def build_model(
    stored: StoredModel, backbone: Backbone | None = None, layers: Sequence[int] | None = None
) -> LoadedModel:
    """Build what `read_model` has read; see `load_model`."""
    if stored.checkpoint is not None:
        return _build_own(stored.path, stored.checkpoint)
    return _build_published(stored, backbone, layers)


def start_from(model: CLIPSeg, path: str | Path) -> Sequence[str]:
    """Load a decoder of any known origin, and what a checkpoint of ours has of its backbone.

    A CLIP in the file is not loaded; a warning says so if it differs from the model's.

    Returns:
        The classes and words that were left out of its training (`BaseDataModule.excluded`); none
        where the file does not say.

    Raises:
        ValueError: naming the file and what does not fit: the head, the width D, the backbone's
            width, the number of layers, or keys.
    """
    file, state, checkpoint, _ = read_model(path)
    load_decoder(model.decoder, file, state)
    unexpected = model.backbone.load_state_dict(backbone_state(state), strict=False).unexpected_keys
    if unexpected:
        raise ValueError(f"{file}: the model's backbone has no {list_names(unexpected)}")
    warn_of_another_clip(file, clip_state(state), model.backbone)
    if checkpoint is None:
        return ()
    model.decoder.check_layers(checkpoint.get("layers"))
    return checkpoint.get("excluded") or ()


def _build_own(file: Path, content: Mapping[str, Any]) -> LoadedModel:
    described = content["hyper_parameters"]
    if "backbone" not in described:
        raise ValueError(
            f"{file}: does not name its backbone, as it was not made by the command line; "
            "compose the model in Python and give it to Segmenter(model)"
        )
    try:
        backbone = _described(described["backbone"], Backbone)()
        decoder = _described(described.get("decoder"), Decoder, FiLMDecoder)
        model = CLIPSeg(backbone, decoder)
        model.decoder.check_layers(content.get("layers"))
        weights = content["state_dict"].items()
        model.load_state_dict({key.removeprefix("model."): value for key, value in weights})
    except (OSError, ValueError):
        raise
    except Exception as error:  # classes take what a checkpoint says of them as it is
        raise ValueError(f"{file}: does not fit its description ({one_line(error)})") from error
    return LoadedModel(
        model.eval(), content["image_size"], content["threshold"], content.get("absent_cut")
    )


def _described(given: Any, kind: type, default: Any = None) -> Any:  # noqa: ANN401 - a class
    """The class of that kind that a checkpoint names, with the arguments it names.

    Raises:
        TypeError: for any other class; it is not called.
    """
    if given is None:
        return default
    module, _, name = given["class_path"].rpartition(".")
    found = getattr(import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise TypeError(f"{given['class_path']} is no {kind.__name__}")
    return partial(found, **given.get("init_args", {}))


def _build_published(
    stored: StoredModel, backbone: Backbone | None, layers: Sequence[int] | None
) -> LoadedModel:
    path, state, _, described = stored
    if described and layers is not None:
        raise ValueError(f"{path}: its config.json says its layers, {list(described.layers)}")
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
        raise ValueError(f"{path}: {error}{hint}") from error
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
        return LoadedModel(model, None, None, None, config)
    return LoadedModel(
        model, described.image_size, described.threshold, described.absent_cut, config
    )


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
