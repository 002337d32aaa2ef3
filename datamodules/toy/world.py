"""The toy world on disk, written when it is first asked for."""

from pathlib import Path

from datamodules.datasets.files import cache_folder
from datamodules.toy.writers import write_phrasecut

SCENES = {"train": 2000, "val": 80, "test": 80, "miniv": 20}
"""pictures of each split; each is asked about by several phrases"""


def toy_root() -> Path:
    """Folder of the toy datasets, whether they are there or not."""
    return cache_folder() / "toy"


def write_toy_world() -> None:
    """Write what is not there yet; a bar tells how far it is."""
    write_phrasecut(toy_root(), SCENES)
