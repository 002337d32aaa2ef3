"""The results files of a run: which of them are compared, and access to their numbers."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from clipseg_pl.runs.run import CHECKPOINTS

_PROTOCOL = "OwnDataProtocol"
# data settings that do not affect an evaluation
_OF_TRAINING = ("num_workers", "batch_size", "phrases_per_image")
_OF_TRAINING_PROMPTS = ("negative_prob", "prefixes", "lone_phrases")
_OF_TABLE = ("augmentation",)
_OF_BLENDS = ("text_weight_min", "text_weight_max")  # and of training


@dataclass(frozen=True)
class Results:
    """Content of a results file.

    Args:
        command: "fit", "validate" or "test".
        content: the JSON object.
    """

    command: str
    content: Mapping[str, Any]

    @property
    def split(self) -> str:
        """Prefix of the metrics: "test" or "val"."""
        return "test" if self.command == "test" else "val"

    @property
    def photos(self) -> str:
        """Name of the evaluated photos in texts."""
        tested = self.command == "test" and not self.lacks_test_photos
        return "test photos" if tested else "validation photos"

    @property
    def lacks_test_photos(self) -> bool:
        """Whether `test` evaluated the validation photos."""
        return "same photos as" in self.content.get("data", {}).get("test", {})

    @property
    def finished(self) -> str:
        """Time at which the command finished, which sorts as text; empty in older results."""
        return str(self.content.get("finished", ""))

    @property
    def protocol(self) -> str:
        """Name of the protocol's class."""
        path: str = self.content["config"]["model"]["protocol"]["class_path"]
        return path.rpartition(".")[2]

    @property
    def initial_weights(self) -> str | None:
        """Initial weights of the decoder; None if they were random."""
        weights: str | None = self.content["config"]["model"].get("init_decoder")
        return weights

    @property
    def prompt_type(self) -> str:
        """The first prompt type of the protocol."""
        protocol = self.content["config"]["model"]["protocol"]["init_args"]
        return str(protocol["prompt_types"][0])

    def metric(self, name: str) -> float | None:
        """Return a metric of the first prompt type; None if the file does not contain it."""
        value: float | None = self.content["metrics"].get(f"{self.split}/{self.prompt_type}/{name}")
        return value

    def table(self, title: str) -> Mapping[str, float]:
        """Return a table of the report about the first prompt type; empty if there is none."""
        table: Mapping[str, float] = self.content["report"].get(f"{self.prompt_type}: {title}", {})
        return table

    @property
    def threshold_in_use(self) -> float | None:
        """Threshold of the pictures: the stored one or the paper's; None in older results."""
        threshold: float | None = self.content.get("threshold")
        return threshold

    @property
    def stored_threshold(self) -> float | None:
        """Threshold stored in the checkpoint; None if it stores none."""
        return None if self.metric("miou@stored") is None else self.threshold_in_use


class Change(NamedTuple):
    """A number before and after training; None where it is unknown."""

    before: float | None
    after: float | None


@dataclass(frozen=True)
class Comparison:
    """Evaluations of the initial weights and of the trained weights on the same data.

    Args:
        before: evaluation of the initial weights; None if there is none.
        after: evaluation of the trained weights.
    """

    before: Results | None
    after: Results

    def metric(self, name: str, at: str) -> Change:
        """Return a metric at a threshold.

        Args:
            name: name of the metric without its threshold.
            at: "0.5", "best" (of each evaluation), "class", or "stored": the threshold stored in
                the trained checkpoint, also for the initial weights, which have none.
        """
        before, threshold = None, self.after.stored_threshold
        if self.before and at != "stored":
            before = self.before.metric(f"{name}@{at}")
        elif self.before and threshold is not None:
            before = self.before.table(f"{name} by threshold").get(f"{threshold:.2f}")
        return Change(before, self.after.metric(f"{name}@{at}"))

    def entry(self, title: str, name: str) -> Change:
        """Return an entry of a table of the report."""
        before = self.before.table(title).get(name) if self.before else None
        return Change(before, self.after.table(title).get(name))


