"""The command `tables`: run the missing experiments of the paper's tables and write a report."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clipseg_pl.atomic import check_folders, write_text
from clipseg_pl.cli.commands import HelpFormatter
from clipseg_pl.runs.run import Run, launch, newest_results
from clipseg_pl.runs.tables.plan import WORLDS, Evaluation, Plan, Training
from clipseg_pl.weights.places import TOY


def main(args: list[str]) -> None:
    """Run the command. User errors exit with status 1 and a one-line message."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl tables",
        description="Run the trainings and evaluations of the paper's tables that have no valid "
        "result yet, one after the other (the first seed of all rows first), and write RESULTS.md "
        "and plots. Start an interrupted command again to resume it. Start the command twice at "
        "the same time to run two trainings at once. A stored result is valid while its config, "
        "the version of the toy world and custom weights are unchanged; other changes of data "
        "and code are not noticed. Runs shared by several tables run once.",
        epilog="example:\n  python -m clipseg_pl tables --world toy --only T9",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--world",
        choices=WORLDS,
        required=True,
        help="data to run on (required). toy: generated datasets, about 8 hours on 2 CPU cores; "
        "paper: the real datasets in data/",
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
            self.results.digest(evaluation)  # cached, to notice changes of the configs later
        failed, queue, times = [], list(trainings), list[float]()
        for number, training in enumerate(queue):
            pending = [evaluation for evaluation in missing if evaluation.training == training]
            stale = sum(states[evaluation] == "stale" for evaluation in pending)
            line = f"{number + 1} of {len(queue)}: {training.name}"
            line += f", {len(pending)} evaluations" + (f" ({stale} stale)" if stale else "")
            if times:
                left = sum(times) / len(times) * (len(queue) - number)
                line += f"; about {left / 60:.0f} minutes left"
            print(line, flush=True)
            if dry_run:
                continue
            self.runs.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.runs / f".{training.name}.lock")
            try:  # wait only at the end
                lock.acquire(blocking=number >= len(trainings))
            except Timeout:
                print("another command runs this training; continuing with the next", flush=True)
                queue.append(training)
                continue
            except (OSError, NotImplementedError):
                pass  # on a file system without locks, only one command can run
            try:
                left_over = [e for e in pending if self.results.state(e) != "valid"]
                if left_over:
                    started = time.monotonic()
                    failed += self._run(training, left_over)
                    self._write()
                    times.append(time.monotonic() - started)
            finally:
                lock.release()
        if not (dry_run and only):  # RESULTS.md needs the configs of all tables: slow
            self._write()
        return failed

    def _run(self, training: Training, evaluations: list[Evaluation]) -> list[str]:
        if any(map(self._has_changed, evaluations)):
            return [training.name]
        if not training.configs:
            return self._run_alignment(evaluations[0])
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
                failed += self._store(evaluation, content, _seconds(folder))
            else:
                failed.append(f"{training.name}, {evaluation.name}")
        return failed

    def _store(
        self,
        evaluation: Evaluation,
        content: Mapping[str, Any],
        training_seconds: float | None = None,
    ) -> list[str]:
        """Store a result; return the name of the run if a config has changed meanwhile."""
        if self._has_changed(evaluation):
            return [f"{evaluation.training.name}, {evaluation.name}"]
        self.results.add(evaluation, content, training_seconds)
        return []

    def _has_changed(self, evaluation: Evaluation) -> bool:
        """Return whether a config of a run has changed since the command started."""
        if self._digest_in(self.plan)(evaluation) == self.results.digest(evaluation):
            return False
        print(
            f"clipseg_pl: a config of {evaluation.training.name}, {evaluation.name} has changed "
            "since this command started; start it again",
            file=sys.stderr,
        )
        return True

    def _plan_training(self, training: Training) -> Run | None:
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

    def _run_alignment(self, evaluation: Evaluation) -> list[str]:
        out = self.runs / f"{evaluation.training.name}.json"
        out.unlink(missing_ok=True)
        clip = self._base(self.plan)["model"]["backbone"]["init_args"]
        options = {
            "root": TOY if self.plan.world.name == TOY else "data",
            "backbone": clip["name"],
            "tag": clip["tag"],
            "seed": dict(evaluation.training.settings)["seed_everything"],
            "out": out,
        }
        if not launch(["alignment", *(f"--{key}={value}" for key, value in options.items())]):
            return [evaluation.training.name]
        return self._store(evaluation, json.loads(out.read_text()))

    def _base(self, plan: Plan) -> dict[str, Any]:
        """Return the resolved config of the base experiment."""
        from clipseg_pl.cli.resolve import resolve

        return resolve(Training("", plan.world.configs([]), ()).arguments(self.folder))

    def _digest_in(self, plan: Plan) -> Callable[[Evaluation], str]:
        from clipseg_pl.cli.commands.alignment import TOY_SCENES
        from clipseg_pl.cli.resolve import resolve
        from clipseg_pl.runs.tables.stored_results import (
            backbone_digest,
            evaluation_digest,
            training_digest,
        )

        world = _world_version(plan)

        @cache
        def digest_training(training: Training) -> str:
            return training_digest(resolve(training.arguments(self.folder)), world)

        def digest(evaluation: Evaluation) -> str:
            try:
                if not evaluation.training.configs:  # uses the backbone of the base experiment
                    return backbone_digest(self._base(plan), f"{world}, {TOY_SCENES}")
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
        write_text(self.folder / "RESULTS.md", results_page(self.pages))


def _world_version(plan: Plan) -> str:
    from datamodules.toy.writers.folder import WORLD

    return f"toy world {WORLD}" if plan.world.name == TOY else "published"


def _seconds(folder: Path) -> float | None:
    """Return the duration of a training; None if it was killed before it wrote its results."""
    results = newest_results(folder, "fit")
    return float(results["seconds"]) if results else None
