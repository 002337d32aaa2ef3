"""Build dataset folders atomically, and never touch data that the toy world did not write."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress

from datamodules.datasets.files import drafting, writing_to

MANIFEST = "toy_world.json"
"""name of the file that stores the request, in each folder written by the toy world"""
WORLD = 3
"""version of the toy world; increased whenever the same request gives different files"""

Fill = Callable[[Path, Callable[[], None]], None]
"""Function that writes a dataset into a folder, and calls its second argument after each image."""


class Request(NamedTuple):
    """Request to build a dataset.

    Attributes:
        parts: Names of the folders; the last one is the dataset's main folder and is created last.
        manifest: Description of the dataset, see `describe`.
        fill: Function that writes the dataset into a folder that contains all `parts`, still empty.
    """

    parts: tuple[str, ...]
    manifest: Mapping[str, Any]
    fill: Fill


def describe(scenes: Mapping[str, int], shape: tuple[int, int], seed: int) -> dict[str, Any]:
    """Return the manifest of a dataset, with which later requests are compared.

    Args:
        scenes: Split -> number of images.
        shape: Height and width of the images in pixels.
        seed: Seed of the dataset.

    Returns:
        A dictionary that can be written as JSON.
    """
    return {"world": WORLD, "scenes": dict(scenes), "size": list(shape), "seed": seed}


def counts_of(scenes: Mapping[str, int], splits: Sequence[str], name: str) -> dict[str, int]:
    """Return the number of images of every split, in the dataset's order; 0 for missing splits.

    Raises:
        ValueError: If `scenes` has a split that the dataset `name` does not have.
    """
    unknown = set(scenes) - set(splits)
    if unknown:
        raise ValueError(f"unknown splits {sorted(unknown)}: {name} has {', '.join(splits)}")
    return {split: int(scenes.get(split, 0)) for split in splits}


def is_built(root: Path, request: Request) -> bool:
    """Return whether all folders of a dataset exist.

    Raises:
        FileExistsError: If a folder contains real data or a different toy world.
    """
    present = [_is_part_built(root / part, request.manifest) for part in request.parts]
    return all(present)


def build_folders(root: Path, request: Request, progress: bool) -> Path:
    """Build the folders of a dataset below `root` unless they exist.

    The folders are written to a temporary folder next to the main folder and then moved to `root`.
    If several processes request the same dataset, one builds it and the others wait (see
    `drafting`). Folders that an interrupted process has already moved are reused.

    Args:
        root: Folder of all datasets, created if missing.
        request: The dataset.
        progress: Show a progress bar.

    Returns:
        The dataset's main folder.

    Raises:
        FileExistsError: If a folder contains real data or a different toy world.
        OSError: If `root` cannot be written to.
    """
    if not is_built(root, request):
        with drafting(root / request.parts[-1]) as building:
            if not is_built(root, request):  # another process may have built it meanwhile
                with writing_to(root):
                    _build(root, building, request, progress)
                is_built(root, request)
    return root / request.parts[-1]


def write_json(path: Path, content: object) -> None:
    """Write JSON without spaces."""
    path.write_text(json.dumps(content, separators=(",", ":")))


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a list, one entry per line; the folder is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _build(root: Path, building: Path, request: Request, progress: bool) -> None:
    parts, manifest, fill = request
    for part in parts:
        (building / part).mkdir()
    total = sum(manifest["scenes"].values())
    show = progress and sys.stdout.isatty()  # in a log file, the bar would leave empty lines
    with Progress(disable=not show, transient=True) as bar:
        job = bar.add_task(f"drawing toy {parts[-1]}", total=total)
        fill(building, lambda: bar.advance(job))
    for part in parts:
        write_json(building / part / MANIFEST, manifest)
        _rename(building / part, root / part)


def _rename(built: Path, target: Path) -> None:
    try:
        os.rename(built, target)
    except OSError:
        if not (target / MANIFEST).is_file():  # else another process has created it
            raise


def _is_part_built(target: Path, manifest: Mapping[str, Any]) -> bool:
    """Return whether a folder exists; raise FileExistsError if it has another manifest or none."""
    if not target.exists():
        return False
    found = _read_manifest(target)
    if found == manifest:
        return True
    if found is None:
        content = f"data that the toy world did not write, expected {manifest}"
    elif found.get("world") != WORLD:
        content = f"version {found.get('world')} of the toy world, expected version {WORLD}"
    else:
        content = f"a toy world of {found}, expected {manifest}"
    raise FileExistsError(f"{target} contains {content}. Choose another root or remove the folder.")


def _read_manifest(target: Path) -> dict[str, Any] | None:
    """Return the manifest of a folder; None if the toy world did not write the folder."""
    file = target / MANIFEST
    return json.loads(file.read_text()) if file.is_file() else None
