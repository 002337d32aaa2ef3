"""Files that are there whole or not at all."""

import json
import os
from collections.abc import Callable, Mapping
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
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, lambda stream: stream.write(text.encode()))
