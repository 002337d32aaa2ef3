"""A W&B sweep file as the command lines that an agent would run for it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import yaml

Point = Mapping[str, object]
"""dotted key -> value, for one run"""

_KEYS = {
    *("name", "description", "project", "entity", "program", "command"),
    *("method", "metric", "parameters", "run_cap", "early_terminate"),
}
_PYTHON = {"${env}", "${interpreter}", "python"}
_ARGS = "${args}"


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says.

    Args:
        file: where it says so.
        metric: name of the logged number that the runs are compared by.
        maximize: whether more of it is better.
        parameters: dotted key -> the values that it takes, at least one.
        command: arguments of `python -m clipseg_pl`, `${args}` among them.
    """

    file: Path
    metric: str
    maximize: bool
    parameters: Mapping[str, Sequence[object]]
    command: Sequence[str]

    def points(self) -> list[Point]:
        """Every combination of values, the last parameter changing fastest."""
        combinations = product(*self.parameters.values())
        return [dict(zip(self.parameters, values, strict=True)) for values in combinations]

    def arguments(self, point: Point, overlays: Sequence[str] = ()) -> list[str]:
        """Arguments of the run at a point; overlays come behind the command's own configs."""
        given = [f"--config={overlay}" for overlay in overlays]
        given += [f"--{key}={value}" for key, value in point.items()]  # as wandb writes ${args}
        position = self.command.index(_ARGS)
        return [*self.command[:position], *given, *self.command[position + 1 :]]

    def labels(self) -> dict[str, str]:
        """Dotted key -> its last name, or the whole of it where two end alike."""
        ends = Counter(key.rpartition(".")[2] for key in self.parameters)
        lasts = ((key, key.rpartition(".")[2]) for key in self.parameters)
        return {key: last if ends[last] == 1 else key for key, last in lasts}

    def folder_name(self, point: Point) -> str:
        """Name of a run by its values, as in `background=0.1,blur=3.0,context=null`."""
        labels = self.labels()
        return ",".join(f"{labels[key]}={_file_name(value)}" for key, value in point.items())


def read_sweep(file: Path) -> Sweep:
    """Read a sweep file as far as it can be run without a server.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is no sweep file, or one that only W&B can run; names the file.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    try:
        return _understand(file, content)
    except ValueError as error:
        raise ValueError(f"{file}: {' '.join(str(error).split())}") from error


def _understand(file: Path, content: object) -> Sweep:
    if not isinstance(content, dict):
        raise ValueError("not a sweep file, which has method, metric, parameters and command")
    unknown = [str(key) for key in content if key not in _KEYS]
    if unknown:
        raise ValueError(f"unknown key {unknown[0]}; a sweep file has {', '.join(sorted(_KEYS))}")
    metric, parameters = content.get("metric"), content.get("parameters")
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise ValueError("metric needs a name, that of a number which a run logs")
    if metric.get("goal") not in ("maximize", "minimize"):
        raise ValueError(f"metric.goal is maximize or minimize, not {metric.get('goal')}")
    if not isinstance(parameters, dict) or not parameters:
        raise ValueError("parameters needs at least one dotted key with its values")
    sweep = Sweep(
        file=file,
        metric=metric["name"],
        maximize=metric["goal"] == "maximize",
        parameters={str(key): _values(str(key), given) for key, given in parameters.items()},
        command=_arguments(content.get("command"), content.get("program")),
    )
    names = Counter(sweep.folder_name(point) for point in sweep.points())
    name, count = names.most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} runs would be called {name}: give each value once")
    return sweep


def _values(key: str, given: object) -> list[object]:
    """The values of a parameter, as its entry in the file says."""
    if not isinstance(given, dict) or not given:
        raise ValueError(f"{key} needs values (or a value)")
    if "parameters" in given:
        raise ValueError(f"{key} is nested: write {key}.<name> as one dotted key")
    if not given.keys() <= {"value", "values"}:
        raise ValueError(
            f"{key} is drawn from a distribution, which only a W&B agent can do: `wandb sweep` "
            "and `wandb agent`; here, give its values"
        )
    values = [given["value"]] if "value" in given else given["values"]
    if not isinstance(values, list):
        raise ValueError(f"{key} needs a list of values")
    if None in values:
        raise ValueError(f'{key}: write "null" in quotes; wandb would make None of a bare one')
    return values


def _arguments(command: object, program: object) -> list[str]:
    """What stands behind `python -m clipseg_pl` in the command of a sweep file."""
    parts = [str(part) for part in command] if isinstance(command, list) else []
    parts = [str(program) if part == "${program}" else part for part in parts]
    start = parts.index("-m") if "-m" in parts else len(parts)
    alone = set(parts[:start]) <= _PYTHON  # no launcher before it
    if not alone or parts[start : start + 3] != ["-m", "clipseg_pl", "fit"]:
        raise ValueError("command is a list of ${env}, ${interpreter}, -m, clipseg_pl, fit, ...")
    arguments = parts[start + 2 :]
    macros = [part for part in arguments if part.startswith("${")]
    if macros != [_ARGS]:
        raise ValueError(f"command has {_ARGS} once behind fit, and no other macro there")
    return arguments


def _file_name(value: object) -> str:
    return re.sub(r"[^\w.+-]+", "-", str(value).strip("[]"))
