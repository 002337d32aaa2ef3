"""Cuts a checkpoint of `fit` down to what using it needs, as the shipped toy decoder was.

    python -m clipseg_pl.convert.slim_checkpoint <run>/checkpoints/last.ckpt <file>

Optimiser, loops and random states go, and weights are kept in 16 bits: 13 MB become 2.
"""

import argparse
from pathlib import Path

import torch

from clipseg_pl.convert.checkpoints import read_checkpoint

_KEPT = (
    "pytorch-lightning_version",
    "epoch",
    "global_step",
    "hyper_parameters",
    "threshold",
    "absent_cut",
    "image_size",
    "layers",
    "excluded",
)


def slim(source: Path, target: Path) -> None:
    """Write what `Segmenter`, `validate` and `predict` need of a checkpoint.

    Args:
        source: a checkpoint of `fit`.
        target: the file to write.

    Raises:
        ValueError: naming the file, if it is no checkpoint.
    """
    content = read_checkpoint(source)
    small = {key: content[key] for key in _KEPT if key in content}
    small["state_dict"] = {key: value.half() for key, value in content["state_dict"].items()}
    torch.save(small, target)


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    slim(given.source, given.target)


if __name__ == "__main__":
    main()
