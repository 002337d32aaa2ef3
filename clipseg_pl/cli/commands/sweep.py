"""`sweep`: the runs of a W&B sweep file, without W&B."""

import argparse
import math
import shlex
import sys
from pathlib import Path

import yaml

from clipseg_pl.atomic import check_folders
from clipseg_pl.runs.run import Run, command_line, newest_results
from clipseg_pl.runs.sweeps import Point, Sweep, read_sweep

_OWN = ("trainer.default_root_dir", "ckpt_path")
"""options that a sweep sets for each run"""
_FREE = ("trainer.max_steps", "trainer.accelerator")
"""settings that may differ when a run is gone on with: more steps, and what the machine settles"""


def main(args: list[str]) -> None:
    """Parse, run, compare; one line and status 1 for what a user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl sweep",
        description="Run what a W&B sweep file describes one after the other, without a server: "
        "every combination of its values, each in a folder of its own. What is finished is not run "
        "again, what was interrupted goes on. At the end a table compares the runs. (With a "
        "server: `wandb sweep FILE`, then `wandb agent`.)",
        usage="%(prog)s FILE [--config OVERLAY]... [--out FOLDER] [--dry-run] [--key value]...",
        epilog="example: python -m clipseg_pl sweep sweeps/decoder_size.yaml --config "
        "experiments/toy.yaml --dry-run",
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the sweep, as of sweeps/")
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="OVERLAY",
        help="config to lay over those of the sweep, such as experiments/toy.yaml; repeat for more",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of the runs (default: runs/sweeps/<names of FILE and overlays>)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print every command and check that it can be parsed; run nothing",
    )
    parser.add_argument_group("any other option", "goes to every run: --trainer.max_steps 100")
    given, options = parser.parse_known_args(args)
    try:
        _sweep(given, options)
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")
    except KeyboardInterrupt:
        sys.exit("clipseg_pl: interrupted; the same command goes on")


def _sweep(given: argparse.Namespace, options: list[str]) -> None:
    from clipseg_pl.cli.arguments import leaves  # lightning, only when there is something to parse

    sweep = read_sweep(given.file)
    for option in options:
        key = option.lstrip("-").partition("=")[0]
        if key in sweep.parameters or key in _OWN:
            raise ValueError(f"{sweep.file} sets {key} for each run by itself")
    name = "+".join(Path(file).stem for file in (given.file, *given.config))
    folder = given.out or Path("runs") / "sweeps" / name
    points = sweep.points()
    runs = [_plan(sweep, point, folder, given.config, options) for point in points]
    for overlay in given.config:
        for key, _ in leaves(yaml.safe_load(Path(overlay).read_text())):
            if key in sweep.parameters:
                raise ValueError(f"{overlay} sets {key}, which {sweep.file} varies")
    if given.dry_run:
        for run in runs:
            print(shlex.join(command_line(run.command)))
        print(f"{len(runs)} runs, all of them understood, none started", file=sys.stderr)
        return
    check_folders([folder])
    for run in runs:  # before the first of them starts
        _refuse_another(run)
    failed = []
    for number, run in enumerate(runs, 1):
        done = ", done" if run.is_finished() else ""
        print(f"run {number} of {len(runs)}: {run.folder}{done}", flush=True)
        if not run.finish():
            failed.append(str(run.folder))
    _print_table(sweep, points, runs)
    if failed:
        raise ValueError(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}")


def _plan(sweep: Sweep, point: Point, folder: Path, overlays: list[str], options: list[str]) -> Run:
    """Parse the command of a point, as `fit` would.

    Raises:
        ValueError: what the command line refuses, with the name of the sweep file.
    """
    from clipseg_pl.cli.resolve import resolve

    arguments = [*sweep.arguments(point, overlays), *options]
    try:
        config = resolve(arguments)
    except ValueError as error:
        raise ValueError(f"{sweep.file}: {error}") from error
    return Run(arguments, folder / sweep.folder_name(point), config)


def _refuse_another(run: Run) -> None:
    """Refuse a folder whose run had other settings than this one."""
    from clipseg_pl.cli.arguments import leaves
    from clipseg_pl.training.callbacks.results import PLACES

    file = run.folder / "config.yaml"
    if not file.exists():
        return
    before = dict(leaves(yaml.safe_load(file.read_text())))
    for key, value in leaves(run.config):
        free = key in _FREE or key.rpartition(".")[2] in PLACES or value is None  # nothing given
        if not free and before.get(key) != value:
            raise ValueError(
                f"{run.folder} holds a run with {key} = {before.get(key)}, not {value}: give "
                "another --out"
            )


def _print_table(sweep: Sweep, points: list[Point], runs: list[Run]) -> None:
    """One row a run, the best first."""
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
            f"{sweep.file}: no run measures {sweep.metric}; they measure {', '.join(sorted(names))}"
        )
