"""Dataset folders that appear at once and whole, and that are never mistaken for real data."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress

from datamodules.datasets.files import drafting, writing_to

MANIFEST = "toy_world.json"
"""file in each folder that the toy world wrote; says what was asked for"""
WORLD = 2
"""counts up when the same request gives other files"""

Fill = Callable[[Path, Callable[[], None]], None]
"""Writes into a folder; the second argument is called after each picture."""


class Request(NamedTuple):
    """A dataset that is asked for.

    Attributes:
        parts: Names of its folders; the last is the dataset's own and appears last.
        manifest: See `describe`.
        fill: Writes all of it into a folder where the parts exist and are empty.
    """

    parts: tuple[str, ...]
    manifest: Mapping[str, Any]
    fill: Fill


def describe(scenes: Mapping[str, int], shape: tuple[int, int], seed: int) -> dict[str, Any]:
    """The manifest of a dataset.

    Args:
        scenes: Split -> number of pictures.
        shape: Height and width of the pictures in pixels.
        seed: Of the dataset.

    Returns:
        What is compared when the folder is asked for again; can be written as JSON.
    """
    return {"world": WORLD, "scenes": dict(scenes), "size": list(shape), "seed": seed}


def counts_of(scenes: Mapping[str, int], splits: Sequence[str], name: str) -> dict[str, int]:
    """Number of pictures of every split, in the dataset's order; 0 for those left out.

    Raises:
        ValueError: A split that the dataset `name` does not have.
    """
    unknown = set(scenes) - set(splits)
    if unknown:
        raise ValueError(f"no such splits: {sorted(unknown)}; {name} has {', '.join(splits)}")
    return {split: int(scenes.get(split, 0)) for split in splits}


def is_built(root: Path, request: Request) -> bool:
    """Whether all folders of a dataset are there.

    Raises:
        FileExistsError: One of them holds something else: real data, or another toy world.
    """
    present = [_holds(root / part, request.manifest) for part in request.parts]
    return all(present)


def build_folders(root: Path, request: Request, progress: bool) -> Path:
    """Builds the folders of a dataset below `root` unless they are there.

    They are filled in a temporary sibling and renamed. Of several processes one builds them
    (`drafting`) and the others use its result. What an interrupted process has renamed is kept.

    Args:
        root: Folder of all datasets, made if missing.
        request: The dataset.
        progress: Show a bar.

    Returns:
        The dataset's own folder.

    Raises:
        FileExistsError: A folder holds something else: real data, or another toy world.
        OSError: `root` cannot be written to.
    """
    if not is_built(root, request):
        with drafting(root / request.parts[-1]) as building:
            if not is_built(root, request):  # nor meanwhile
                with writing_to(root):
                    _build(root, building, request, progress)
                is_built(root, request)
    return root / request.parts[-1]


def write_json(path: Path, content: object) -> None:
    """Writes JSON without spaces."""
    path.write_text(json.dumps(content, separators=(",", ":")))


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Writes a list, one entry a line, into a folder that is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _build(root: Path, building: Path, request: Request, progress: bool) -> None:
    parts, manifest, fill = request
    for part in parts:
        (building / part).mkdir()
    total = sum(manifest["scenes"].values())
    shown = progress and sys.stdout.isatty()  # in a file, a bar that goes leaves empty lines
    with Progress(disable=not shown, transient=True) as bar:
        job = bar.add_task(f"drawing toy {parts[-1]}", total=total)
        fill(building, lambda: bar.advance(job))
    for part in parts:
        write_json(building / part / MANIFEST, manifest)
        _rename(building / part, root / part)


def _rename(built: Path, target: Path) -> None:
    try:
        os.rename(built, target)
    except OSError:
        if not (target / MANIFEST).is_file():  # nobody was faster: a real failure
            raise


def _holds(target: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the folder is there; raises where it is not the one that the manifest describes."""
    if not target.exists():
        return False
    file = target / MANIFEST
    found = json.loads(file.read_text()) if file.is_file() else None
    if found != manifest:
        held = f"a toy world of {found}" if found else "data that the toy world did not write"
        raise FileExistsError(
            f"{target} holds {held}; wanted {manifest}. Give another root or remove it."
        )
    return True
