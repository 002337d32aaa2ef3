"""Files written whole or not at all, and whether they can be, before any work is done."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

LONGEST_NAME = 255 - len(b"..4194304.tmp")
"""bytes of a file's name, so that file systems also take the one it has until it is whole"""


def write_whole(file: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file under another name first, so that it is there whole or not at all.

    Raises:
        OSError: naming the file, which is then as it was before: the disk is full, for example.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as stream:
            fill(stream)
        os.replace(draft, file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"{file} could not be written and is as it was ({reason})") from error
    finally:
        draft.unlink(missing_ok=True)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON to be read by people, in a folder that is made if missing; see `write_whole`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(content, indent=1, sort_keys=True) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 text; see `write_whole`."""
    write_whole(file, lambda stream: stream.write(text.encode()))


def check_file(file: Path, overwrite: bool = False) -> None:
    """Refuse a file that could not be written; its folder may be missing.

    Raises:
        OSError: naming a folder or file in its place, or a folder that may not be written to.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder: name a file in it")
    if file.exists() and not overwrite:
        raise FileExistsError(f"{file} exists; --overwrite replaces it")
    check_folders([file.parent])


def check_folders(folders: Iterable[Path]) -> None:
    """Refuse folders that could not be made or written to.

    Raises:
        OSError: naming a file in the place of one, or one that may not be written to.
    """
    for folder in dict.fromkeys(folders):
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not there.is_dir():
            raise NotADirectoryError(f"{there} is a file: results need a folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(f"{there}: may not be written to; give another folder")
