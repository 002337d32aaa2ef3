"""RESULTS.md: every table, ours beside the paper's, and what became of its claims."""

import statistics
from collections.abc import Iterator, Sequence

from clipseg_pl.runs.tables.evidence import Evidence
from clipseg_pl.runs.tables.plan import Claim, Plan, Row, Table

_MISSING = {"missing": "not run", "stale": "stale: run again"}

_HEAD = """\
# Results

Written by `python -m clipseg_pl tables --world toy` (or `paper`), which runs what is missing; do
not edit. Which runs make which table stands in [tables.yaml](tables.yaml); their numbers, with
versions, commit and seconds, in [results](results). All figures are percentages, as the paper's;
those of folds are means over the four. Where a row was run with several seeds, the mean stands
before the least and the greatest. The paper's AP leaves out what lies beyond its first and last
threshold, so it is low where a model is seldom sure; exact AP is the usual average precision.
"""


def results_page(plans: Sequence[tuple[Plan, Evidence]]) -> str:
    """The whole file, one part for each world."""
    parts = [_HEAD]
    for plan, evidence in plans:
        parts.append(f"## On {plan.world.title}\n")
        parts += [f"{plan.world.notes}\n"] if plan.world.notes else []
        if any(table.rows and _run(table, evidence) for table in plan.tables):
            parts.append("\n".join(_claims(plan, evidence)))
        parts += [
            f"![{file.stem.replace('_', ' ')}](results/{file.parent.name}/{file.name})\n"
            for file in sorted((*evidence.folder.glob("*.png"), *evidence.folder.glob("*.jpg")))
        ]
        parts += ["\n".join(_table(table, evidence)) for table in plan.tables]
        parts.append("\n".join(_cost(plan, evidence)))
    return "\n".join(parts).rstrip() + "\n"


def _run(table: Table, evidence: Evidence) -> bool:
    return any(not isinstance(evidence.figures(row), str) for row in table.rows)


def _table(table: Table, evidence: Evidence) -> Iterator[str]:
    yield f"### {table.title}\n"
    columns = table.columns
    printed = [title for title in columns if any(title in row.paper for row in table.rows)]
    heads = ["", *columns, *(f"paper: {title}" for title in printed)]
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'---:|' * (len(heads) - 1)}"
    for row in table.rows:
        found = evidence.figures(row)
        if isinstance(found, str):
            cells = [_MISSING[found], *[""] * (len(columns) - 1)]
        else:
            cells = [figure(found[title], table.decimals) for title in columns]
        paper = [_printed(row, title, table.decimals) for title in printed]
        yield f"| {' | '.join([row.name, *cells, *paper])} |"
    if table.notes:
        yield f"\n{table.notes}"
    yield f"\n`--only {table.key}`\n"


def figure(values: Sequence[float], decimals: int = 1) -> str:
    """Mean, with least and greatest where there are several."""
    mean, least, most = (
        f"{value:.{decimals}f}" for value in (statistics.fmean(values), min(values), max(values))
    )
    return mean if len(values) == 1 else f"{mean} ({least} to {most})"


def _printed(row: Row, title: str, decimals: int) -> str:
    return f"{row.paper[title]:.{decimals}f}" if title in row.paper else ""


def _claims(plan: Plan, evidence: Evidence) -> Iterator[str]:
    yield "### Claims, and whether they show here\n"
    yield "| claim | more | less | here |"
    yield "|---|---|---|---|"
    for claim in plan.claims:
        left, right = (_values(plan, evidence, place) for place in (claim.left, claim.right))
        verdict = _verdict(claim, left, right)
        more, less = (
            f"{place[1]}, {place[2]}: {figure(values) if values else 'not run'}"
            for place, values in ((claim.left, left), (claim.right, right))
        )
        yield f"| {claim.says} | {more} | {less} | {verdict} |"
    yield ""


def _values(plan: Plan, evidence: Evidence, place: tuple[str, str, str]) -> list[float]:
    key, name, column = place
    found = evidence.figures(find_row(plan, key, name))
    return [] if isinstance(found, str) else found[column]


def find_row(plan: Plan, key: str, name: str) -> Row:
    """A row by its table and name.

    Raises:
        KeyError: naming what there is not.
    """
    for table in plan.tables:
        for row in table.rows:
            if (table.key, row.name) == (key, name):
                return row
    raise KeyError(f"no row {name!r} in {key}")


def _verdict(claim: Claim, left: Sequence[float], right: Sequence[float]) -> str:
    """Whether every seed says so, their mean alone, or neither."""
    if not left or not right:
        return "not run"
    if min(left) > claim.share * max(right):
        return "yes" if len(left) > 1 and len(right) > 1 else "yes (one seed)"
    if statistics.fmean(left) > claim.share * statistics.fmean(right):
        return "in the mean, not for every seed"
    return "no"


def _cost(plan: Plan, evidence: Evidence) -> Iterator[str]:
    """How long it all took."""
    wanted = plan.evaluations()
    done = [e for e in wanted if evidence.state(e) == "valid"]
    results = [(evaluation.training, evidence.result(evaluation)) for evaluation in done]
    trainings = {  # the experiment on CLIP alone has none
        training: result["training_seconds"] or 0
        for training, result in results
        if training.configs
    }
    spent = sum(trainings.values()) + sum(result["seconds"] for _, result in results)
    devices = sorted({str(result["device"]) for _, result in results})
    yield (
        f"{len(done)} of {len(wanted)} evaluations, after {len(trainings)} trainings"
        + (f": {spent / 3600:.1f} hours on {', '.join(devices)}." if done else ".")
    )
    yield ""
