"""What lies on disk, and what should."""

import glob
import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


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


def cache_key(version: int, files: Iterable[Path]) -> str:
    """A name in the cache for what was read from files.

    Args:
        version: of the code that reads them.
        files: whose paths, sizes and times of change count; they may be missing.
    """
    stamps = [_stamp(file) for file in files]
    return hashlib.sha256(json.dumps([version, stamps]).encode()).hexdigest()[:16]


def _stamp(file: Path) -> tuple[str, int, int]:
    """What changes when a file does; zeros where there is none."""
    try:
        stat = file.stat()
    except OSError:
        return os.path.abspath(file), 0, 0
    return os.path.abspath(file), stat.st_size, stat.st_mtime_ns


@contextmanager
def drafting(target: Path) -> Iterator[Path]:
    """A folder beside `target` to build it in, for one process at a time.

    Others wait here, and should ask again whether `target` is still missing when they are let in.
    Where a disk has no locks several build at once. What is built must be renamed to `target`, so
    that it appears whole or not at all, and the first of several wins. An empty lock file stays.

    Args:
        target: file or folder; its parent is made if missing.

    Yields:
        An empty folder, removed in the end.

    Raises:
        OSError: if nothing can be written beside `target`.
    """
    with writing_to(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("waiting for another process, which builds %s", target)
        lock.acquire()
    except (OSError, NotImplementedError):
        pass  # a disk without locks: all build, and one rename wins
    try:
        prefix = f".{target.name}.{platform.node()}."
        if lock.is_locked:  # what is here was left by a process of this machine that was killed
            for left in target.parent.glob(f"{glob.escape(prefix)}*/"):
                shutil.rmtree(left, ignore_errors=True)
        with writing_to(target.parent):
            draft = TemporaryDirectory(prefix=prefix, dir=target.parent)
        with draft as folder:
            yield Path(folder)
    finally:
        lock.release()


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Name the folder, and what helps, in errors of writing into it.

    Raises:
        OSError: for any other.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{folder} cannot be written to ({error.strerror or error}): make room, or set "
            "CLIPSEG_CACHE to a folder that can be written to (--root of toy)"
        ) from error
