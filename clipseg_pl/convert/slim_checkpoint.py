"""Reduce the size of a checkpoint of `fit`. The toy checkpoint in the package was made this way.

    python -m clipseg_pl.convert.slim_checkpoint <run>/checkpoints/last.ckpt <file>

Removes the states of the optimizer, the training loop and the random generators, and stores weights
in 16 bits. A checkpoint of 13 MB becomes 2 MB.
The result works for inference and evaluation, but training cannot be resumed from it.
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
    "class_thresholds",
    "image_size",
    "layers",
    "excluded",
    "coco_ids",
)


def slim(source: Path, target: Path) -> None:
    """Write the parts of a checkpoint that `Segmenter`, `validate` and `predict` need.

    Args:
        source: checkpoint of `fit`.
        target: file to write.

    Raises:
        ValueError: if the source is not a checkpoint.
    """
    content = read_checkpoint(source)
    small = {key: content[key] for key in _KEPT if key in content}
    small["state_dict"] = {key: value.half() for key, value in content["state_dict"].items()}
    torch.save(small, target)


def main() -> None:
    """Run the command line interface."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="checkpoint of `fit`")
    parser.add_argument("target", type=Path, help="file to write")
    arguments = parser.parse_args()
    slim(arguments.source, arguments.target)


if __name__ == "__main__":
    main()
