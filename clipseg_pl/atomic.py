"""Atomic file writing, and checks of output paths before the work starts."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

LONGEST_NAME = 255 - len(b"..4194304.tmp")
"""maximal length of a file name in bytes; leaves room for the temporary name in `write_whole`"""


def write_whole(file: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file atomically: write a temporary file, then rename it.

    Raises:
        OSError: if writing fails, for example on a full disk. An existing file is unchanged.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as stream:
            fill(stream)
        os.replace(draft, file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"{file} could not be written and is unchanged ({reason})") from error
    finally:
        draft.unlink(missing_ok=True)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON atomically. A missing parent folder is created."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(content, indent=1, sort_keys=True) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 text atomically, see `write_whole`."""
    write_whole(file, lambda stream: stream.write(text.encode()))


def check_file(file: Path, overwrite: bool = False) -> None:
    """Check that a file can be written. Its parent folders may be missing.

    Raises:
        OSError: if the path is a folder or an existing file that must not be overwritten, or if
            its folder cannot be created or written to.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; give the path of a file")
    if file.exists() and not overwrite:
        raise FileExistsError(f"{file} exists; --overwrite replaces it")
    check_folders([file.parent])


def check_folders(folders: Iterable[Path]) -> None:
    """Check that folders exist or can be created, and that they are writable.

    Raises:
        OSError: if a folder or one of its parents is a file, or if it is not writable.
    """
    for folder in dict.fromkeys(folders):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is a file; a folder is needed for the results")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(f"{existing} is not writable; choose another folder")
