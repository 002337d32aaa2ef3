"""A table of phrases (CSV or JSONL) beside photos and masks."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from datamodules.datasets.annotations import (
    EMPTY,
    NO_PHRASE,
    Annotations,
    Positions,
    refuse_unusable,
    words,
)
from datamodules.datasets.own_masks import WHOLE, OwnMasks, check_files
from datamodules.datasets.phrase_table import Strings

_COLUMNS = ("image", "mask", "phrase")
_SAVE_AS = "save it as UTF-8 with commas between cells"
_DIGITS = 9
"""of a label, at most; pictures hold no larger numbers than 32 bits"""


def read_table(file: Path, images: Path, masks: Path) -> Annotations:
    """Read a table of phrases and look at every photo's header and every mask.

    Its columns are `image`, `mask`, `phrase` and perhaps `label`; a row is a task, and a photo may
    have several. How masks are read is told by `marked`.

    Args:
        file: CSV with a header, or JSONL with an object a line (`.jsonl`).
        images: folder that the names of photos start from.
        masks: folder that the names of masks start from.

    Raises:
        DatasetNotFoundError: if photos or masks are missing.
        UnreadableImageError: if a mask cannot be one.
        ValueError: if a column or a value is missing, a mask is not of its photo's size, a label
            is in none of its masks, or no row can be used.
    """
    photo_of, mask_of, phrase_of = (Positions() for _ in range(3))
    rows: list[tuple[int, int, int, int, int]] = []
    skipped: Counter[str] = Counter()
    try:
        for line, row in _read_rows(file):
            text = words(_cell(line, row, "phrase"))
            if not text:
                skipped[NO_PHRASE] += 1
                continue
            own_photo, own_mask = (_file(line, row, column) for column in ("image", "mask"))
            own_label = _label(line, row)
            rows.append((line, photo_of[own_photo], mask_of[own_mask], phrase_of[text], own_label))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is not UTF-8 ({error.reason}); {_SAVE_AS}") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    number, photo, mask, phrase, label = np.array(rows, np.int64).reshape(-1, 5).T.copy()
    photos, names = Strings.pack(list(photo_of)), Strings.pack(list(mask_of))
    every = OwnMasks(masks, names, mask, label)
    sizes, covers = check_files(file, images, photos, photo, every, number)
    skipped[EMPTY] += int((~covers).sum())
    left_out = refuse_unusable(file, int(covers.sum()), skipped)
    return Annotations(
        file=file,
        folder=images,
        photos=photos,
        sizes=sizes,
        phrases=Strings.pack(list(phrase_of)),
        photo=photo[covers],
        phrase=phrase[covers],
        number=number[covers],
        masks=OwnMasks(masks, names, mask[covers], label[covers]),
        skipped=left_out,
    )


def _read_rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a table with the lines that they are on, from 1."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        if file.suffix.lower() == ".jsonl":
            for number, text in enumerate(stream, 1):
                if text.strip():
                    yield number, _read_object(number, text)
            return
        rows = _read_csv(stream)
        columns = [name.strip().lower() for _, cells in islice(rows, 1) for name in cells]
        _require_columns("its first line", columns)
        twice = [column for column in (*_COLUMNS, "label") if columns.count(column) > 1]
        if twice:
            raise ValueError(f"its first line has {twice[0]} twice; a row has one")
        for line, cells in rows:
            if len(cells) > len(columns):
                raise ValueError(
                    f"line {line} has more cells than columns; a phrase with commas "
                    'belongs into double quotes: "small, red bird"'
                )
            yield line, dict(zip(columns, cells, strict=False))


def _read_csv(stream: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each of one line; csv would read on behind a forgotten quote."""
    reader = csv.reader(stream, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"line {line}: {error}; a cell that begins with a double quote must end with one, "
                "and those within are doubled"
            ) from error
        if any("\n" in cell or "\r" in cell for cell in cells):
            raise ValueError(
                f"line {line} has a cell that goes on in the next line; is there a double quote "
                "that is not closed?"
            )
        if cells:
            yield line, cells


def _read_object(number: int, text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise ValueError(f"line {number} is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is not a JSON object with {', '.join(_COLUMNS)}")
    _require_columns(f"line {number}", list(row))
    return row


def _require_columns(where: str, found: list[str]) -> None:
    missing = [column for column in _COLUMNS if column not in found]
    if missing:
        hint = f"; {_SAVE_AS}" if any(set(name) & set(";\t\0") for name in found) else ""
        raise ValueError(
            f"{where} lacks {', '.join(missing)}; it has {', '.join(found) or 'nothing'}{hint}"
        )


def _cell(line: int, row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"line {line}: {column} is {json.dumps(value)[:40]}, where text belongs")
    return value.strip()


def _file(line: int, row: Mapping[str, Any], column: str) -> str:
    name = _cell(line, row, column)
    if not name:
        raise ValueError(f"line {line} has no {column}")
    if "\0" in name or len(name.splitlines()) > 1:
        raise ValueError(f"line {line}: {column} {name!r} is no name of a file; {_SAVE_AS}")
    if "\\" in name and os.sep == "/":
        raise ValueError(f"line {line}: {column} {name} has backslashes; write paths with /")
    return os.path.normpath(name)


def _label(line: int, row: Mapping[str, Any]) -> int:
    """A value in a map of labels; `WHOLE` where none is given."""
    given = row.get("label")
    written = "" if given is None else str(given).strip()
    if not written:
        return WHOLE
    digits = written.removesuffix(".0")  # pandas' way, where some rows have no label
    if not digits.isdecimal() or len(digits) > _DIGITS:
        raise ValueError(f"line {line}: label {given!r} is not a whole number from 0 on")
    return int(digits)
