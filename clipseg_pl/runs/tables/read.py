"""Reader of experiments/tables.yaml."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clipseg_pl.protocols.alignment import LARGE, MASKINGS, PAPER
from clipseg_pl.runs.tables.plan import (
    WORLDS,
    Claim,
    Evaluation,
    Plan,
    Row,
    Settings,
    Table,
    Training,
    World,
    alignment,
)

_WORLD_KEYS = {"title", "overlay", "training_settings", "notes"}
_TABLE_KEYS = {"title", "notes", "benchmarks", "columns", "folds", "seeds", "settings", "rows"}
_ALIGNMENT_KEYS = {"title", "notes", "alignment", "columns", "seeds"}
_ROW_KEYS = {
    "training", "training_settings", "settings", "benchmarks", "evaluation", "columns", "paper",
    "world", "seeds",
}  # fmt: skip
_CLAIM_KEYS = {"says", "left", "right", "share", "why"}


def read_plan(file: Path, world: str) -> Plan:
    """Read the tables of a world.

    Args:
        file: path of tables.yaml.
        world: one of `WORLDS`.

    Raises:
        ValueError: if a world, table, row or claim has an unknown key or lacks a required key, or
            refers to an unknown world, row or column.
    """
    content = yaml.safe_load(file.read_text())
    parts = ("worlds", "tables", "claims")
    _check_keys(str(file), content, {*parts}, required=parts)
    _check_keys("worlds", content["worlds"], {*WORLDS}, required=WORLDS)
    entry = content["worlds"][world]
    _check_keys(f"world {world}", entry, _WORLD_KEYS, required=("title",))
    settings = _settings(entry.get("training_settings"))
    notes = entry.get("notes", "")
    chosen = World(world, entry["title"], entry.get("overlay"), settings, notes)
    claims = tuple(_claim(entry, world) for entry in content["claims"])
    tables = [_table(key, table, chosen) for key, table in content["tables"].items()]
    plan = Plan(chosen, tuple(table for table in tables if table.rows), claims)
    for claim in claims:
        for key, name, column in (claim.left, claim.right):
            if column not in plan.row(key, name).columns:
                raise ValueError(f"claim {claim.text!r}: {name!r} in {key} has no column {column}")
    return plan


def _table(key: str, entry: Mapping[str, Any], world: World) -> Table:
    subject, notes = f"table {key}", entry.get("notes", "")
    _check_keys(f"seeds of {subject}", entry.get("seeds", {}), {*WORLDS})
    if entry.get("alignment"):
        _check_keys(subject, entry, _ALIGNMENT_KEYS, required=("title", "columns"))
        seeds = entry.get("seeds", {}).get(world.name, 1)
        return Table(key, entry["title"], notes, _alignment_rows(entry["columns"], seeds), 2)
    _check_keys(subject, entry, _TABLE_KEYS, required=("title", "benchmarks", "columns", "rows"))
    for name, row in entry["rows"].items():
        if row.get("world", world.name) not in WORLDS:
            raise ValueError(f"row {name!r}: world must be one of {', '.join(WORLDS)}")
    rows = (
        _row(name, row, entry, world)
        for name, row in entry["rows"].items()
        if row.get("world", world.name) == world.name
    )
    return Table(key, entry["title"], notes, tuple(rows))


def _claim(entry: Mapping[str, Any], world: str) -> Claim:
    subject = f"claim {entry.get('says', '')!r}"
    _check_keys(subject, entry, _CLAIM_KEYS, required=("says", "left", "right"))
    left, right = tuple(entry["left"]), tuple(entry["right"])
    why = entry.get("why", {})
    _check_keys(f"why of {subject}", why, {*WORLDS})
    return Claim(entry["says"], left, right, entry.get("share", 1.0), why.get(world, ""))


def _check_keys(
    subject: str, entry: Mapping[str, Any], known: set[str], required: Sequence[str] = ()
) -> None:
    if unknown := entry.keys() - known:
        expected = ", ".join(sorted(known))
        raise ValueError(
            f"{subject}: unknown key {', '.join(sorted(unknown))}; expected {expected}"
        )
    if missing := [key for key in required if key not in entry]:
        raise ValueError(f"{subject}: missing key {', '.join(missing)}")


def _alignment_rows(columns: Mapping[str, str], seeds: int) -> tuple[Row, ...]:
    """Return all rows of the alignment experiment, starting with those of the paper."""
    first = next(iter(columns))
    names = dict.fromkeys([*PAPER, *MASKINGS, LARGE])
    return tuple(
        Row(
            name,
            {title: f"alignment/{name}/{column}" for title, column in columns.items()},
            {first: PAPER[name]} if name in PAPER else {},
            tuple(((alignment(seed),),) for seed in range(seeds)),
        )
        for name in names
    )


def _row(name: str, row: Mapping[str, Any], table: Mapping[str, Any], world: World) -> Row:
    _check_keys(f"row {name!r}", row, _ROW_KEYS, required=("training",))
    _check_keys(f"columns of row {name!r}", row.get("columns", {}), {*table["columns"]})
    _check_keys(f"seeds of row {name!r}", row.get("seeds", {}), {*WORLDS})
    columns, printed = {**table["columns"], **row.get("columns", {})}, row.get("paper", [])
    if len(printed) > len(columns):
        raise ValueError(
            f"row {name!r}: paper lists {len(printed)} numbers for {len(columns)} columns"
        )
    seeds = tuple(
        tuple(
            tuple(
                _evaluation(row, table, benchmark, fold, seed, world)
                for benchmark in row.get("benchmarks", table["benchmarks"])
            )
            for fold in table.get("folds", [None])
        )
        for seed in range(row.get("seeds", table.get("seeds", {})).get(world.name, 1))
    )
    return Row(name, columns, dict(zip(columns, printed, strict=False)), seeds)


def _evaluation(
    row: Mapping[str, Any],
    table: Mapping[str, Any],
    benchmark: str,
    fold: int | None,
    seed: int,
    world: World,
) -> Evaluation:
    def filled(value: object) -> Any:  # noqa: ANN401 - a value of YAML
        if value == "{fold}":
            return fold
        return value.replace("{fold}", str(fold)) if isinstance(value, str) else value

    overlays = [filled(overlay) for overlay in row["training"]]
    own = {key: filled(value) for key, value in row.get("training_settings", {}).items()}
    own = {key: value for key, value in own.items() if key not in dict(world.training_settings)}
    parts = [Path(overlay).name for overlay in overlays]
    parts += [f"{key.rpartition('.')[2]}={value}" for key, value in own.items()]
    parts += [f"seed={seed}"] if seed else []
    settings = _settings({**own, "seed_everything": seed} if seed else own)
    training = Training(
        "+".join(["pc_plus", *parts]),
        world.configs(overlays),
        (*settings, *world.training_settings),
    )
    options = {**table.get("settings", {}), **row.get("settings", {})}
    options = {key: filled(value) for key, value in options.items()}
    own_overlays = row.get("evaluation", [])
    parts = [benchmark, *(Path(overlay).name for overlay in own_overlays)]
    parts += [f"{key.rpartition('.')[2]}={value}" for key, value in options.items()]
    configs = world.configs([*own_overlays, f"benchmarks/{benchmark}"])
    return Evaluation("+".join(parts), training, configs, _settings(options))


def _settings(options: Mapping[str, Any] | None) -> Settings:
    return tuple((options or {}).items())
