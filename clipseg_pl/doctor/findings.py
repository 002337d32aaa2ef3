"""What a check says, and how much of a long list it reads."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from rich.console import Console

from datamodules.datasets.files import DatasetNotFoundError

State = Literal["ok", "note", "missing", "wrong"]
STATES: tuple[State, ...] = ("ok", "note", "missing", "wrong")
"""from the best to the worst: as it should be; works, but is not what the paper has; not there;
there, but cannot be used"""
SAMPLE = 200
"""files of a list that are opened unless all of them are asked for"""

T = TypeVar("T")


class Finding(NamedTuple):
    """One line of the report."""

    state: State
    thing: str
    """what was looked at"""
    says: str
    """what was found, and what to do"""


def explain(error: Exception) -> str:
    """An error in one line; with its kind, if nobody wrote it for users."""
    said = " ".join(str(error).split())
    if isinstance(error, OSError | ValueError | RuntimeError):
        return said
    return f"cannot be understood ({type(error).__name__}: {said})"


def sum_up(thing: str, parts: Sequence[tuple[State, str]]) -> Finding:
    """Several findings about one thing as one line, with the worst of their states."""
    worst = max((state for state, _ in parts), key=STATES.index)
    return Finding(worst, thing, "; ".join(says for _, says in parts if says))


def missing_parts(root: Path, *reads: Callable[[], object]) -> list[Finding]:
    """A line for each part of a dataset that one of some functions does not find below `root`.

    What else they raise is left to whoever calls them for what they return.
    """
    missing = {}
    for read in reads:
        try:
            read()
        except DatasetNotFoundError as error:
            for part in error.missing:
                place = str(error.folder.relative_to(root) / part)
                missing[place] = Finding("missing", place, f"get it from {error.source}")
        except ValueError:
            continue
    return list(missing.values())


def no_folder(folder: Path, source: str) -> Finding:
    """The line for a dataset of which nothing is there."""
    says = f"not in {folder.parent}: get it from {source}, or name another folder with --root"
    return Finding("missing", folder.name, says)


def beside_published(
    found: Sequence[int], published: Sequence[int], what: str, drawn: bool
) -> tuple[State, str]:
    """Numbers found, and whether they are the published ones.

    Args:
        found: as many numbers as `what` has places for.
        published: those of the whole dataset.
        what: says what they count, with a format of each.
        drawn: they are the toy world's, which has numbers of its own.
    """
    says = what.format(*found)
    if drawn:
        return "ok", f"{says}, drawn"
    if list(found) == list(published):
        return "ok", f"{says}, as published"
    return "note", f"{says}; published are {what.format(*published)}"


def spread(items: Sequence[T], every: bool) -> Sequence[T]:
    """All items, or `SAMPLE` of them, evenly spread over the list."""
    if every or len(items) <= SAMPLE:
        return items
    return [items[place] for place in np.linspace(0, len(items) - 1, SAMPLE).round().astype(int)]


def read_of(read: Sequence[T], items: Sequence[T]) -> str:
    """How much of a list was read."""
    return f"all {len(items):,}" if len(read) == len(items) else f"{len(read):,} of {len(items):,}"


@contextmanager
def busy(doing: str) -> Iterator[None]:
    """Say on a terminal what takes a while."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(doing):
        yield
