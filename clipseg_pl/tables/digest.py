"""What decides a result, as a few digits: equal wherever and at whatever commit it is measured."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from clipseg_pl.models.weights import content_hash, find_file

_INDIFFERENT = {"root", "num_workers", "text_cache", "allow_seen"}
_TRAINER = ("max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val", "devices")


def training_digest(config: Mapping[str, Any], world: str) -> str:
    """Identify what a training comes to.

    Args:
        config: resolved, of `fit`.
        world: version of the data.

    Returns:
        16 hexadecimal digits over model, optimizer, data, seed, steps and world. Published weights
        count by their name, weights of one's own (a `<name>.json` beside them) by their content.
    """
    apart = ("protocol", "compile", "init_decoder")
    model = {key: value for key, value in config["model"].items() if key not in apart}
    trainer = {key: config["trainer"].get(key) for key in _TRAINER}
    return _digest(
        [_given(model), _given(config["data"]), trainer, config["seed_everything"], world],
        *_own_weights(config["model"]),
    )


def evaluation_digest(training: str, config: Mapping[str, Any]) -> str:
    """Identify what an evaluation comes to.

    Args:
        training: digest of the training whose checkpoint is read; the model is the checkpoint's.
        config: resolved, of `validate`.
    """
    data = _given(config["data"])
    data["init_args"].pop("batch_size", None)
    limit = config["trainer"].get("limit_val_batches")
    return _digest([training, _given(config["model"]["protocol"]), data, limit])


def backbone_digest(config: Mapping[str, Any], world: str) -> str:
    """Identify what an experiment on the backbone alone comes to."""
    return _digest([_given(config["model"]["backbone"]), world], *_own_weights(config["model"]))


def _given(value: Any) -> Any:  # noqa: ANN401 - a config
    """A config without what is not set and what does not matter."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in _INDIFFERENT and v is not None}
        return {key: _given(inner) for key, inner in kept.items()}
    return value


def _own_weights(model: Mapping[str, Any]) -> Iterator[str]:
    """Digests of the files of a CLIP or ViT that is not a published one."""
    name = model["backbone"]["init_args"]["name"]
    vit = [f"{name}_vit"] if model["backbone"]["class_path"].endswith("ViTBackbone") else []
    for stem in (name, *vit):
        if find_file(stem, (".json",)):
            for suffix in (".json", ".safetensors", ".pt", "_vocabulary.json"):
                if file := find_file(stem, (suffix,)):
                    yield _content(file, file.stat().st_mtime_ns)
    if model.get("init_decoder"):
        file = Path(model["init_decoder"]).expanduser()
        yield _content(file, file.stat().st_mtime_ns)


@cache
def _content(file: Path, changed: int) -> str:
    return content_hash(file)


def _digest(parts: list[Any], *more: str) -> str:
    return hashlib.sha256(json.dumps([parts, more], sort_keys=True).encode()).hexdigest()[:16]
