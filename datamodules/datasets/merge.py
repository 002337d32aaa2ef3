"""Several tables as one dataset, with classes renamed, joined or left out."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, cast

import numpy as np

from clipseg_pl.prompts.text import normalise_phrase
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import Annotations, Positions, class_phrase
from datamodules.datasets.files import read_yaml
from datamodules.datasets.phrase_table import Rows, Strings

Phrasings = Mapping[str, tuple[str, ...]]
"""class -> its phrasings, none to leave it out"""

_HINT = "write class: phrase, class: [phrase, another phrase], or class: null to leave it out"
_INCOMPLETE = "masks left incomplete by a skipped row or annotation"


def read_phrasings(setting: Mapping[str, Any] | str, root: Path) -> Phrasings:
    """Read phrasings of classes.

    Args:
        setting: class -> phrase, list of phrases, or None; or a YAML or JSON file with such a
            mapping.
        root: folder that the file is relative to.

    Returns:
        Phrasings of each class. Class names are compared without case, with underscores as blanks.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if the file or the mapping is malformed, or a class occurs twice.
    """
    where, content = "phrases", cast(object, setting)
    if isinstance(setting, str):
        file = root / Path(setting).expanduser()
        where = str(file)
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; set --data.init_args.phrases")
        content = read_yaml(file)
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: not a mapping from classes to phrases; {_HINT}")
    found: dict[str, tuple[str, ...]] = {}
    for name, value in content.items():
        phrases = [value] if isinstance(value, str) else [] if value is None else value
        if not isinstance(phrases, list) or not all(
            isinstance(phrase, str) and phrase.strip() for phrase in phrases
        ):
            raise ValueError(f"{where}: {name} has the phrases {value!r:.60}; {_HINT}")
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise ValueError(f"{where}: class {name} is not a string; put it in quotes")
        key = class_phrase(str(name))
        if key in found:
            raise ValueError(f"{where}: class {key} occurs twice")
        found[key] = tuple(dict.fromkeys(map(normalise_phrase, phrases)))
    return found


def complete_phrasings(
    given: Phrasings, tables: Sequence[Annotations], all_tables: bool = True
) -> Phrasings:
    """Add the classes of the tables that have no phrasings; their phrase is their own name.

    Args:
        given: phrasings from `read_phrasings`.
        tables: the tables of the dataset.
        all_tables: whether no table is missing, so that the other classes in `given` are errors.

    Returns:
        Class as in `Annotations.phrases` -> its phrasings.

    Raises:
        ValueError: if no table has a given class, or a phrase is in two different lists.
    """
    used = [table.phrases[index] for table in tables for index in range(len(table.phrases))]
    known = {class_phrase(name) for name in (*used, *(name for t in tables for name in t.unused))}
    unknown = [name for name in given if name not in known]
    if unknown and all_tables:
        raise ValueError(
            f"phrases: no table has a class {', '.join(unknown)}; classes: "
            f"{', '.join(sorted(known))}"
        )
    every = {name: given.get(class_phrase(name), (name,)) for name in used}
    list_of: dict[str, tuple[str, ...]] = {}
    for phrasings in every.values():
        for phrase in phrasings:
            if list_of.setdefault(phrase, phrasings) != phrasings:
                raise ValueError(
                    f"phrases: {phrase!r} is in two different lists, {list(list_of[phrase])} and "
                    f"{list(phrasings)}; give classes the same list to join them"
                )
    return every


@dataclass(frozen=True)
class _Parts:
    """Function that takes a row of a merged table and lists the rows that it is made of.

    Args:
        table: (parts,) int64, index of a table.
        row: (parts,) int64, row in the table.
        offsets: (rows + 1,) int64, first part of each merged row.
    """

    table: Rows
    row: Rows
    offsets: Rows

    def __call__(self, row: int) -> Iterator[tuple[int, int]]:
        """Yield table and row of each part."""
        own = slice(self.offsets[row], self.offsets[row + 1])
        return zip(self.table[own].tolist(), self.row[own].tolist(), strict=True)


@dataclass(frozen=True)
class _Masks:
    """Function that takes a row of a merged table and unites the masks of its parts."""

    parts: _Parts
    read: Sequence[Callable[[int], Mask]]

    def __call__(self, row: int) -> Mask:
        """Read the mask of a row, (H, W) bool."""
        return reduce(np.logical_or, (self.read[table](own) for table, own in self.parts(row)))


@dataclass(frozen=True)
class _Valid:
    """Function that takes a row of a merged table and reads the pixels that no part ignores."""

    parts: _Parts
    read: Sequence[Callable[[int], Mask | None] | None]

    def __call__(self, row: int) -> Mask | None:
        """Read the pixels to use, (H, W) bool; None for all pixels."""
        readers = ((self.read[table], own) for table, own in self.parts(row))
        masks = [read(own) for read, own in readers if read is not None]
        used = [mask for mask in masks if mask is not None]
        return reduce(np.logical_and, used) if used else None


def merge(
    tables: Sequence[Annotations], phrasings: Phrasings | None = None, across: bool = False
) -> Annotations:
    """Merge tables, and apply the phrasings of their classes.

    A photo file in several tables becomes one photo. Its masks of the same phrase are united.

    Args:
        tables: at least one table.
        phrasings: phrasings of all classes from `complete_phrasings`; None to keep the classes.
        across: whether a photo can be a negative for phrases of all tables; by default only of its
            own tables, because objects of other tables may be present without annotation.

    Returns:
        One table. Photo names are relative to the common folder of all tables. A single table
        without phrasings and without masks to unite is returned as it is.
    """
    if len(tables) == 1 and phrasings is None and not tables[0].has_masks_to_unite():
        return tables[0]
    folder = Path(os.path.commonpath([os.path.abspath(table.folder) for table in tables]))
    photo_of, phrase_of = Positions(), Positions()
    phrasings_of: dict[str, tuple[str, ...]] = {}
    sizes: dict[int, list[int]] = {}
    tables_of = defaultdict[int, set[int]](set)
    parts, gaps, annotated, vocabulary = [], [], [], []
    for number, table in enumerate(tables):
        names = (os.path.relpath(file, folder) for file in table.photo_files())
        photos = np.array([photo_of[name] for name in names], np.int64)
        for photo, size in zip(photos.tolist(), table.sizes.tolist(), strict=True):
            sizes[photo] = size
            tables_of[photo].add(number)
        classes = [table.phrases[index] for index in range(len(table.phrases))]
        own = [(name,) if phrasings is None else phrasings[name] for name in classes]
        phrasings_of |= {words[0]: words for words in own if words}
        phrases = np.array([phrase_of[words[0]] if words else -1 for words in own], np.int64)
        rows = np.arange(len(table.photo))
        boxes = np.zeros_like(rows) if table.row_boxes is None else table.row_boxes
        origin = np.full_like(rows, number), rows
        parts.append([photos[table.photo], phrases[table.phrase], *origin, boxes])
        gaps.append([photos[table.unknown[:, 0]], phrases[table.unknown[:, 1]]])
        annotated.append(np.union1d(phrases[table.phrase], phrases[table.vocabulary]))
        vocabulary.append(phrases[table.vocabulary])
    part, unknown = np.concatenate(parts, 1), np.unique(np.concatenate(gaps, 1), axis=1)
    part, unknown = part[:, part[1] >= 0], unknown[:, unknown[1] >= 0]
    of_tables = np.array([np.isin(np.arange(len(phrase_of)), own) for own in annotated])
    task, without = (pair[0] * len(phrase_of) + pair[1] for pair in (part, unknown))
    usable = ~np.isin(task, without)
    part = part[:, usable]
    _, start, index = np.unique(task[usable], return_index=True, return_inverse=True)
    first, row = np.unique(start[index], return_inverse=True)  # rows in the order of first parts
    order = np.argsort(row, kind="stable")
    offsets = np.cumsum([0, *np.bincount(row, minlength=len(first))])
    made_of = _Parts(part[2, order], part[3, order], offsets)
    boxes = np.bincount(row, part[4], len(first)).astype(np.int64)
    valid = [table.valid for table in tables]
    groups, group = _groups([tables_of[photo] for photo in range(len(photo_of))])
    return Annotations(
        file=tables[0].file if len(tables) == 1 else folder,
        folder=folder,
        photos=Strings.pack(list(photo_of)),
        sizes=np.array([sizes[photo] for photo in range(len(photo_of))], np.int32).reshape(-1, 2),
        phrases=Strings.pack(list(phrase_of)),
        photo=part[0, first],
        phrase=part[1, first],
        number=tables[0].number[part[3, first]] if len(tables) == 1 else np.arange(len(first)) + 1,
        masks=_Masks(made_of, [table.masks for table in tables]),
        skipped={} if usable.all() else {_INCOMPLETE: int((~usable).sum())},
        valid=_Valid(made_of, valid) if any(valid) else None,
        row_boxes=boxes,
        unknown=unknown.T.copy(),
        phrasings={first: words for first, words in phrasings_of.items() if len(words) > 1},
        group=None if across else group,
        annotated_phrases=(
            None if across else np.stack([of_tables[list(tables)].any(0) for tables in groups])
        ),
        vocabulary=np.setdiff1d(np.concatenate(vocabulary), -1),
    )


def _groups(tables_of: Sequence[set[int]]) -> tuple[list[frozenset[int]], Rows]:
    """Return the different sets of tables, and the index of each photo's set."""
    index: dict[frozenset[int], int] = {}
    group = [index.setdefault(frozenset(tables), len(index)) for tables in tables_of]
    return list(index), np.array(group, np.int64)