@dataclass(frozen=True)
class RunResults:
    """The results of a run that its report shows.

    Args:
        run: folder of the run.
        fit: newest results of the training; None if it has not finished.
        compared: newest evaluation of a checkpoint of the run on its data, by `test` if there is
            one, with the newest evaluation of the initial weights on the same prompts. If no
            checkpoint was evaluated, the last validation of the training; without it, None.
    """

    run: Path
    fit: Results | None
    compared: Comparison | None

    def missing(self) -> list[tuple[str, str]]:
        """Return what the report lacks, each with the command that adds it ("" if none does)."""
        fit, compared = self.fit, self.compared
        folder, missing = shlex.quote(str(self.run)), list[tuple[str, str]]()
        config = f"--config {folder}/config.yaml"
        if fit is None:
            missing.append(("The training has no results yet.", ""))
        best = f"{config} --ckpt_path {folder}/{CHECKPOINTS}/best.ckpt"
        if compared is None or compared.after is fit:
            numbers = " The numbers are those of its last validation." if compared else ""
            lacks = f"No checkpoint of the training was evaluated on its data.{numbers}"
            missing.append((lacks, f"python -m clipseg_pl test {best}"))
        elif fit and compared.after.finished < fit.finished:
            lacks = "The evaluation of the checkpoint is older than the end of the training."
            missing.append((lacks, f"python -m clipseg_pl {compared.after.command} {best}"))
        if compared and compared.after.command == "test" and compared.after.lacks_test_photos:
            missing.append(
                (
                    "There are no test photos: the numbers are those of the validation photos, on "
                    "which the checkpoint and its thresholds were chosen.",
                    "",
                )
            )
        if compared and not compared.before:
            if fit and not fit.initial_weights:
                missing.append(("The training started from random weights.", ""))
            else:
                command = "test" if compared.after.command == "test" else "validate"
                # the config of a resumed training contains its checkpoint
                resumed = fit and fit.content["config"].get("ckpt_path")
                unset = " --ckpt_path null" if resumed else ""
                photos = compared.after.photos
                lacks = f"The initial weights were not evaluated on the same {photos} and prompts."
                missing.append((lacks, f"python -m clipseg_pl {command} {config}{unset}"))
        return missing


def read_run(run: Path) -> RunResults:
    """Read the results of a run and choose those to report.

    Raises:
        FileNotFoundError: if the folder does not exist or contains no results.
        ValueError: if a results file is invalid, or the run has another protocol than
            `OwnDataProtocol`.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"{run}: no such folder; give the folder of a run, such as runs/x")
    newest = _newest_first(run)
    if not newest:
        raise FileNotFoundError(
            f"{run} has no results of fit, validate or test; give the folder of a run, such as "
            "runs/x"
        )
    fit = next((results for results in newest if results.command == "fit"), None)
    if (fit or newest[0]).protocol != _PROTOCOL:
        raise ValueError(
            f"{run} has the protocol {(fit or newest[0]).protocol}, but the report needs "
            f"{_PROTOCOL}: train with --config experiments/fine_tune.yaml"
        )
    newest = [results for results in newest if results.protocol == _PROTOCOL]
    trained = [
        results
        for results in newest
        if _is_trained(results, run) and (fit is None or _data(results) == _data(fit))
    ]
    after = next((results for results in trained if results.command == "test"), None)
    after = after or next(iter(trained), fit)
    if after is None:
        return RunResults(run, fit, None)
    before = next((results for results in newest if _is_start(results, after, fit)), None)
    return RunResults(run, fit, Comparison(before, after))


def _newest_first(run: Path) -> list[Results]:
    found = [
        Results(command, _read(file))
        for command in ("fit", "validate", "test")
        for file in sorted(run.glob(f"results/{command}-*.json"))
    ]
    return sorted(found, key=lambda results: results.finished, reverse=True)


def _read(file: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        ValueError: if it is not one.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        content["metrics"], content["report"]
        protocol = content["config"]["model"]["protocol"]
        protocol["class_path"], protocol["init_args"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file}: not a results file; remove it or run its command again") from (
            error
        )
    assert isinstance(content, dict)
    return content


def _is_trained(results: Results, run: Path) -> bool:
    """Return whether an evaluation used a checkpoint in the run's folder."""
    checkpoint = results.content.get("checkpoint")
    if results.command == "fit" or not checkpoint:
        return False
    # compared by name, so that the folder can be moved
    return Path(checkpoint).parts[-3:-1] == (run.resolve().name, CHECKPOINTS)


def _is_start(results: Results, after: Results, fit: Results | None) -> bool:
    """Return whether an evaluation used the initial weights and the same prompts as `after`."""
    return (
        results.command != "fit"
        and results.split == after.split
        and not results.content.get("checkpoint")
        and _data(results) == _data(after)
        and _prompts(results) == _prompts(after)
        and (fit is None or results.initial_weights == fit.initial_weights)
    )


def _data(results: Results) -> dict[str, Any]:
    """Return the data settings that affect an evaluation by the first prompt type."""
    data = results.content["config"]["data"]
    settings = _without(data.get("init_args", {}), _OF_TRAINING)
    blends = () if results.prompt_type == "blend" else _OF_BLENDS
    for key, unused in (("prompting", (*_OF_TRAINING_PROMPTS, *blends)), ("train", _OF_TABLE)):
        settings[key] = _without(settings.get(key) or {}, unused)
    return {**data, "init_args": settings}


def _without(settings: Mapping[str, Any], unused: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in unused}


def _prompts(results: Results) -> tuple[str, float | None, float | None]:
    """Return the first prompt type and the numbers of its prompts, which batch limits reduce."""
    return results.prompt_type, results.metric("prompts"), results.metric("absent_prompts")
