"""Loading models and their settings from checkpoints of `fit` and from published files."""

import shlex
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
    decoder_sizes,
    has_film_decoder,
    list_names,
    load_decoder,
    read_checkpoint,
    warn,
    warn_if_clip_differs,
    warn_of_unread,
)
from clipseg_pl.convert.from_hugging_face import Description, describe, is_imagenet_norm
from clipseg_pl.convert.key_map import backbone_state, clip_state, decoder_state
from clipseg_pl.models.backbone import Backbone
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import Decoder, FiLMDecoder
from clipseg_pl.weights.clip import PAPERS_CLIP, find_config
from clipseg_pl.weights.files import one_line, read_state_dict
from clipseg_pl.weights.hub import CONFIG, WEIGHTS
from clipseg_pl.weights.places import PUBLISHED, find_checkpoint, find_custom


class StoredModel(NamedTuple):
    """Content of a model file, before the model is built.

    `state` has the weights, named as in the file. `checkpoint` is the full content of a checkpoint
    of the `fit` command. `described` has the settings of a folder in Hugging Face's format.
    """

    path: Path
    state: Mapping[str, Tensor]
    checkpoint: Mapping[str, Any] | None = None
    described: Description | None = None


class LoadedModel(NamedTuple):
    """A model and its settings, which are None if the file does not store them.

    `image_size` is the side in pixels of the square training images. `threshold` is the best
    threshold of the probability in validation. `absent_cut` is the presence score below which a
    prompt is considered absent. `class_thresholds` maps phrases to the thresholds of their classes
    and is empty if there are none. `clip` is the open_clip configuration of the CLIP in the file,
    if the model uses it.
    """

    model: CLIPSeg
    image_size: int | None
    threshold: float | None
    absent_cut: float | None
    class_thresholds: Mapping[str, float]
    clip: Mapping[str, Any] | None = None


def load_model(
    path: str | Path, backbone: Backbone | None = None, layers: Sequence[int] | None = None
) -> LoadedModel:
    """Load a checkpoint of `fit`, a decoder of the authors or a CLIPSeg in Hugging Face's format.

    The authors' files store neither the tapped layers nor CLIP's activation function. The paper's
    layers 3, 7 and 9 are assumed, with a warning. Another warning is issued if the backbone does
    not have QuickGELU, the activation function of OpenAI's CLIP. A folder in Hugging Face's format
    stores the layers, the activation function, the sizes and the normalisation.

    Args:
        path: "toy", a `.ckpt` of `fit`, an authors' `.pth`, a model on Hugging Face's hub
            (`owner/name` or `owner/name@revision`), a folder in Hugging Face's format, or the
            `model.safetensors` or `pytorch_model.bin` in such a folder. If there is a `config.json`
            next to such a file, it is read as well.
        backbone: backbone for a published file; a `.ckpt` ignores it. By default the CLIP in the
            file, or OpenAI's ViT-B/16 if the file contains none. For a folder in Hugging Face's
            format, the backbone's normalisation is changed to that of the folder.
        layers: tapped layers, counted from 0, for a file that does not store them.

    Raises:
        FileNotFoundError: if the path, a file of the folder or CLIP's weights are missing.
        ValueError: if a file is unreadable or its parts do not fit together.
    """
    return build_model(read_model(path), backbone, layers)


