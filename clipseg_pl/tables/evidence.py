"""What runs came to, kept as files: one for each training, with all its evaluations."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from clipseg_pl.tables.plan import Evaluation, Row, Seed
from clipseg_pl.whole_file import write_json

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
