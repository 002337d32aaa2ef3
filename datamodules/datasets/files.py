"""What lies on disk, and what should."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath


class DatasetNotFoundError(FileNotFoundError):
    """A dataset is absent, or half of it is."""

    missing: Sequence[str] = ()
    """its parts that are not there"""
    folder = Path()
    """where they were looked for"""
    source: str = ""
    """where to get them"""


def require(name: str, folder: Path, parts: Mapping[str, bool], source: str) -> None:
    """Make sure that a dataset is whole before anything is read.

    Args:
        name: of the dataset.
        folder: where it was looked for.
        parts: what belongs to it, and whether it is there.
        source: where to get it.

    Raises:
        DatasetNotFoundError: naming folder, parts found, parts missing, and the source.
    """
    missing = [part for part, present in parts.items() if not present]
    if missing:
        found = [part for part, present in parts.items() if present]
        error = DatasetNotFoundError(
            f"{name}: looked in {folder}; found {', '.join(found) or 'nothing'}; missing "
            f"{', '.join(missing)}. Get it from {source} and set --data.init_args.root (--root of "
            f"alignment) to the folder that holds {folder.name}"
        )
        error.missing, error.folder, error.source = missing, folder, source
        raise error


def stays_below(name: str) -> bool:
    """Whether a name that was read leads nowhere but below the folder that it is looked for in."""
    path = PurePath(name)
    return not path.is_absolute() and ".." not in path.parts


def cache_folder() -> Path:
    """Where indexes are kept: `CLIPSEG_CACHE`, else clipseg_pl under the user's cache folder.

    Datasets themselves are never written to; they are often read-only and shared.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("CLIPSEG_CACHE") or f"{base}/clipseg_pl").expanduser()
