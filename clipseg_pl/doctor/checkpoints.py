"""What a checkpoint is, and whether it can be used."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from clipseg_pl.convert.key_map import clip_state, decoder_state
from clipseg_pl.convert.loading import StoredModel, build_model, read_model
from clipseg_pl.doctor.findings import Finding, explain
from clipseg_pl.doctor.weights import backbone_found
from clipseg_pl.weights.clip import PAPERS_CLIP, PAPERS_TAG

_FILM = "film_scale.weight"
"""that every decoder has"""
_NO_DECODER = "holds no CLIPSeg decoder"


def check_checkpoint(file: Path) -> Iterator[Finding]:
    """Say what a file is, find its backbone and load it as `segment` does.

    Args:
        file: a checkpoint of `fit`, a published decoder, a Hugging Face CLIPSeg or its folder; or
            "toy", the decoder of the package.
    """
    try:
        stored = read_model(file)
        found = list(_published(stored) if stored.checkpoint is None else _ours(stored))
    except FileNotFoundError as error:
        yield Finding("missing", "file", str(error))
        return
    except Exception as error:  # what a damaged file holds can be anything
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
        taps = f"taps {_listed(model.decoder.layers)} of its {model.backbone.shape.depth} blocks"
        yield Finding("ok", "loading", f"fits its backbone, {taps}")


def _ours(stored: StoredModel) -> Iterator[Finding]:
    """A checkpoint of `fit`.

    Raises:
        ValueError: if it is none.
    """
    assert stored.checkpoint is not None
    content, state = stored.checkpoint, decoder_state(stored.state)
    given = content["hyper_parameters"]
    if _FILM not in state:
        raise ValueError(f"{stored.path}: {_NO_DECODER}")
    decoder = given.get("decoder", {})
    options = decoder.get("init_args", {})
    kind = decoder.get("class_path", "FiLMDecoder").rpartition(".")[2]
    given_layers = [options["layer"]] if options.get("layer") else options.get("layers")
    layers = content.get("layers") or given_layers  # checkpoints before the key name them
    step = f"step {content.get('global_step', 0):,} of `fit`"
    says = f"{kind} at {step}: {_sizes(state)}, {_taps(layers)}"
    yield Finding("ok", "decoder", says)
    threshold, size = content["threshold"], content["image_size"]
    kept = "no threshold kept" if threshold is None else f"threshold {threshold:g} kept"
    if content.get("absent_cut") is not None:
        kept += f", absent cut {content['absent_cut']:g}"
    excluded = ", ".join(content.get("excluded", ()))
    without = f"trained without {excluded}" if excluded else "no class or word left out of training"
    yield Finding("ok", "settings", f"{kept}; {size or 'no'} px; {without}")
    if "backbone" in given:
        yield from backbone_found(given["backbone"])
    else:
        yield Finding("wrong", "backbone", "not named, as it was not made by the command line")


def _published(stored: StoredModel) -> Iterator[Finding]:
    """A file of weights alone, or Hugging Face's folder."""
    state, described = stored.state, stored.described
    decoder, clip = decoder_state(state), clip_state(state)
    if _FILM not in decoder:
        yield Finding("wrong", "file", _no_decoder(state))
        return
    taps = _taps(described.layers if described else None)
    yield Finding("ok", "decoder", f"{_origin(state)}: {_sizes(decoder)}, {taps}")
    if clip:
        yield Finding("ok", "backbone", "the CLIP in the file")
    else:
        yield from backbone_found({"class_path": "CLIPBackbone"})


def _origin(state: Mapping[str, Tensor]) -> str:
    """Whose names the weights of a decoder have."""
    if any(key.startswith("decoder.") for key in state):
        return "Hugging Face's CLIPSeg"
    return "authors' file" if any("film_mul." in key for key in state) else "bare decoder"


def _sizes(state: Mapping[str, Tensor]) -> str:
    """Width and head of a decoder with our names."""
    head = "refined" if "head.0.weight" in state else "simple"
    return f"D = {len(state[_FILM])}, {head} head"


def _taps(layers: Sequence[int] | None) -> str:
    """The blocks that a file names, or what is taken where it does not (`default_layers`)."""
    if layers:
        return f"layers {_listed(layers)}"
    return "layers not said: 3, 7, 9 of 12 are taken, by depth"


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(layers)))


def _no_decoder(state: Mapping[str, Tensor]) -> str:
    """What weights without a decoder are."""
    if "visual.conv1.weight" in state:
        return (
            "weights of a CLIP, no decoder: they belong into the folder that CLIPSEG_WEIGHTS "
            f"names, as <name>-<tag>, such as {PAPERS_CLIP}-{PAPERS_TAG}.safetensors"
        )
    return _NO_DECODER
