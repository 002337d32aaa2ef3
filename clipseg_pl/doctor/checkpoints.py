"""Describe checkpoint files and check that they can be loaded."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from clipseg_pl.convert.key_map import clip_state, decoder_state
from clipseg_pl.convert.loading import StoredModel, build_model, read_model
from clipseg_pl.doctor.findings import Finding, explain
from clipseg_pl.doctor.weights import check_backbone
from clipseg_pl.weights.clip import PAPERS_CLIP, PAPERS_TAG
from clipseg_pl.weights.hub import find_cached
from clipseg_pl.weights.places import find_local

_FILM = "film_scale.weight"
"""key in the state dict of every decoder"""
_NO_DECODER = "contains no CLIPSeg decoder"


def check_checkpoint(file: str | Path) -> Iterator[Finding]:
    """Describe a checkpoint, find the weights of its backbone, and load it as `segment` does.

    Nothing is downloaded.

    Args:
        file: name, file or folder, see `load_model`.
    """
    try:
        folder = find_local(file) or find_cached(str(file))
        if folder is None:
            message = "not on this machine: it is downloaded from Hugging Face's hub on first use"
            yield Finding("missing", "file", message)
            return
        stored = read_model(folder)
        found = list(
            _describe_weights(stored) if stored.checkpoint is None else _describe_fit(stored)
        )
    except FileNotFoundError as error:
        yield Finding("missing", "file", str(error))
        return
    except Exception as error:  # damaged files raise errors of many types
        yield Finding("wrong", "file", explain(error))
        return
    yield from found
    if any(finding.state in ("missing", "wrong") for finding in found):
        return
    try:
        model = build_model(stored).model
    except Exception as error:
        yield Finding("wrong", "loading", explain(error))
    else:
        taps = f"{_format_layers(model.decoder.layers)} of {model.backbone.shape.depth}"
        yield Finding("ok", "loading", f"loads with its backbone; tapped layers: {taps}")


def _describe_fit(stored: StoredModel) -> Iterator[Finding]:
    """Describe a checkpoint of `fit`.

    Raises:
        ValueError: if it contains no decoder.
    """
    assert stored.checkpoint is not None
    content, state = stored.checkpoint, decoder_state(stored.state)
    parameters = content["hyper_parameters"]
    if _FILM not in state:
        raise ValueError(f"{stored.path}: {_NO_DECODER}")
    decoder = parameters.get("decoder", {})
    options = decoder.get("init_args", {})
    kind = decoder.get("class_path", "FiLMDecoder").rpartition(".")[2]
    option_layers = [options["layer"]] if options.get("layer") else options.get("layers")
    layers = content.get("layers") or option_layers  # older checkpoints lack the key
    step = f"step {content.get('global_step', 0):,} of `fit`"
    yield Finding("ok", "decoder", f"{kind}, {step}: {_sizes(state)}, {_layers(layers)}")
    threshold, size = content["threshold"], content["image_size"]
    settings = ["no stored threshold" if threshold is None else f"stored threshold {threshold:g}"]
    if content.get("absent_cut") is not None:
        settings.append(f"absent cut {content['absent_cut']:g}")
    if phrases := content.get("class_thresholds"):
        settings.append(f"thresholds of classes for {len(phrases)} phrases")
    settings.append(f"image size {size} px" if size else "no stored image size")
    excluded = ", ".join(content.get("excluded", ()))
    settings.append(f"trained without: {excluded}" if excluded else "no held-out classes or words")
    yield Finding("ok", "settings", "; ".join(settings))
    if "backbone" in parameters:
        yield from check_backbone(parameters["backbone"])
    else:
        problem = "not stored in the checkpoint, which was not written by `clipseg_pl fit`"
        yield Finding("wrong", "backbone", problem)


def _describe_weights(stored: StoredModel) -> Iterator[Finding]:
    """Describe a file with weights only, or a Hugging Face folder."""
    state, described = stored.state, stored.described
    decoder, clip = decoder_state(state), clip_state(state)
    if _FILM not in decoder:
        yield Finding("wrong", "file", _explain_no_decoder(state))
        return
    layers = _layers(described.layers if described else None)
    yield Finding("ok", "decoder", f"{_origin(state)}: {_sizes(decoder)}, {layers}")
    if clip:
        yield Finding("ok", "backbone", "CLIP weights included in the file")
    else:
        yield from check_backbone({"class_path": "CLIPBackbone"})


def _origin(state: Mapping[str, Tensor]) -> str:
    """Return the origin of decoder weights, by the names of their tensors."""
    if any(key.startswith("decoder.") for key in state):
        return "Hugging Face CLIPSeg"
    return "authors' decoder" if any("film_mul." in key for key in state) else "bare decoder"


def _sizes(state: Mapping[str, Tensor]) -> str:
    """Return width and head of a decoder, from its state dict."""
    head = "refined" if "head.0.weight" in state else "simple"
    return f"D = {len(state[_FILM])}, {head} head"


def _layers(layers: Sequence[int] | None) -> str:
    """Describe the stored layers or, if none are stored, the assumed ones (`default_layers`)."""
    if layers:
        return f"layers {_format_layers(layers)}"
    return "layers not stored (assumed: 3, 7, 9 of 12 blocks, scaled to the backbone's depth)"


def _format_layers(layers: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(layers)))


def _explain_no_decoder(state: Mapping[str, Tensor]) -> str:
    """Explain what a file without a decoder contains."""
    if "visual.conv1.weight" in state:
        return (
            "contains CLIP weights but no decoder. To use them, save them in the folder set by "
            "CLIPSEG_WEIGHTS as <name>-<tag>.<extension>, for example "
            f"{PAPERS_CLIP}-{PAPERS_TAG}.safetensors"
        )
    return _NO_DECODER
