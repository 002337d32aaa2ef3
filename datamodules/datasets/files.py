"""What lies on disk, and what should."""

import glob
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where all build and one rename wins
    fcntl = None  # type: ignore[assignment]

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


@contextmanager
def drafting(target: Path) -> Iterator[Path]:
    """A folder beside `target` to build it in, for one process at a time.

    Others wait here, and should ask again whether `target` is still missing when they are let in.
    Where a disk has no locks, or has them within one machine only, several may build at once, each
    in a folder of its own; so what is built must be renamed to `target`, and one rename wins. A
    process that was killed leaves no lock, and its folder is removed by the next on its machine.

    Args:
        target: file or folder; its parent is made if missing.

    Yields:
        An empty folder, removed in the end.

    Raises:
        OSError: if nothing can be written beside `target`.
    """
    with writing_to(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(target)
    try:
        prefix = f".{target.name}.{platform.node()}."
        if lock:  # so nobody else on this machine is building
            for left in target.parent.glob(f"{glob.escape(prefix)}*"):
                shutil.rmtree(left, ignore_errors=True)
        with writing_to(target.parent):
            draft = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    finally:
        if lock:
            Path(lock.name).unlink(missing_ok=True)
            lock.close()


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


def _lock(target: Path) -> BinaryIO | None:
    """Wait for a lock that ends with its process; None where the disk has none.

    Its file lies beside the target while it is held or waited for.
    """
    file = target.with_name(f".{target.name}.lock")
    while fcntl:
        held = file.open("ab")  # NFS locks only what is open to be written
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("waiting for another process, which builds %s", target)
                fcntl.flock(held, fcntl.LOCK_EX)
        except OSError:
            held.close()
            file.unlink(missing_ok=True)
            return None
        try:
            if os.path.samestat(os.fstat(held.fileno()), file.stat()):
                return held
        except FileNotFoundError:
            pass
        held.close()  # of a file that its last holder has removed
    return None
