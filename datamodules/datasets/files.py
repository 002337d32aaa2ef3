"""Checks for dataset files, and the cache folder."""

import glob
import hashlib
import io
import json
import logging
import os
import pickle
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import yaml
from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


class DatasetNotFoundError(FileNotFoundError):
    """A dataset or a part of it is missing."""

    missing: Sequence[str] = ()
    """missing parts"""
    folder = Path()
    """folder in which they were expected"""
    source: str = ""
    """URL to download them from"""


def require(name: str, folder: Path, parts: Mapping[str, bool], source: str) -> None:
    """Raise an error if parts of a dataset are missing.

    Args:
        name: name of the dataset.
        folder: folder in which the dataset is expected.
        parts: name of each part of the dataset -> whether it exists.
        source: URL to download the dataset from.

    Raises:
        DatasetNotFoundError: if a part is missing; the message lists the folder, the found parts,
            the missing parts and the source.
    """
    missing = [part for part, present in parts.items() if not present]
    if missing:
        found = [part for part, present in parts.items() if present]
        error = DatasetNotFoundError(
            f"{name} is missing or incomplete in {folder}: found {', '.join(found) or 'nothing'}; "
            f"missing {', '.join(missing)}. Download it from {source}, and check "
            "--data.init_args.root (--root of the `alignment` command), the folder of all datasets"
        )
        error.missing, error.folder, error.source = missing, folder, source
        raise error


def read_yaml(file: Path) -> object:
    """Read a YAML or JSON file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not YAML, or a mapping has a key twice; the message has one line.
    """
    try:
        return _StrictLoader(file.read_text(encoding="utf-8-sig")).get_single_data()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{file}: no such file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not YAML ({' '.join(str(error).split())})") from error


class _StrictLoader(yaml.SafeLoader):
    """Rejects mappings with a key twice, of which PyYAML keeps the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401 - PyYAML's
        node = super().compose_mapping_node(anchor)
        seen = set[tuple[str, str]]()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                problem = f"the key {key.value!r} occurs twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node


def read_plain_pickle(file: Path) -> object:
    """Read a pickle of lists, dicts, strings and numbers; no code in it is run.

    Strings written by Python 2 are read as UTF-8.

    Raises:
        Exception: any, if the file is damaged; UnpicklingError if it contains anything else.
    """
    content = io.BytesIO(file.read_bytes())
    return _PlainUnpickler(content, encoding="utf-8", errors="replace").load()


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles only dicts, lists, strings and numbers, so that no code can run."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Reject every class and function."""
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


def stays_below(name: str) -> bool:
    """Return whether a file name from a dataset stays below the dataset's folder."""
    path = PurePath(name)
    return not path.is_absolute() and ".." not in path.parts


def cache_folder() -> Path:
    """Return the cache folder: `$CLIPSEG_CACHE`, or `clipseg_pl` in the user's cache folder.

    Nothing is written to dataset folders, since they are often read-only and shared.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("CLIPSEG_CACHE") or f"{base}/clipseg_pl").expanduser()


def cache_key(version: int, files: Iterable[Path]) -> str:
    """Return the cache key of results computed from files.

    Args:
        version: version of the code that computes them.
        files: files whose paths, sizes and modification times enter the key; they may be missing.
    """
    stamps = [_stamp(file) for file in files]
    return hashlib.sha256(json.dumps([version, stamps]).encode()).hexdigest()[:16]


def _stamp(file: Path) -> tuple[str, int, int]:
    """Return path, size and modification time of a file; zeros if it is missing."""
    try:
        stat = file.stat()
    except OSError:
        return os.path.abspath(file), 0, 0
    return os.path.abspath(file), stat.st_size, stat.st_mtime_ns


@contextmanager
def drafting(target: Path) -> Iterator[Path]:
    """Provide a temporary folder next to `target`, and lock `target` for one process at a time.

    Other processes wait for the lock. Inside the `with` block, the caller must check again whether
    `target` exists, since another process may have built it. The caller must write into the
    temporary folder and rename the result to `target`, so that `target` is never incomplete. On
    file systems without locks, several processes build at the same time, and the first rename takes
    effect. An empty lock file is left behind.

    Args:
        target: file or folder to build; its parent is created if missing.

    Yields:
        An empty folder, deleted at exit.

    Raises:
        OSError: if the parent of `target` is not writable.
    """
    with writing_to(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("waiting for another process that is building %s", target)
        lock.acquire()
    except (OSError, NotImplementedError):
        pass  # file system without locks: all processes build, and the first rename takes effect
    try:
        prefix = f".{target.name}.{platform.node()}."
        # we hold the lock, so other drafts of this machine were left by killed processes
        if lock.is_locked:
            for leftover in target.parent.glob(f"{glob.escape(prefix)}*/"):
                shutil.rmtree(leftover, ignore_errors=True)
        with writing_to(target.parent):
            draft = TemporaryDirectory(prefix=prefix, dir=target.parent)
        with draft as folder:
            yield Path(folder)
    finally:
        lock.release()


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Add the folder and a remedy to the message of an OSError raised in the `with` block.

    Raises:
        OSError: if the `with` block raises one; with the new message.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            f"cannot write to {folder} ({error.strerror or error}): free disk space, or set "
            "CLIPSEG_CACHE to a writable folder (or --root of the `toy` command)"
        ) from error
