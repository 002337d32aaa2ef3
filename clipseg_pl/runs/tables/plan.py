"""Data classes for the runs behind each table, and for the claims to check with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from clipseg_pl.weights.places import TOY

WORLDS = (TOY, "paper")
_BASE = "pc_plus.yaml"
Settings = tuple[tuple[str, Any], ...]
"""dotted keys and values that override all configs"""


@dataclass(frozen=True)
class World:
    """The data that tables are computed on: the paper's data or the toy world.

    Attributes:
        name: "paper" or "toy".
        title: title in RESULTS.md.
        overlay: config overlay added to every run, relative to experiments/.
        training_settings: settings that override those of every training.
        notes: notes in RESULTS.md on all results of this world.
    """

    name: str
    title: str
    overlay: str | None = None
    training_settings: Settings = ()
    notes: str = ""

    def configs(self, overlays: Sequence[str]) -> tuple[str, ...]:
        """Return the base config, the given overlays and the world's overlay, in this order."""
        files = (f"{overlay}.yaml" for overlay in overlays)
        return (_BASE, *files, *([self.overlay] if self.overlay else []))


@dataclass(frozen=True)
class Training:
    """One run of `fit`.

    Attributes:
        name: name of the results file and start of the folder's name. Two trainings with the same
            configs and settings have the same name.
        configs: config files in order, relative to experiments/.
        settings: settings that override the configs.
    """

    name: str
    configs: tuple[str, ...]
    settings: Settings

    def arguments(self, experiments: Path) -> list[str]:
        """Return the arguments of the command line, without a folder."""
        return ["fit", *_options(experiments, self.configs, self.settings)]


@dataclass(frozen=True)
class Evaluation:
    """One run of `validate` on the last checkpoint of a training.

    See `docs/deviations.md` (last-checkpoint).

    Attributes:
        name: unique among the evaluations of the training.
        training: training whose last checkpoint is evaluated.
        configs: config files in order, relative to experiments/.
        settings: settings that override the configs.
    """

    name: str
    training: Training
    configs: tuple[str, ...]
    settings: Settings

    def arguments(self, experiments: Path) -> list[str]:
        """Return the arguments of the command line, without checkpoint and folder."""
        return ["validate", *_options(experiments, self.configs, self.settings)]


Seed = tuple[tuple[Evaluation, ...], ...]
"""evaluations of one seed, indexed by fold and then by benchmark of the table"""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: name in the paper.
        columns: metric by column title; the metric is a key of a results file without "val/".
        paper: published numbers by column title, in percent.
        seeds: evaluations of each seed. The result of a seed is the mean over its folds.
    """

    name: str
    columns: Mapping[str, str]
    paper: Mapping[str, float]
    seeds: tuple[Seed, ...]


def alignment(seed: int) -> Evaluation:
    """Return the experiment on CLIP alone (Table 2); its training has no configs and is not run."""
    name = f"alignment+seed={seed}" if seed else "alignment"
    return Evaluation("alignment", Training(name, (), (("seed_everything", seed),)), (), ())


@dataclass(frozen=True)
class Table:
    """One table of the paper in one world.

    Attributes:
        key: key for `--only`.
        title: title in RESULTS.md.
        notes: text below the table: what to consider when comparing with the paper.
        rows: rows in order.
        decimals: number of printed decimals, as in the paper.
    """

    key: str
    title: str
    notes: str
    rows: tuple[Row, ...]
    decimals: int = 1

    @property
    def columns(self) -> list[str]:
        """Column titles, in the order of the first row."""
        return list(self.rows[0].columns)


@dataclass(frozen=True)
class Claim:
    """A claim that one result is higher than another.

    Attributes:
        text: the claim in words.
        left: table, row and column of the result that should be higher.
        right: table, row and column of the result that should be lower.
        share: the left result must exceed `share` times the right result.
        why: reason why the claim does not hold in this world, printed unless the claim holds.
    """

    text: str
    left: tuple[str, str, str]
    right: tuple[str, str, str]
    share: float = 1.0
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """All tables of one world."""

    world: World
    tables: tuple[Table, ...]
    claims: tuple[Claim, ...]

    def row(self, key: str, name: str) -> Row:
        """Return a row by the key of its table and its name.

        Raises:
            ValueError: if there is no such row.
        """
        for table in self.tables:
            for row in table.rows:
                if (table.key, row.name) == (key, name):
                    return row
        raise ValueError(f"no row {name!r} in table {key}")

    def evaluations(self, only: Sequence[str] = ()) -> list[Evaluation]:
        """Return each evaluation once, grouped by training, the first seed of all rows first.

        Args:
            only: keys of tables; all tables if empty.
        """
        tables = (table for table in self.tables if not only or table.key in only)
        rows = (row.seeds for table in tables for row in table.rows)
        wanted = (
            evaluation
            for seeds in zip_longest(*rows, fillvalue=())
            for seed in seeds
            for fold in seed
            for evaluation in fold
        )
        unique = list(dict.fromkeys(wanted))
        order = list(dict.fromkeys(evaluation.training for evaluation in unique))
        return sorted(unique, key=lambda evaluation: order.index(evaluation.training))


def _options(experiments: Path, configs: Sequence[str], settings: Settings) -> list[str]:
    files = [f"--config={experiments / config}" for config in configs]
    return [*files, *(f"--{key}={value}" for key, value in settings)]
