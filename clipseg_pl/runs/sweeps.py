"""W&B sweep files, converted to the command lines that a W&B agent would run."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import yaml

Point = Mapping[str, object]
"""config values of one run, by dotted key"""

_KEYS = {
    *("name", "description", "project", "entity", "program", "command"),
    *("method", "metric", "parameters", "run_cap", "early_terminate"),
}
_PYTHON = {"${env}", "${interpreter}", "python"}
_ARGS = "${args}"


@dataclass(frozen=True)
class Sweep:
    """Content of a sweep file.

    Args:
        file: the sweep file.
        metric: name of the logged metric that the runs are compared by.
        maximize: whether a higher metric is better.
        parameters: for each dotted key, the values to try (at least one).
        command: arguments of `python -m clipseg_pl`, including `${args}`.
    """

    file: Path
    metric: str
    maximize: bool
    parameters: Mapping[str, Sequence[object]]
    command: Sequence[str]

    def points(self) -> list[Point]:
        """Return every combination of values; the last parameter changes fastest."""
        combinations = product(*self.parameters.values())
        return [dict(zip(self.parameters, values, strict=True)) for values in combinations]

    def arguments(self, point: Point, overlays: Sequence[str] = ()) -> list[str]:
        """Return the arguments of one run. Overlays are added after the command's own configs."""
        options = [f"--config={overlay}" for overlay in overlays]
        options += [f"--{key}={value}" for key, value in point.items()]  # like wandb's ${args}
        position = self.command.index(_ARGS)
        return [*self.command[:position], *options, *self.command[position + 1 :]]

    def labels(self) -> dict[str, str]:
        """Return a label for each dotted key: its last part, or the whole key if ambiguous."""
        ends = Counter(key.rpartition(".")[2] for key in self.parameters)
        lasts = ((key, key.rpartition(".")[2]) for key in self.parameters)
        return {key: last if ends[last] == 1 else key for key, last in lasts}

    def folder_name(self, point: Point) -> str:
        """Return a folder name such as `background=0.1,blur=3.0,context=null`."""
        labels = self.labels()
        return ",".join(f"{labels[key]}={_file_name(value)}" for key, value in point.items())


def read_sweep(file: Path) -> Sweep:
    """Read a sweep file that can be run without a server.

    Raises:
        OSError: if the file does not exist.
        ValueError: if the file is not a sweep file, or if only a W&B agent can run it.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    try:
        return _parse(file, content)
    except ValueError as error:
        raise ValueError(f"{file}: {' '.join(str(error).split())}") from error


def _parse(file: Path, content: object) -> Sweep:
    if not isinstance(content, dict):
        raise ValueError("not a sweep file: expected method, metric, parameters and command")
    unknown = [str(key) for key in content if key not in _KEYS]
    if unknown:
        raise ValueError(f"unknown key {unknown[0]}; expected {', '.join(sorted(_KEYS))}")
    metric, parameters = content.get("metric"), content.get("parameters")
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise ValueError("metric needs a name, such as val/text/miou@best")
    if metric.get("goal") not in ("maximize", "minimize"):
        raise ValueError(f"metric.goal must be maximize or minimize, not {metric.get('goal')}")
    if not isinstance(parameters, dict) or not parameters:
        raise ValueError("parameters needs at least one dotted key with values")
    sweep = Sweep(
        file=file,
        metric=metric["name"],
        maximize=metric["goal"] == "maximize",
        parameters={str(key): _values(str(key), entry) for key, entry in parameters.items()},
        command=_arguments(content.get("command"), content.get("program")),
    )
    names = Counter(sweep.folder_name(point) for point in sweep.points())
    name, count = names.most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} runs would be called {name}: list each value only once")
    return sweep


def _values(key: str, entry: object) -> list[object]:
    """Return the values of one parameter from its entry in the file."""
    if not isinstance(entry, dict) or not entry:
        raise ValueError(f"{key} needs a value or a list of values")
    if "parameters" in entry:
        raise ValueError(f"{key} is nested: write {key}.<name> as one dotted key")
    if not entry.keys() <= {"value", "values"}:
        raise ValueError(
            f"{key} is sampled from a distribution, which only a W&B agent can do: list values "
            "instead, or run `wandb sweep` and `wandb agent`"
        )
    values = [entry["value"]] if "value" in entry else entry["values"]
    if not isinstance(values, list):
        raise ValueError(f"{key} needs a list of values")
    if None in values:
        raise ValueError(f'{key}: write "null" in quotes; wandb would pass a bare null as None')
    return values


def _arguments(command: object, program: object) -> list[str]:
    """Return the arguments after `python -m clipseg_pl` in the command of a sweep file."""
    parts = [str(part) for part in command] if isinstance(command, list) else []
    parts = [str(program) if part == "${program}" else part for part in parts]
    start = parts.index("-m") if "-m" in parts else len(parts)
    has_launcher = not set(parts[:start]) <= _PYTHON
    if has_launcher or parts[start : start + 3] != ["-m", "clipseg_pl", "fit"]:
        raise ValueError(
            "command must list ${env}, ${interpreter}, -m, clipseg_pl, fit and its options"
        )
    arguments = parts[start + 2 :]
    macros = [part for part in arguments if part.startswith("${")]
    if macros != [_ARGS]:
        raise ValueError(f"command must contain {_ARGS} exactly once after fit, and no other macro")
    return arguments


def _file_name(value: object) -> str:
    return re.sub(r"[^\w.+-]+", "-", str(value).strip("[]"))
