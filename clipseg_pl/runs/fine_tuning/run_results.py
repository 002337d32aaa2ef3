"""The results files of a run: which of them are compared, and access to their numbers."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from clipseg_pl.runs.run import CHECKPOINTS

_UNCOMPARED = ("num_workers", "batch_size")  # data settings that do not affect a metric


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
    def split_name(self) -> str:
        """Name of the split in texts."""
        return "test" if self.command == "test" else "validation"

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
        """Threshold of the tables by group and of the pictures; None if there are no tables."""
        pattern = re.compile(rf"{self.prompt_type}: miou@([\d.]+) by share of the image")
        found = (pattern.fullmatch(title) for title in self.content["report"])
        return next((float(match[1]) for match in found if match), None)

    @property
    def stored_threshold(self) -> float | None:
        """Threshold stored in the checkpoint; None if it stores none."""
        return None if self.metric("miou@stored") is None else self.threshold_in_use

    def group_table(self, metric: str, groups: str) -> Mapping[str, float]:
        """Return the table `<metric>@<threshold in use> by <groups>`; empty if there is none."""
        threshold = self.threshold_in_use
        return {} if threshold is None else self.table(f"{metric}@{threshold:g} by {groups}")


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

    def metric(self, name: str) -> Change:
        """Return a metric."""
        return Change(self.before.metric(name) if self.before else None, self.after.metric(name))

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
        compared: newest evaluation of a checkpoint of the run, on the test split if there is one,
            with the newest evaluation of the initial weights on the same data. If no checkpoint was
            evaluated, the last validation of the training; without it, None.
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
        if compared is None or compared.after is fit:
            numbers = " The numbers are those of its last validation." if compared else ""
            missing.append(
                (
                    f"No checkpoint of the training was evaluated.{numbers}",
                    f"python -m clipseg_pl test {config} "
                    f"--ckpt_path {folder}/{CHECKPOINTS}/best.ckpt",
                )
            )
        if compared and not compared.before:
            if fit and not fit.initial_weights:
                missing.append(("The training started from random weights.", ""))
            else:
                split = compared.after.split_name
                command = "test" if split == "test" else "validate"
                # the config of a resumed training contains its checkpoint
                resumed = fit and fit.content["config"].get("ckpt_path")
                unset = " --ckpt_path null" if resumed else ""
                lacks = f"The initial weights were not evaluated on the {split} split."
                missing.append((lacks, f"python -m clipseg_pl {command} {config}{unset}"))
        return missing


def read_run(run: Path) -> RunResults:
    """Read the results of a run and choose those to report.

    Raises:
        FileNotFoundError: if the folder does not exist or contains no results.
        ValueError: if a results file is invalid.
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
    trained = [results for results in newest if _is_trained(results, run)]
    after = next((results for results in trained if results.command == "test"), None)
    after = after or next(iter(trained), fit)
    if after is None:
        return RunResults(run, fit, None)
    before = next((results for results in newest if _is_start(results, after, fit)), None)
    return RunResults(run, fit, Comparison(before, after))


def _newest_first(run: Path) -> list[Results]:
    files = [
        (file, command)
        for command in ("fit", "validate", "test")
        for file in run.glob(f"results/{command}-*.json")
    ]
    files.sort(key=lambda pair: pair[0].stat().st_mtime_ns, reverse=True)
    return [Results(command, _read(file)) for file, command in files]


def _read(file: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        ValueError: if it is not one.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        content["metrics"], content["report"], content["config"]["model"]["protocol"]["init_args"]
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
    """Return whether an evaluation used the initial weights and the same data as `after`."""
    return (
        results.command != "fit"
        and results.split == after.split
        and not results.content.get("checkpoint")
        and _data(results) == _data(after)
        and (fit is None or results.initial_weights == fit.initial_weights)
    )


def _data(results: Results) -> dict[str, Any]:
    data = results.content["config"]["data"]
    settings = data.get("init_args", {}).items()
    return {**data, "init_args": {k: v for k, v in settings if k not in _UNCOMPARED}}
