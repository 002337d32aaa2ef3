"""`toy`: drawn stand-ins for the real datasets."""

import argparse
import shlex
import sys
from pathlib import Path


def main(args: list[str]) -> None:
    """Parse, draw, write; one line and status 1 for what a user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl toy",
        description="Write the toy world: small drawn datasets in the published layouts of "
        "PhraseCut (VGPhraseCut_v0), Pascal VOC (VOC2012, lists), COCO-20i (COCO2014, splits) and "
        "LVIS, and photos as people keep their own (own). Configs with `root: toy` write it into "
        "the cache by themselves; this is for looking at the files and for worlds of another size. "
        "What is there is kept; a folder that holds anything else is refused.",
        epilog="example: python -m clipseg_pl toy --root toy_data --scenes 200",
    )
    parser.add_argument("--root", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--scenes",
        type=int,
        default=2000,
        help="training pictures of PhraseCut, at least 1; the other datasets are in proportion, "
        "with 20 to 40 pictures a split at least (default: 2000, in a quarter of a minute)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="equal seeds give equal files (default: 0)"
    )
    given = parser.parse_args(args)

    # drawing, only when there is something to do
    from datamodules.toy.world import write_toy_world

    try:
        written = write_toy_world(given.root, given.scenes, given.seed)
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")
    for folder, pictures in written.items():
        print(f"{folder}: {pictures} pictures")
    print(
        "next: python -m clipseg_pl fit --config experiments/pc_plus.yaml "
        f"--config experiments/toy.yaml --data.init_args.root {shlex.quote(str(given.root))}"
    )
