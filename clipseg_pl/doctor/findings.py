"""Findings of the checks, and helpers that the checks share."""

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
"""from best to worst. ok: usable; note: usable, but different from the published data; missing: not
found; wrong: found, but not usable"""
SAMPLE = 200
"""number of files per list that are opened by default"""

T = TypeVar("T")


class Finding(NamedTuple):
    """One line of the report."""

    state: State
    subject: str
    """what was checked"""
    message: str
    """result, and what to do about it"""


def explain(error: Exception) -> str:
    """Format an error as one line.

    The type of the error is included, except for OSError, ValueError and RuntimeError, whose
    messages are written for users.
    """
    message = " ".join(str(error).split())
    if isinstance(error, OSError | ValueError | RuntimeError):
        return message
    return f"unexpected content ({type(error).__name__}: {message})"


def combine(subject: str, parts: Sequence[tuple[State, str]]) -> Finding:
    """Combine messages about one subject into one finding with the worst of their states."""
    worst = max((state for state, _ in parts), key=STATES.index)
    return Finding(worst, subject, "; ".join(message for _, message in parts if message))


def missing_parts(root: Path, *reads: Callable[[], object]) -> list[Finding]:
    """Return a finding for each missing part of a dataset.

    Args:
        root: folder that contains the dataset.
        reads: functions that raise DatasetNotFoundError if a part is missing. Their ValueErrors
            are ignored, because the caller calls the same functions again and reports them.
    """
    missing = {}
    for read in reads:
        try:
            read()
        except DatasetNotFoundError as error:
            for part in error.missing:
                path = str(error.folder.relative_to(root) / part)
                missing[path] = Finding("missing", path, f"download it from {error.source}")
        except ValueError:
            continue
    return list(missing.values())


def missing_folder(folder: Path, source: str) -> Finding:
    """Return the finding for a dataset whose folder does not exist."""
    where = f"not found in {folder.parent}"
    message = f"{where}: download it from {source}, or set another folder with --root"
    return Finding("missing", folder.name, message)


def compare_published(
    found: Sequence[int], published: Sequence[int], template: str, toy: bool
) -> tuple[State, str]:
    """Compare numbers of files or annotations with the published ones.

    Args:
        found: numbers found.
        published: numbers of the published dataset.
        template: format string for the numbers, such as "{:,} photos".
        toy: whether the dataset belongs to the toy world (small generated datasets). If so, the
            numbers are not compared.
    """
    message = template.format(*found)
    if toy:
        return "ok", f"{message} (toy world)"
    if list(found) == list(published):
        return "ok", f"{message}, as published"
    return "note", f"{message} (published: {template.format(*published)})"


def subsample(items: Sequence[T], every: bool) -> Sequence[T]:
    """Return all items, or `SAMPLE` of them at even distances."""
    if every or len(items) <= SAMPLE:
        return items
    return [items[index] for index in np.linspace(0, len(items) - 1, SAMPLE).round().astype(int)]


def checked_of(checked: Sequence[T], items: Sequence[T]) -> str:
    """Format how many items of a list were checked."""
    whole = len(checked) == len(items)
    return f"all {len(items):,}" if whole else f"{len(checked):,} of {len(items):,}"


def read_photos(
    items: Sequence[T], read: Callable[[T], object], dataset: str, every: bool
) -> Iterator[tuple[State, str]]:
    """Read photos, and yield how many were read and how many of them are not usable.

    Args:
        items: one item per photo.
        read: function that raises OSError or ValueError for an item whose photo is not usable.
        dataset: name of the dataset.
        every: whether to read all photos instead of `SAMPLE` of them.
    """
    opened, problems = subsample(items, every), list[str]()
    with show_status(f"reading photos of {dataset}"):
        for item in opened:
            try:
                read(item)
            except (OSError, ValueError) as error:
                problems.append(str(error))
    if opened:
        yield "ok", f"{checked_of(opened, items)} photos checked"
    if problems:
        yield "wrong", f"{len(problems):,} of them are not usable (first: {problems[0]})"


@contextmanager
def show_status(status: str) -> Iterator[None]:
    """Show a status message on terminals while the body runs."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(status):
        yield