def read_model(path: str | Path) -> StoredModel:
    """Read a model file or folder without building the model; see `load_model`.

    Raises:
        FileNotFoundError: if the path or a file of the folder is missing.
        ValueError: if a file is not a model file.
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
            raise FileNotFoundError(f"{path}: contains neither {' nor '.join(WEIGHTS)}")
        file = files[0]
    elif path.name in WEIGHTS and (path.parent / CONFIG).is_file():
        described = describe(path.parent)
    state = read_state_dict(file)
    if any(key.startswith("model.decoder.") for key in state):
        raise ValueError(f"{file}: this is a checkpoint of `fit`. Rename it to .ckpt")
    return StoredModel(file, state, None, described)


def build_model(
    stored: StoredModel, backbone: Backbone | None = None, layers: Sequence[int] | None = None
) -> LoadedModel:
    """Build the model from the result of `read_model`; see `load_model`."""
    if stored.checkpoint is not None:
        return _build_own(stored.path, stored.checkpoint)
    return _build_published(stored, backbone, layers)


def start_from(model: CLIPSeg, path: str | Path) -> Mapping[str, Any]:
    """Initialise the decoder of a model from a file of any supported source.

    Weights of the backbone are loaded if a checkpoint of this project stores them. A CLIP in the
    file is not loaded; a warning is issued if it differs from the model's CLIP.

    Args:
        model: model to fill in place.
        path: see `load_model`.

    Returns:
        The content of the file if it is a checkpoint of `fit`, else an empty mapping.

    Raises:
        ValueError: if the weights do not fit the model, or the decoder was trained on an older toy
            CLIP. The message names the mismatch: head, width D, width of the backbone, number of
            layers, keys or CLIP.
    """
    stored = read_model(path)
    file, state, checkpoint, described = stored
    if checkpoint:
        _check_toy_version(checkpoint["hyper_parameters"].get("backbone") or {})
    try:
        load_decoder(model.decoder, file, state)
        if described:
            _check_described(model, described, file)
        elif checkpoint:
            model.decoder.check_layers(checkpoint.get("layers"))
    except ValueError as error:
        raise ValueError(f"{error}{_settings_to_change(model.decoder, stored, path)}") from error
    unexpected = model.backbone.load_state_dict(backbone_state(state), strict=False).unexpected_keys
    if unexpected:
        blocks = (checkpoint or {}).get("hyper_parameters", {}).get("unfreeze_blocks")
        hint = f". Set --model.unfreeze_blocks={blocks}" if blocks else ""
        names = list_names(unexpected)
        raise ValueError(f"{file}: the model's backbone has no weights {names}{hint}")
    warn_if_clip_differs(file, clip_state(state), model.backbone)
    return checkpoint or {}


def _check_toy_version(backbone: Mapping[str, Any]) -> None:
    """Reject decoders trained on an older toy CLIP or ViT.

    Tensor shapes alone may not reveal it.
    """
    names = backbone.get("init_args", {})
    vit = str(backbone.get("class_path")).endswith("ViTBackbone")
    if names.get("name"):
        find_custom(str(names["name"]), "ViT" if vit else "CLIP")
    if names.get("clip"):
        find_custom(str(names["clip"]))


def _check_described(model: CLIPSeg, described: Description, path: Path) -> None:
    """Check settings of a folder in Hugging Face's format that do not follow from its weights."""
    decoder = model.decoder
    if isinstance(decoder, FiLMDecoder) and decoder.settings["heads"] != described.heads:
        raise ValueError(
            f"{path}: the decoder in the file has {described.heads} attention heads, the model's "
            f"decoder has {decoder.settings['heads']}"
        )
    model.decoder.check_layers(described.layers)
    own = model.backbone.mean.flatten(), model.backbone.std.flatten()
    if not torch.allclose(
        torch.stack(own), torch.tensor([described.mean, described.std]), atol=1e-4
    ):
        warn(
            f"{path}: the decoder in the file was trained on images normalised with mean "
            f"{list(described.mean)} and std {list(described.std)}, not with those of the backbone"
        )


def _settings_to_change(decoder: Decoder, stored: StoredModel, name: str | Path) -> str:
    """Return a sentence that lists the settings in which a decoder differs from that of a file."""
    weights = decoder_state(stored.state)
    if not isinstance(decoder, FiLMDecoder) or not has_film_decoder(weights):
        return ""
    settings = decoder_sizes(weights)
    if stored.described:
        settings |= {"layers": list(stored.described.layers), "heads": stored.described.heads}
    elif stored.checkpoint and stored.checkpoint.get("layers"):
        settings["layers"] = list(stored.checkpoint["layers"])
    changes = " ".join(
        shlex.quote(f"--model.decoder.init_args.{key}={value}".replace(" ", ""))
        for key, value in settings.items()
        if value != decoder.settings[key]
    )
    published = str(name).partition("@")[0] == PUBLISHED
    overlay = ", or add --config experiments/models/rd64_refined.yaml" if published else ""
    return f". Set {changes}{overlay}" if changes else ""


