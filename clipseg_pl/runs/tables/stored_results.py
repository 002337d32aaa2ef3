"""Stored results, one JSON file per training, and the digests that identify them.

A digest is a hash of the settings that affect a result. It does not depend on the machine or the
commit of the run.
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
from clipseg_pl.weights.places import find_checkpoint, find_file

State = Literal["valid", "stale", "missing"]
Gap = Literal["missing", "stale", "incomplete"]
_DIGITS = 5
_STORED_KEYS = (
    "dataset_sizes",
    "dataset_skipped",
    "seconds",
    "commit",
    "dirty",
    "versions",
    "device",
)


class StoredResults:
    """The stored results of one world.

    Args:
        folder: folder of the JSON files.
        digest_of: function that returns the current digest of an evaluation; called once per
            evaluation.
    """

    def __init__(self, folder: Path, digest_of: Callable[[Evaluation], str]) -> None:
        """Store the folder; files are read on demand."""
        self.folder, self._digest_of = folder, digest_of
        self._digests: dict[Evaluation, str] = {}

    def file(self, training: str) -> Path:
        """Return the path of the results of a training."""
        return self.folder / f"{training}.json"

    def state(self, evaluation: Evaluation) -> State:
        """Return whether the result is missing, stale (its digest has changed) or valid."""
        stored = self._read(evaluation.training.name).get(evaluation.name)
        if stored is None:
            return "missing"
        return "valid" if stored["digest"] == self.digest(evaluation) else "stale"

    def digest(self, evaluation: Evaluation) -> str:
        """Return the current digest of an evaluation."""
        if evaluation not in self._digests:
            self._digests[evaluation] = self._digest_of(evaluation)
        return self._digests[evaluation]

    def result(self, evaluation: Evaluation) -> dict[str, Any]:
        """Return the stored result of an evaluation that has one."""
        stored: dict[str, Any] = self._read(evaluation.training.name)[evaluation.name]
        return stored

    def figures(self, row: Row) -> dict[str, list[float]] | Gap:
        """Return the figures of a row.

        Returns:
            A list for each column title, with one number per seed: the mean over the folds, in
            percent. Seeds without all results are left out. If there are only such seeds,
            "stale" if a result of the row is stale, otherwise "missing". "incomplete" if a
            metric is missing in the results, for example because it was added after the runs.
        """
        states = [{self.state(run) for fold in seed for run in fold} for seed in row.seeds]
        finished = [
            seed for seed, of_seed in zip(row.seeds, states, strict=True) if of_seed == {"valid"}
        ]
        if not finished:
            return "stale" if any("stale" in of_seed for of_seed in states) else "missing"
        try:
            return {
                title: [self._mean(seed, metric) for seed in finished]
                for title, metric in row.columns.items()
            }
        except KeyError:
            return "incomplete"

    def add(
        self,
        evaluation: Evaluation,
        content: Mapping[str, Any],
        training_seconds: float | None = None,
    ) -> None:
        """Store a result.

        Args:
            evaluation: the evaluation.
            content: content of its results file.
            training_seconds: duration of its training, if known.
        """
        stored = {**self._read(evaluation.training.name)}
        stored[evaluation.name] = {
            "digest": self.digest(evaluation),
            "metrics": {
                key.removeprefix("val/"): _rounded(value)
                for key, value in content["metrics"].items()
            },
            "report": _rounded(content.get("report", {})),
            "training_seconds": training_seconds,
            **{key: content[key] for key in _STORED_KEYS},
        }
        write_json(self.file(evaluation.training.name), stored)
        _content.cache_clear()  # modification times may be too coarse to notice the change

    def _mean(self, folds: Seed, metric: str) -> float:
        """Return the mean over folds in percent; raise KeyError if a fold lacks the metric."""
        values = []
        for fold in folds:
            metrics: dict[str, float] = {}
            for evaluation in fold:
                metrics |= self.result(evaluation)["metrics"]
            values.append(metrics[metric])
        # the metrics of alignment are in percentage points already
        scale = 1 if metric.startswith("alignment/") else 100
        return scale * sum(values) / len(values)

    def _read(self, training: str) -> dict[str, Any]:
        file = self.file(training)
        return _content(file, file.stat().st_mtime_ns) if file.exists() else {}


@cache
def _content(file: Path, changed: int) -> dict[str, Any]:
    """Read a results file. It is cached, because many rows and plots use the same file."""
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def _rounded(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, _DIGITS) if isinstance(value, float) else value


_IGNORED_KEYS = {"root", "num_workers", "text_cache", "allow_seen"}
_CALLBACKS = ("WeightEMA", "EarlyStopping")  # those that change the weights
_TRAINER = (
    "max_steps",
    "max_epochs",
    "precision",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "devices",
)


def training_digest(config: Mapping[str, Any], world: str) -> str:
    """Return the digest of a training, 16 hexadecimal digits.

    The digest covers model, optimizer, data, seed, steps, average of the weights, early stopping
    and world. Published weights are identified by their name, custom weights (with a `<name>.json`
    next to them) by their content.

    Args:
        config: resolved config of `fit`.
        world: version of the data.
    """
    excluded = ("protocol", "compile", "init_decoder")
    model = {key: value for key, value in config["model"].items() if key not in excluded}
    trainer = {key: config["trainer"].get(key) for key in _TRAINER}
    trainer["callbacks"] = [
        callback
        for callback in config["trainer"].get("callbacks") or ()
        if callback["class_path"].rpartition(".")[2] in _CALLBACKS
    ]
    return _digest(
        [_relevant(model), _relevant(config["data"]), trainer, config["seed_everything"], world],
        *_custom_weights(config["model"]),
    )


def evaluation_digest(training: str, config: Mapping[str, Any]) -> str:
    """Return the digest of an evaluation, 16 hexadecimal digits.

    Args:
        training: digest of the training whose checkpoint is evaluated. It covers the
            backbone and the decoder, which are therefore not read from `config`.
        config: resolved config of `validate`.
    """
    data = _relevant(config["data"])
    data["init_args"].pop("batch_size", None)
    limit = config["trainer"].get("limit_val_batches")
    return _digest([training, _relevant(config["model"]["protocol"]), data, limit])


def backbone_digest(config: Mapping[str, Any], world: str) -> str:
    """Return the digest of an experiment on the backbone alone, 16 hexadecimal digits."""
    backbone = _relevant(config["model"]["backbone"])
    return _digest([backbone, world], *_custom_weights(config["model"]))


def _relevant(value: Any) -> Any:  # noqa: ANN401 - a config
    """Drop unset keys and keys that do not affect a result."""
    if isinstance(value, dict):
        used = {k: v for k, v in value.items() if k not in _IGNORED_KEYS and v is not None}
        return {key: _relevant(inner) for key, inner in used.items()}
    return value


def _custom_weights(model: Mapping[str, Any]) -> Iterator[str]:
    """Yield the hashes of the files of a custom CLIP or ViT and of the initial decoder."""
    name = model["backbone"]["init_args"]["name"]
    vit = [f"{name}_vit"] if model["backbone"]["class_path"].endswith("ViTBackbone") else []
    for stem in (name, *vit):
        if find_file(stem, (".json",)):
            for suffix in (".json", ".safetensors", ".pt", "_vocabulary.json"):
                if file := find_file(stem, (suffix,)):
                    yield _hash_of(file, file.stat().st_mtime_ns)
    if model.get("init_decoder"):
        file = find_checkpoint(model["init_decoder"])
        yield _hash_of(file, file.stat().st_mtime_ns)


@cache
def _hash_of(file: Path, changed: int) -> str:
    return content_hash(file)


def _digest(parts: list[Any], *more: str) -> str:
    return hashlib.sha256(json.dumps([parts, more], sort_keys=True).encode()).hexdigest()[:16]
