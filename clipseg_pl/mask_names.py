"""Names of files with masks, and what stands in their way."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from clipseg_pl.whole_file import LONGEST_NAME

_LONGEST_PROMPT = 60  # bytes of a prompt in a file's name


def name_files(prompts: Sequence[str]) -> list[str]:
    """Bring prompts to parts of file names: short, in lower case, all different."""
    taken, names = {"overlay", "labels"}, []
    for prompt in prompts:
        name = _cut(re.sub(r"\W+", "_", prompt.lower()), _LONGEST_PROMPT).strip("_") or "prompt"
        number, first = 1, name
        while name in taken:
            number += 1
            name = f"{first}_{number}"
        taken.add(name)
        names.append(name)
    return names


def join_name(stem: str, ending: str) -> str:
    """Both as the name of a file, the stem cut to what file systems take; folders stay."""
    folder, slash, name = stem.rpartition("/")
    return f"{folder}{slash}{_cut(name, LONGEST_NAME - len(os.fsencode(ending)))}{ending}"


def check_inputs(files: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to replace what is read.

    Raises:
        ValueError: naming a file that is an input, whatever path leads to either.
    """
    kept = {_identity(file) for file in inputs if file.exists()}
    for file in files:
        if file.exists() and _identity(file) in kept:
            raise ValueError(f"{file} would replace a photo or an example: write elsewhere")


def _cut(text: str, most: int) -> str:
    """The beginning of a text, in at most so many bytes; no letter is cut in two."""
    encoded = os.fsencode(text)
    return text if len(encoded) <= most else encoded[:most].decode("utf-8", "ignore")


def _identity(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_dev, found.st_ino
