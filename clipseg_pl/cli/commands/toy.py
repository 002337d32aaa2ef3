"""The command `toy`: generate small stand-ins for the real datasets."""

import argparse
import shlex
import sys
from pathlib import Path

from clipseg_pl.cli.commands import HelpFormatter


def main(args: list[str]) -> None:
    """Run the command. User errors exit with status 1 and a one-line message."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl toy",
        description="Generate the toy world: small datasets of drawn scenes, in the file layouts "
        "of PhraseCut (VGPhraseCut_v0), Pascal VOC (VOC2012, lists), COCO-20i (COCO2014, splits), "
        "LVIS, the RefCOCO family (refcoco, refcoco+, refcocog, grefcoco, refcoco-m), label maps "
        "(ADEChallengeData2016, coco-stuff, cityscapes, VOCdevkit), your own photos with "
        "annotations (own) and Roboflow exports (walls). "
        "Configs with `root: toy` generate it in the cache automatically. Use this command to look "
        "at the files or to choose another size. Existing toy datasets are kept; folders with "
        "other data are rejected.",
        epilog="example:\n  python -m clipseg_pl toy --root toy_data --scenes 200",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--root", type=Path, required=True, metavar="FOLDER", help="output folder (required)"
    )
    parser.add_argument(
        "--scenes",
        type=int,
        default=2000,
        metavar="N",
        help="number of training images in PhraseCut, at least 1. The other datasets are scaled "
        "accordingly, with a minimum of 20 to 40 images per split (default: 2000, which takes 15 "
        "seconds)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="random seed; equal seeds give equal files (default: 0)",
    )
    options = parser.parse_args(args)

    # deferred so that --help prints quickly
    from datamodules.toy.world import write_toy_world

    try:
        written = write_toy_world(options.root, options.scenes, options.seed)
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")
    for folder, images in written.items():
        print(f"{folder}: {images} images")
    root = shlex.quote(str(options.root.absolute()))
    print(
        "to train on it: python -m clipseg_pl fit --config experiments/pc_plus.yaml "
        f"--config experiments/toy.yaml --data.init_args.root {root}"
    )
