"""What runs came to, stored in a file for each training, and what decides a result.

A digest is equal wherever and at whatever commit a result is measured.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from clipseg_pl.atomic import write_json
from clipseg_pl.runs.tables.plan import Evaluation, Row, Seed
from clipseg_pl.weights.files import content_hash
from clipseg_pl.weights.places import find_file

State = Literal["valid", "stale", "missing"]
_DIGITS = 5
_KEPT = ("dataset_sizes", "dataset_skipped", "seconds", "commit", "dirty", "versions", "device")


class Evidence:
    """The results of one world.

    Args:
        folder: of the JSON files.
        digest_of: what identifies the result of an evaluation today (`digest`); asked once each.
    """

    def __init__(self, folder: Path, digest_of: Callable[[Evaluation], str]) -> None:
        """Nothing is read yet."""
        self.folder, self._digest_of = folder, digest_of
        self._digests: dict[Evaluation, str] = {}

    def file(self, training: str) -> Path:
        """Where the results of a training lie."""
        return self.folder / f"{training}.json"

    def state(self, evaluation: Evaluation) -> State:
        """Whether there is a result, and whether it is of what would be run today."""
        found = self._read(evaluation.training.name).get(evaluation.name)
        if found is None:
            return "missing"
        return "valid" if found["digest"] == self.digest(evaluation) else "stale"

    def digest(self, evaluation: Evaluation) -> str:
        """What identifies its result today."""
        if evaluation not in self._digests:
            self._digests[evaluation] = self._digest_of(evaluation)
        return self._digests[evaluation]

    def result(self, evaluation: Evaluation) -> dict[str, Any]:
        """Metrics and report of an evaluation that has a result."""
        found: dict[str, Any] = self._read(evaluation.training.name)[evaluation.name]
        return found

    def figures(self, row: Row) -> dict[str, list[float]] | State:
        """Column title -> a figure in percent for each seed, means over folds.

        Where a result is missing or stale, that word instead.
        """
        runs = [run for seed in row.seeds for fold in seed for run in fold]
        states = {self.state(run) for run in runs}
        if states != {"valid"}:
            return "missing" if "missing" in states else "stale"
        try:
            return {
                title: [self._mean(seed, metric) for seed in row.seeds]
                for title, metric in row.columns.items()
            }
        except KeyError:  # a result from before its metric was measured
            return "stale"

    def add(
        self,
        evaluation: Evaluation,
        content: Mapping[str, Any],
        training_seconds: float | None = None,
    ) -> None:
        """Keep a result.

        Args:
            evaluation: what was run.
            content: of its results file.
            training_seconds: that its training took, if it is known.
        """
        kept = {**self._read(evaluation.training.name)}
        kept[evaluation.name] = {
            "digest": self.digest(evaluation),
            "metrics": {
                key.removeprefix("val/"): _rounded(value)
                for key, value in content["metrics"].items()
            },
            "report": _rounded(content.get("report", {})),
            "training_seconds": training_seconds,
            **{key: content[key] for key in _KEPT},
        }
        write_json(self.file(evaluation.training.name), kept)
        _content.cache_clear()  # the clock of files may be too coarse to tell

    def _mean(self, folds: Seed, metric: str) -> float:
        """Of the folds, in percent; raises KeyError if one has no such metric."""
        found = []
        for fold in folds:
            metrics: dict[str, float] = {}
            for evaluation in fold:
                metrics |= self.result(evaluation)["metrics"]
            found.append(metrics[metric])
        scale = 1 if metric.startswith("alignment/") else 100  # those are percentage points
        return scale * sum(found) / len(found)

    def _read(self, training: str) -> dict[str, Any]:
        file = self.file(training)
        return _content(file, file.stat().st_mtime_ns) if file.exists() else {}


@cache
def _content(file: Path, changed: int) -> dict[str, Any]:
    """Of a file that many rows and plots ask for, read once as long as it stays as it is."""
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def _rounded(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, _DIGITS) if isinstance(value, float) else value


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
                    yield _hash_of(file, file.stat().st_mtime_ns)
    if model.get("init_decoder"):
        file = Path(model["init_decoder"]).expanduser()
        yield _hash_of(file, file.stat().st_mtime_ns)


@cache
def _hash_of(file: Path, changed: int) -> str:
    return content_hash(file)


def _digest(parts: list[Any], *more: str) -> str:
    return hashlib.sha256(json.dumps([parts, more], sort_keys=True).encode()).hexdigest()[:16]
