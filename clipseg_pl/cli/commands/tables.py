"""The command `tables`: run the missing experiments of the paper's tables and write a report."""

import argparse
import json
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from clipseg_pl.atomic import check_folders
from clipseg_pl.cli.commands import HelpFormatter
from clipseg_pl.runs.run import Run, launch, newest_results
from clipseg_pl.weights.places import TOY

if TYPE_CHECKING:
    from collections.abc import Callable

    from clipseg_pl.runs.tables.plan import Evaluation, Plan, Training


def main(args: list[str]) -> None:
    """Run the command. User errors exit with status 1 and a one-line message."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl tables",
        description="Run the trainings and evaluations of the paper's tables that have no valid "
        "result yet, one after the other (the first seed of all rows first), and write RESULTS.md "
        "and plots. Start an interrupted command again to resume it. A stored result is valid "
        "while its config, data and weights are unchanged. Runs shared by several tables run "
        "once.",
        epilog="example:\n  python -m clipseg_pl tables --world toy --only T9",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--world",
        choices=(TOY, "paper"),
        required=True,
        help="data to run on (required). toy: generated datasets, about twelve hours on 2 CPU "
        "cores; paper: the real datasets in data/",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="TABLE",
        help="tables to run, e.g. T3 T9 (default: all)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the missing runs without starting them; without --only, also update RESULTS.md",
    )
    parser.add_argument(
        "--file",
        type=Path,
        default=Path("experiments/tables.yaml"),
        metavar="FILE",
        help="list of runs; results, RESULTS.md and plots are written to the same folder "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/tables"),
        metavar="FOLDER",
        help="folder for checkpoints; can be deleted afterwards (default: %(default)s)",
    )
    options = parser.parse_args(args)
    try:
        failed = _Tables(options.file, options.world, options.runs).fill(
            options.only, options.dry_run
        )
    except KeyboardInterrupt:
        sys.exit("clipseg_pl: interrupted; run the same command again to resume")
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")
    if failed:
        sys.exit(f"clipseg_pl: {len(failed)} runs failed: {', '.join(failed)}")


class _Tables:
    """Runs and results of the tables of one world."""

    def __init__(self, file: Path, world: str, runs: Path) -> None:
        from clipseg_pl.runs.tables.plan import WORLDS
        from clipseg_pl.runs.tables.read import read_plan
        from clipseg_pl.runs.tables.stored_results import StoredResults

        if not file.is_file():
            raise FileNotFoundError(f"no {file}: run the command in the repository or set --file")
        self.folder, self.runs = file.parent, runs / world
        plans = [read_plan(file, name) for name in WORLDS]
        self.pages = [
            (plan, StoredResults(self.folder / "results" / plan.world.name, self._digest_in(plan)))
            for plan in plans
        ]
        self.plan, self.results = next(p for p in self.pages if p[0].world.name == world)

    def fill(self, only: list[str], dry_run: bool) -> list[str]:
        """Run the missing evaluations and their trainings; return the names of failed runs."""
        known = [table.key for table in self.plan.tables]
        if unknown := [key for key in only if key not in known]:
            raise ValueError(f"unknown table: {', '.join(unknown)}; choose from {', '.join(known)}")
        wanted = self.plan.evaluations(only)
        states = {evaluation: self.results.state(evaluation) for evaluation in wanted}
        missing = [evaluation for evaluation in wanted if states[evaluation] != "valid"]
        trainings = list(dict.fromkeys(evaluation.training for evaluation in missing))
        print(
            f"{len(wanted)} evaluations: {len(wanted) - len(missing)} done, {len(missing)} to run "
            f"on {len(trainings)} trainings"
        )
        if not dry_run:
            check_folders([self.runs, self.folder])
        for evaluation in missing:
            self.results.digest(evaluation)  # cached now: files may be edited during the runs
        failed, started = [], time.monotonic()
        for number, training in enumerate(trainings):
            pending = [evaluation for evaluation in missing if evaluation.training == training]
            stale = sum(states[evaluation] == "stale" for evaluation in pending)
            line = f"{number + 1} of {len(trainings)}: {training.name}"
            line += f", {len(pending)} evaluations" + (f" ({stale} stale)" if stale else "")
            if number and not dry_run:
                left = (time.monotonic() - started) / number * (len(trainings) - number)
                line += f"; about {left / 60:.0f} minutes left"
            print(line, flush=True)
            if not dry_run:
                failed += self._run(training, pending)
                self._write()
        if not (dry_run and only):  # RESULTS.md needs the configs of all tables: slow
            self._write()
        return failed

    def _run(self, training: "Training", evaluations: "list[Evaluation]") -> list[str]:
        from clipseg_pl.runs.tables.plan import ALIGNMENT

        if evaluations == [ALIGNMENT]:
            return self._run_alignment()
        run = self._plan_training(training)
        if not (run and run.finish()):
            return [training.name]
        if not run.last.exists():
            print(
                f"clipseg_pl: {run.last} is missing; delete {run.folder} to train again",
                file=sys.stderr,
            )
            return [training.name]
        folder, failed = run.folder, []
        for evaluation in evaluations:
            place = folder / "evaluations" / evaluation.name
            arguments = evaluation.arguments(self.folder)
            arguments += [f"--ckpt_path={run.last}"]
            if launch([*arguments, f"--trainer.default_root_dir={place}"]):
                content = newest_results(place, "validate")
                assert content is not None  # validate has just written it
                self.results.add(evaluation, content, _seconds(folder))
            else:
                failed.append(f"{training.name}, {evaluation.name}")
        return failed

    def _plan_training(self, training: "Training") -> Run | None:
        """Create a run whose folder name contains its digest; None if its config is invalid."""
        from clipseg_pl.cli.resolve import resolve
        from clipseg_pl.runs.tables.stored_results import training_digest

        arguments = training.arguments(self.folder)
        try:
            config = resolve(arguments)
        except ValueError as error:
            print(f"clipseg_pl: {error}", file=sys.stderr)
            return None
        digest = training_digest(config, _world_version(self.plan))
        return Run(arguments, self.runs / f"{training.name}-{digest[:8]}", config)

    def _run_alignment(self) -> list[str]:
        from clipseg_pl.runs.tables.plan import ALIGNMENT

        out = self.runs / "alignment.json"
        out.unlink(missing_ok=True)
        root = TOY if self.plan.world.name == TOY else "data"
        if not launch(["alignment", f"--root={root}", f"--out={out}"]):
            return [ALIGNMENT.name]
        content = json.loads(out.read_text())
        self.results.add(ALIGNMENT, content)
        return []

    def _digest_in(self, plan: "Plan") -> "Callable[[Evaluation], str]":
        from clipseg_pl.cli.commands.alignment import TOY_SCENES
        from clipseg_pl.cli.resolve import resolve
        from clipseg_pl.runs.tables.plan import ALIGNMENT
        from clipseg_pl.runs.tables.stored_results import (
            backbone_digest,
            evaluation_digest,
            training_digest,
        )

        world = _world_version(plan)

        @cache
        def digest_training(training: "Training") -> str:
            return training_digest(resolve(training.arguments(self.folder)), world)

        def digest(evaluation: "Evaluation") -> str:
            try:
                if evaluation == ALIGNMENT:  # uses the backbone of the base experiment
                    files = (self.folder / name for name in plan.world.configs([]))
                    base = resolve(["fit", *(f"--config={file}" for file in files)])
                    return backbone_digest(base, f"{world}, {TOY_SCENES}")
                trained = digest_training(evaluation.training)
                config = resolve(evaluation.arguments(self.folder))
            except ValueError as error:  # no stored result can match an invalid config
                print(f"clipseg_pl: {error}", file=sys.stderr)
                return "invalid"
            return evaluation_digest(trained, config)

        return digest

    def _write(self) -> None:
        """Write the plots of this world, and RESULTS.md with the results of both worlds."""
        from clipseg_pl.runs.tables.plots import draw_plots
        from clipseg_pl.runs.tables.report import results_page

        draw_plots(self.plan, self.results, self.results.folder)
        (self.folder / "RESULTS.md").write_text(results_page(self.pages))


def _world_version(plan: "Plan") -> str:
    from datamodules.toy.writers.folder import WORLD

    return f"toy world {WORLD}" if plan.world.name == TOY else "published"


def _seconds(folder: Path) -> float | None:
    """Return the duration of a training; None if it was killed before it wrote its results."""
    results = newest_results(folder, "fit")
    return float(results["seconds"]) if results else None
