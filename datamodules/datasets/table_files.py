"""CSV or JSONL tables that list photos, masks and phrases."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from clipseg_pl.prompts.text import normalise_phrase
from datamodules.datasets.annotations import (
    EMPTY,
    NO_PHRASE,
    Annotations,
    Positions,
    reject_unusable,
)
from datamodules.datasets.own_masks import NO_LABEL, OwnMasks, check_files, valid_pixels
from datamodules.datasets.phrase_table import Rows, Strings

_COLUMNS = ("image", "mask", "phrase")
_SAVE_AS = "save it as UTF-8 with commas between cells"
_MAX_DIGITS = 9
"""maximum number of digits of a label; image files store at most 32 bits per pixel"""


def read_table(
    file: Path, images: Path, masks: Path, ignore_label: int | None = None
) -> Annotations:
    """Read a table of phrases, and check the headers of all photos, and all masks.

    The columns are `image`, `mask`, `phrase` and optionally `label`. A photo may have several rows,
    also with the same phrase; `merge` unites their masks. A row with an empty mask is skipped: the
    photo does not show its phrase. See `OwnMasks` for how masks are read.

    Args:
        file: CSV with a header, or JSONL with one object per line (`.jsonl`).
        images: folder that photo names are relative to.
        masks: folder that mask names are relative to.
        ignore_label: value of label maps that marks pixels to ignore, unless a row has this label.

    Raises:
        DatasetNotFoundError: if photos or masks are missing.
        UnreadableImageError: if a mask is unreadable or ambiguous.
        ValueError: if a column or a value is missing, the size of a mask differs from its photo's,
            a label occurs in no mask, or no row is usable.
    """
    photo_of, mask_of, phrase_of = (Positions() for _ in range(3))
    rows: list[tuple[int, int, int, int, int]] = []
    skipped: Counter[str] = Counter()
    try:
        for line, row in _read_rows(file):
            text = normalise_phrase(_cell(line, row, "phrase"))
            if not text:
                skipped[NO_PHRASE] += 1
                continue
            photo_name, mask_name = (_file(line, row, column) for column in ("image", "mask"))
            value = _label(line, row)
            rows.append((line, photo_of[photo_name], mask_of[mask_name], phrase_of[text], value))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 ({error.reason}); {_SAVE_AS}") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    number, photo, mask, phrase, label = np.array(rows, np.int64).reshape(-1, 5).T.copy()
    photos, names = Strings.pack(list(photo_of)), Strings.pack(list(mask_of))
    all_masks = OwnMasks(masks, names, mask, label)
    sizes, usable, stored = check_files(file, images, photos, photo, all_masks)
    _reject_unused_labels(file, label, usable, number)
    skipped[EMPTY] += int((~usable).sum())
    skipped_counts = reject_unusable(file, int(usable.sum()), skipped)
    ignored = stored[stored[:, 1] == ignore_label, 0]
    # the phrase may be among the ignored pixels
    hidden = ~usable & np.isin(mask, ignored) & (ignore_label not in label)
    used_masks = OwnMasks(masks, names, mask[usable], label[usable])
    return Annotations(
        file=file,
        folder=images,
        photos=photos,
        sizes=sizes,
        phrases=Strings.pack(list(phrase_of)),
        photo=photo[usable],
        phrase=phrase[usable],
        number=number[usable],
        masks=used_masks,
        skipped=skipped_counts,
        valid=valid_pixels(used_masks, stored, ignore_label),
        unknown=np.column_stack([photo[hidden], phrase[hidden]]),
    )


def _reject_unused_labels(
    file: Path, label: Rows, usable: npt.NDArray[np.bool_], number: Rows
) -> None:
    unused = np.setdiff1d(label[label != NO_LABEL], label[usable])
    if len(unused):
        rows = np.flatnonzero(label == unused[0])
        raise ValueError(
            f"{file}: label {unused[0]} (line {number[rows[0]]}) occurs in none of the "
            f"{len(rows)} masks of its rows"
        )


def _read_rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the rows of a table with their line numbers, which start at 1."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        if file.suffix.lower() == ".jsonl":
            for number, text in enumerate(stream, 1):
                if text.strip():
                    yield number, _read_object(number, text)
            return
        rows = _read_csv(stream)
        columns = [name.strip().lower() for _, cells in islice(rows, 1) for name in cells]
        _require_columns("the header", columns)
        repeated = [column for column in (*_COLUMNS, "label") if columns.count(column) > 1]
        if repeated:
            raise ValueError(f"the header has two columns named {repeated[0]}")
        for line, cells in rows:
            if len(cells) > len(columns):
                raise ValueError(
                    f"line {line} has more cells than the header; put phrases with commas in "
                    'double quotes: "small, red bird"'
                )
            yield line, dict(zip(columns, cells, strict=False))


def _read_csv(stream: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of each row that is not blank.

    Cells with line breaks are rejected. They usually come from an unclosed quote, after which `csv`
    appends the following lines to the cell.
    """
    reader = csv.reader(stream, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"line {line}: {error}; a cell that starts with a double quote must end with one, "
                "and double quotes within it must be doubled"
            ) from error
        if any("\n" in cell or "\r" in cell for cell in cells):
            raise ValueError(
                f"line {line} has a cell that continues on the next line; check for an unclosed "
                "double quote"
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
            f"{where} lacks {', '.join(missing)}; found: {', '.join(found) or 'nothing'}{hint}"
        )


def _cell(line: int, row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"line {line}: {column} must be a string, not {json.dumps(value)[:40]}")
    return value.strip()


def _file(line: int, row: Mapping[str, Any], column: str) -> str:
    name = _cell(line, row, column)
    if not name:
        raise ValueError(f"line {line} has no {column}")
    if "\0" in name or len(name.splitlines()) > 1:
        raise ValueError(f"line {line}: {column} {name!r} is not a file name; {_SAVE_AS}")
    if "\\" in name and os.sep == "/":
        raise ValueError(f"line {line}: {column} {name} contains backslashes; use / in paths")
    return os.path.normpath(name)


def _label(line: int, row: Mapping[str, Any]) -> int:
    """Return the label of a row, or `NO_LABEL` if the row has none."""
    value = row.get("label")
    text = "" if value is None else str(value).strip()
    if not text:
        return NO_LABEL
    digits = text.removesuffix(".0")  # pandas writes floats if some rows have no label
    if not digits.isdecimal() or len(digits) > _MAX_DIGITS:
        raise ValueError(f"line {line}: label {value!r} is not an integer from 0 to 999999999")
    return int(digits)
