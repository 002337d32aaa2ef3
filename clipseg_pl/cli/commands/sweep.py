"""The command `sweep`: run a W&B sweep file locally, without a W&B server."""

import argparse
import math
import shlex
import sys
from pathlib import Path

import yaml

from clipseg_pl.atomic import check_folders
from clipseg_pl.cli.commands import HelpFormatter
from clipseg_pl.runs.run import Run, command_line, newest_results
from clipseg_pl.runs.sweeps import Point, Sweep, read_sweep

_OWN = ("trainer.default_root_dir", "ckpt_path")
"""options that the command sets for each run"""
_FREE = ("trainer.max_steps", "trainer.accelerator")
"""settings that may change when a run is resumed: the number of steps and the hardware"""


def main(args: list[str]) -> None:
    """Run the command. User errors exit with status 1 and a one-line message."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl sweep",
        description="Run a W&B sweep file without a W&B server: train every combination of its "
        "values, one after the other, each in its own folder, and print a table of the results. "
        "Finished runs are skipped and interrupted runs are resumed. To use a W&B server instead, "
        "run `wandb sweep FILE` and `wandb agent`.",
        usage="%(prog)s FILE [--config OVERLAY]... [--out FOLDER] [--dry-run] [--key value]...",
        epilog="example:\n  python -m clipseg_pl sweep sweeps/decoder_size.yaml --config "
        "experiments/toy.yaml --dry-run",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="W&B sweep file, like those in sweeps/"
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="OVERLAY",
        help="config overlay merged on top of the sweep's configs, e.g. experiments/toy.yaml; can "
        "be repeated",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder for the runs (default: runs/sweeps/<names of FILE and overlays>)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check all runs and print their commands without starting them",
    )
    parser.add_argument_group(
        "other options", "All other options are passed to every run, e.g. --trainer.max_steps 100"
    )
    options, overrides = parser.parse_known_args(args)
    try:
        _sweep(options, overrides)
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")
    except KeyboardInterrupt:
        sys.exit("clipseg_pl: interrupted; run the same command again to resume")


def _sweep(options: argparse.Namespace, overrides: list[str]) -> None:
    from clipseg_pl.cli.arguments import flatten  # imports Lightning, not needed for --help

    sweep = read_sweep(options.file)
    for option in overrides:
        key = option.lstrip("-").partition("=")[0]
        if key in sweep.parameters or key in _OWN:
            raise ValueError(f"--{key} cannot be set, because the sweep sets it for each run")
    name = "+".join(Path(file).stem for file in (options.file, *options.config))
    folder = options.out or Path("runs") / "sweeps" / name
    points = sweep.points()
    runs = [_plan(sweep, point, folder, options.config, overrides) for point in points]
    for overlay in options.config:
        for key, _ in flatten(yaml.safe_load(Path(overlay).read_text())):
            if key in sweep.parameters:
                raise ValueError(f"{overlay} sets {key}, which {sweep.file} varies")
    if options.dry_run:
        for run in runs:
            print(shlex.join(command_line(run.command)))
        print(f"dry run: {len(runs)} valid runs, none started", file=sys.stderr)
        return
    check_folders([folder])
    for run in runs:  # check all runs before the first one starts
        _reject_other_settings(run)
    failed = []
    for number, run in enumerate(runs, 1):
        done = ", done" if run.is_finished() else ""
        print(f"run {number} of {len(runs)}: {run.folder}{done}", flush=True)
        if not run.finish():
            failed.append(str(run.folder))
    _print_table(sweep, points, runs)
    if failed:
        raise ValueError(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}")


def _plan(
    sweep: Sweep, point: Point, folder: Path, overlays: list[str], overrides: list[str]
) -> Run:
    """Create the run of one combination of values, and check its arguments like `fit` does.

    Raises:
        ValueError: if `fit` would reject the arguments.
    """
    from clipseg_pl.cli.resolve import resolve

    arguments = [*sweep.arguments(point, overlays), *overrides]
    try:
        config = resolve(arguments)
    except ValueError as error:
        raise ValueError(f"{sweep.file}: {error}") from error
    return Run(arguments, folder / sweep.folder_name(point), config)


def _reject_other_settings(run: Run) -> None:
    """Raise ValueError if the folder contains a run with other settings."""
    from clipseg_pl.cli.arguments import flatten
    from clipseg_pl.training.callbacks.results import PLACES

    file = run.folder / "config.yaml"
    if not file.exists():
        return
    before = dict(flatten(yaml.safe_load(file.read_text())))
    for key, value in flatten(run.config):
        free = key in _FREE or key.rpartition(".")[2] in PLACES or value is None
        if not free and before.get(key) != value:
            raise ValueError(
                f"{run.folder} contains a run with {key} = {before.get(key)}, not {value}: choose "
                "another --out"
            )


def _print_table(sweep: Sweep, points: list[Point], runs: list[Run]) -> None:
    """Print one row per run, the best first."""
    from rich.console import Console
    from rich.table import Table

    measured = [((newest_results(run.folder, "fit") or {}).get("metrics", {}), run) for run in runs]
    scores = [
        (numbers.get(sweep.metric), point, run)
        for point, (numbers, run) in zip(points, measured, strict=True)
    ]
    sign = -1 if sweep.maximize else 1
    scores.sort(key=lambda row: math.inf if row[0] is None else sign * row[0])
    table = Table(*sweep.labels().values(), sweep.metric, "folder")
    for score, point, run in scores:
        values = (str(value) for value in point.values())
        table.add_row(*values, "-" if score is None else f"{score:.4g}", str(run.folder))
    Console().print(table)
    names = {name for numbers, _ in measured for name in numbers}
    if names and sweep.metric not in names:
        raise ValueError(
            f"{sweep.file}: no run logs the metric {sweep.metric}; choose from "
            f"{', '.join(sorted(names))}"
        )
