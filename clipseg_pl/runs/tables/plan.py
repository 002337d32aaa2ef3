"""Which runs make which table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipseg_pl.weights.places import TOY

WORLDS = (TOY, "paper")
_BASE = "pc_plus.yaml"
Settings = tuple[tuple[str, Any], ...]
"""dotted keys and values, set behind all overlays"""


@dataclass(frozen=True)
class World:
    """Where tables are made: on the paper's data, or on the toy world.

    Attributes:
        name: "paper" or "toy".
        title: for the reader.
        overlay: laid over every run, below experiments/.
        training_settings: of every training.
        notes: what must be known of all its figures.
    """

    name: str
    title: str
    overlay: str | None = None
    training_settings: Settings = ()
    notes: str = ""

    def configs(self, overlays: Sequence[str]) -> tuple[str, ...]:
        """Base, overlays, world."""
        named = (f"{overlay}.yaml" for overlay in overlays)
        return (_BASE, *named, *([self.overlay] if self.overlay else []))


@dataclass(frozen=True)
class Training:
    """One run of `fit`.

    Attributes:
        name: of its folder and its evidence, equal for equal runs.
        configs: files below experiments/, in their order.
        settings: behind them.
    """

    name: str
    configs: tuple[str, ...]
    settings: Settings

    def arguments(self, experiments: Path) -> list[str]:
        """The command line, without a folder."""
        return ["fit", *_options(experiments, self.configs, self.settings)]


@dataclass(frozen=True)
class Evaluation:
    """One run of `validate` on what a training left.

    Attributes:
        name: unique among the evaluations of the training.
        training: whose last checkpoint is evaluated.
        configs: files below experiments/, in their order.
        settings: behind them.
    """

    name: str
    training: Training
    configs: tuple[str, ...]
    settings: Settings

    def arguments(self, experiments: Path) -> list[str]:
        """The command line, without checkpoint and folder."""
        return ["validate", *_options(experiments, self.configs, self.settings)]


Seed = tuple[tuple[Evaluation, ...], ...]
"""of each fold, its evaluations under the table's benchmarks"""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: as the paper has it.
        columns: title -> metric, as a results file names it without "val/".
        paper: printed figures by column title, in percent.
        seeds: the runs of each seed; figures are means over its folds.
    """

    name: str
    columns: Mapping[str, str]
    paper: Mapping[str, float]
    seeds: tuple[Seed, ...]


ALIGNMENT = Evaluation("alignment", Training("alignment", (), ()), (), ())
"""the experiment on CLIP alone, which trains nothing"""


@dataclass(frozen=True)
class Table:
    """One table of the paper in one world.

    Attributes:
        key: as `--only` takes it.
        title: for the reader.
        notes: what must be known to compare it.
        rows: its lines.
        decimals: that the paper prints.
    """

    key: str
    title: str
    notes: str
    rows: tuple[Row, ...]
    decimals: int = 1

    @property
    def columns(self) -> list[str]:
        """Titles, in the order of the first row."""
        return list(self.rows[0].columns)


@dataclass(frozen=True)
class Claim:
    """One figure that should be above another.

    Attributes:
        says: the claim.
        left: table, row and column.
        right: table, row and column.
        share: of the right figure, that the left one must exceed.
    """

    says: str
    left: tuple[str, str, str]
    right: tuple[str, str, str]
    share: float = 1.0


@dataclass(frozen=True)
class Plan:
    """All tables of one world."""

    world: World
    tables: tuple[Table, ...]
    claims: tuple[Claim, ...]

    def evaluations(self, only: Sequence[str] = ()) -> list[Evaluation]:
        """Each evaluation once, those of one training together."""
        wanted = (
            evaluation
            for table in self.tables
            if not only or table.key in only
            for row in table.rows
            for seed in row.seeds
            for fold in seed
            for evaluation in fold
        )
        unique = list(dict.fromkeys(wanted))
        order = list(dict.fromkeys(evaluation.training for evaluation in unique))
        return sorted(unique, key=lambda evaluation: order.index(evaluation.training))


def _options(experiments: Path, configs: Sequence[str], settings: Settings) -> list[str]:
    files = [f"--config={experiments / config}" for config in configs]
    return [*files, *(f"--{key}={value}" for key, value in settings)]
