"""`tables`: runs what the paper's tables need and is not there yet, and writes them."""

import argparse
import json
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from clipseg_pl.atomic import check_folders
from clipseg_pl.runs.run import Run, launch, newest_results
from clipseg_pl.weights.places import TOY

if TYPE_CHECKING:
    from collections.abc import Callable

    from clipseg_pl.runs.tables.plan import Evaluation, Plan, Training


def main(args: list[str]) -> None:
    """Parse, run, write; one line and status 1 for what a user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl tables",
        description="Train and evaluate whatever the paper's tables need and has no valid result "
        "yet, one run after the other; then write RESULTS.md and plots beside the list of runs. "
        "Interrupted, the same command goes on. A result counts as long as config, data and "
        "weights are what they were; a run that several tables name is run once.",
        epilog="example: python -m clipseg_pl tables --world toy --only T9",
    )
    parser.add_argument(
        "--world",
        choices=(TOY, "paper"),
        required=True,
        help="toy: the drawn world, four hours on two CPU cores; paper: the real data in data/",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="TABLE",
        help="some tables, as T3 T9 (default: all)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be run, and write the page alone"
    )
    parser.add_argument(
        "--file",
        type=Path,
        default=Path("experiments/tables.yaml"),
        help="list of runs; results, RESULTS.md and plots go beside it (default: %(default)s)",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/tables"),
        help="folder for checkpoints, which may be deleted afterwards (default: %(default)s)",
    )
    given = parser.parse_args(args)
    try:
        failed = _Tables(given.file, given.world, given.runs).fill(given.only, given.dry_run)
    except KeyboardInterrupt:
        sys.exit("clipseg_pl: stopped; the same command goes on")
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")
    if failed:
        sys.exit(f"clipseg_pl: {len(failed)} of the runs failed: {', '.join(failed)}")


class _Tables:
    """The tables of one world, being filled in."""

    def __init__(self, file: Path, world: str, runs: Path) -> None:
        from clipseg_pl.runs.tables.evidence import Evidence
        from clipseg_pl.runs.tables.plan import WORLDS
        from clipseg_pl.runs.tables.read import read_plan

        if not file.is_file():
            raise FileNotFoundError(f"no {file}: run this in the repository, or give --file")
        self.folder, self.runs = file.parent, runs / world
        plans = [read_plan(file, name) for name in WORLDS]
        self.pages = [
            (plan, Evidence(self.folder / "results" / plan.world.name, self._digest_in(plan)))
            for plan in plans
        ]
        self.plan, self.evidence = next(p for p in self.pages if p[0].world.name == world)

    def fill(self, only: list[str], dry_run: bool) -> list[str]:
        """Run what is missing; returns the names of what failed."""
        known = [table.key for table in self.plan.tables]
        if unknown := [key for key in only if key not in known]:
            raise ValueError(f"no table {', '.join(unknown)}; there are {', '.join(known)}")
        wanted = self.plan.evaluations(only)
        states = {evaluation: self.evidence.state(evaluation) for evaluation in wanted}
        missing = [evaluation for evaluation in wanted if states[evaluation] != "valid"]
        trainings = list(dict.fromkeys(evaluation.training for evaluation in missing))
        print(
            f"{len(wanted)} evaluations, {len(wanted) - len(missing)} of them done; "
            f"{len(missing)} to run, of {len(trainings)} trainings"
        )
        if not dry_run:
            check_folders([self.runs, self.folder])
        for evaluation in missing:
            self.evidence.digest(evaluation)  # of what is run, should a file be edited meanwhile
        failed, started = [], time.monotonic()
        for number, training in enumerate(trainings):
            asked = [evaluation for evaluation in missing if evaluation.training == training]
            stale = sum(states[evaluation] == "stale" for evaluation in asked)
            line = f"{number + 1} of {len(trainings)}: {training.name}"
            line += f", {len(asked)} evaluations" + (f", {stale} of them stale" if stale else "")
            if number and not dry_run:
                left = (time.monotonic() - started) / number * (len(trainings) - number)
                line += f"; about {left / 60:.0f} minutes left"
            print(line, flush=True)
            if not dry_run:
                failed += self._run(training, asked)
                self._write()
        if not (dry_run and only):  # a look at one table need not resolve the runs of all
            self._write()
        return failed

    def _run(self, training: "Training", asked: "list[Evaluation]") -> list[str]:
        from clipseg_pl.runs.tables.plan import ALIGNMENT

        if asked == [ALIGNMENT]:
            return self._run_alignment()
        run = self._plan_training(training)
        if not (run and run.finish()):
            return [training.name]
        if not run.last.exists():
            print(f"clipseg_pl: {run.last} is gone: remove {run.folder}", file=sys.stderr)
            return [training.name]
        folder, failed = run.folder, []
        for evaluation in asked:
            place = folder / "evaluations" / evaluation.name
            arguments = evaluation.arguments(self.folder)
            arguments += [f"--ckpt_path={run.last}"]
            if launch([*arguments, f"--trainer.default_root_dir={place}"]):
                content = newest_results(place, "validate")
                assert content is not None  # validate has just written it
                self.evidence.add(evaluation, content, _seconds(folder))
            else:
                failed.append(f"{training.name}, {evaluation.name}")
        return failed

    def _plan_training(self, training: "Training") -> Run | None:
        """A training in a folder named by its digest; None for one that is refused."""
        from clipseg_pl.cli.resolve import resolve
        from clipseg_pl.runs.tables.evidence import training_digest

        arguments = training.arguments(self.folder)
        try:
            config = resolve(arguments)
        except ValueError as error:
            print(f"clipseg_pl: {error}", file=sys.stderr)
            return None
        own = training_digest(config, _world_version(self.plan))
        return Run(arguments, self.runs / f"{training.name}-{own[:8]}", config)

    def _run_alignment(self) -> list[str]:
        from clipseg_pl.runs.tables.plan import ALIGNMENT

        out = self.runs / "alignment.json"
        out.unlink(missing_ok=True)
        root = TOY if self.plan.world.name == TOY else "data"
        if not launch(["alignment", f"--root={root}", f"--out={out}"]):
            return [ALIGNMENT.name]
        content = json.loads(out.read_text())
        self.evidence.add(ALIGNMENT, content)
        return []

    def _digest_in(self, plan: "Plan") -> "Callable[[Evaluation], str]":
        from clipseg_pl.cli.commands.alignment import TOY_SCENES
        from clipseg_pl.cli.resolve import resolve
        from clipseg_pl.runs.tables.evidence import (
            backbone_digest,
            evaluation_digest,
            training_digest,
        )
        from clipseg_pl.runs.tables.plan import ALIGNMENT

        world = _world_version(plan)

        @cache
        def of_training(training: "Training") -> str:
            return training_digest(resolve(training.arguments(self.folder)), world)

        def of(evaluation: "Evaluation") -> str:
            try:
                if evaluation == ALIGNMENT:  # on the backbone of the base experiment
                    files = (self.folder / name for name in plan.world.configs([]))
                    base = resolve(["fit", *(f"--config={file}" for file in files)])
                    return backbone_digest(base, f"{world}, {TOY_SCENES}")
                trained = of_training(evaluation.training)
                asked = resolve(evaluation.arguments(self.folder))
            except ValueError as error:  # no result is of what cannot be run
                print(f"clipseg_pl: {error}", file=sys.stderr)
                return "refused"
            return evaluation_digest(trained, asked)

        return of

    def _write(self) -> None:
        """The plots of this world, and RESULTS.md, of both, which shows them."""
        from clipseg_pl.runs.tables.plots import draw_plots
        from clipseg_pl.runs.tables.report import results_page

        draw_plots(self.plan, self.evidence, self.evidence.folder)
        (self.folder / "RESULTS.md").write_text(results_page(self.pages))


def _world_version(plan: "Plan") -> str:
    from datamodules.toy.writers.folder import WORLD

    return f"toy world {WORLD}" if plan.world.name == TOY else "published"


def _seconds(folder: Path) -> float | None:
    """That a training took, as far as it was not killed before it said so."""
    said = newest_results(folder, "fit")
    return float(said["seconds"]) if said else None