def _build_own(file: Path, content: Mapping[str, Any]) -> LoadedModel:
    settings = content["hyper_parameters"]
    if "backbone" not in settings:
        raise ValueError(
            f"{file}: does not name its backbone, because it was not written by the command line. "
            "Build the model in Python and pass it to Segmenter(model)"
        )
    try:
        backbone = _class_with_arguments(settings["backbone"], Backbone)()
        decoder = partial(_class_with_arguments(settings.get("decoder"), Decoder, FiLMDecoder))
        weights = decoder_state(content["state_dict"])
        if (
            decoder.func is FiLMDecoder
            and decoder.keywords.get("feedforward") is None
            and has_film_decoder(weights)
        ):
            decoder = partial(decoder, feedforward=decoder_sizes(weights)["feedforward"])
        # older checkpoints lack the key
        model = CLIPSeg(backbone, decoder, settings.get("unfreeze_blocks", 0))
        model.decoder.check_layers(content.get("layers"))
        state = content["state_dict"].items()
        model.load_state_dict({key.removeprefix("model."): value for key, value in state})
        model.backbone.freeze()
    except (OSError, ValueError):
        raise
    except Exception as error:  # a class with wrong arguments can raise any error
        raise ValueError(f"{file}: weights and settings do not fit ({one_line(error)})") from error
    return LoadedModel(
        model.eval(),
        content["image_size"],
        content["threshold"],
        content.get("absent_cut"),
        content.get("class_thresholds", {}),
    )


def _class_with_arguments(
    settings: Any,  # noqa: ANN401 - class_path and init_args
    kind: type,
    default: Any = None,  # noqa: ANN401 - a class
) -> Any:  # noqa: ANN401 - a class
    """Return the class named in a checkpoint, with its arguments bound.

    Raises:
        TypeError: if the class is not a subclass of `kind`. For security, it is not called.
    """
    if settings is None:
        return default
    module, _, name = settings["class_path"].rpartition(".")
    imported = getattr(import_module(module), name)
    if not (isinstance(imported, type) and issubclass(imported, kind)):
        raise TypeError(f"{settings['class_path']} is not a {kind.__name__}")
    return partial(imported, **settings.get("init_args", {}))


def _build_published(
    stored: StoredModel, backbone: Backbone | None, layers: Sequence[int] | None
) -> LoadedModel:
    path, state, _, described = stored
    if described and layers is not None:
        raise ValueError(
            f"{path}: the layers cannot be set, because config.json sets {list(described.layers)}"
        )
    clip, config = clip_state(state), None
    try:
        if backbone is None and clip:
            config = described.clip if described else find_config(PAPERS_CLIP)
            backbone = CLIPBackbone.from_state_dict(config, clip)
        elif backbone is None:
            backbone = CLIPBackbone(PAPERS_CLIP)
        taps = described.layers if described else layers
        heads = described.heads if described else PUBLISHED_HEADS
        build = partial(build_decoder, state, layers=taps, heads=heads)
        model = CLIPSeg(backbone, build).eval()
    except ValueError as error:
        hint = f". Put its {CONFIG} into the same folder" if clip and not described else ""
        raise ValueError(f"{path}: {error}{hint}") from error
    warn_of_unread(path, state)
    if described:
        _set_normalisation(described, backbone, path)
    elif layers is None:
        assumed = ", ".join(map(str, sorted(model.decoder.layers)))
        warn(
            f"{path}: the file does not store the tapped layers. Layers {assumed} are assumed, "
            "as in the paper (3, 7, 9 of 12). The authors' Quickstart and Hugging Face's defaults "
            "have 3, 6, 9"
        )
    if config is None and isinstance(backbone, CLIPBackbone):
        _warn_of_other_training(described, clip, backbone, path)
    if not described:
        return LoadedModel(model, None, None, None, {}, config)
    return LoadedModel(
        model,
        described.image_size,
        described.threshold,
        described.absent_cut,
        described.class_thresholds,
        config,
    )


def _set_normalisation(described: Description, backbone: Backbone, path: Path) -> None:
    """Set the mean and standard deviation of a folder's preprocessor on the backbone."""
    for buffer, values in ((backbone.mean, described.mean), (backbone.std, described.std)):
        buffer.copy_(torch.tensor(values).view(3, 1, 1))
    if not is_imagenet_norm(described.mean, described.std):
        warn(
            f"{path}: images are normalised with the preprocessor's mean {list(described.mean)} "
            f"and std {list(described.std)}, not with ImageNet's, which CLIPSeg was trained with"
        )


def _warn_of_other_training(
    described: Description | None, clip: Mapping[str, Tensor], backbone: CLIPBackbone, path: Path
) -> None:
    """Warn if the decoder was trained on a CLIP that differs from the backbone."""
    quick = described.clip["quick_gelu"] if described else True
    if backbone.quick_gelu != quick:
        subject = "its decoder was" if described else "published decoders were"
        kinds = {True: "QuickGELU", False: "the exact GELU"}
        warn(
            f"{path}: {subject} trained on a CLIP with {kinds[quick]}, but the backbone has "
            f"{kinds[backbone.quick_gelu]}"
        )
    warn_if_clip_differs(path, clip, backbone)
