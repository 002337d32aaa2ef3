"""Files that are there whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

LONGEST_NAME = 255 - len(b"..4194304.tmp")
"""bytes of a file's name, so that file systems also take the one it has until it is whole"""


def write_whole(file: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file under another name first, so that it is there whole or not at all."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as stream:
            fill(stream)
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)
