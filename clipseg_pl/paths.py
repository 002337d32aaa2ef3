"""What a command reads and writes: whether it is there, and can be, before any work is done."""

import os
from collections.abc import Iterable
from pathlib import Path

TOY = "toy"
TOY_CHECKPOINT = Path(__file__).parent / "models" / "toy" / "toy_pc_plus.ckpt"


def find_checkpoint(name: str | Path) -> Path:
    """The file or folder of a checkpoint; "toy" names the one that comes with the package.

    Raises:
        FileNotFoundError: naming what is not there.
    """
    file = TOY_CHECKPOINT if name == TOY else Path(name).expanduser()
    if not file.exists():
        raise FileNotFoundError(f"no checkpoint {file}")
    return file


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
