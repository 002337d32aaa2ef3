"""The command `alignment`: compare visual prompt engineering methods on CLIP alone.

Reference: paper, Table 2.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from clipseg_pl.atomic import check_folders
from clipseg_pl.cli.commands import HelpFormatter
from clipseg_pl.weights.places import TOY, TOY_CLIP

if TYPE_CHECKING:
    from clipseg_pl.metrics.alignment import DeltaP
    from datamodules.datasets.lvis import LVIS, Pair

TOY_SCENES = {"train": 40, "val": 4000}
"""images per split in the toy LVIS of this command; only few contain a suitable object"""
_PAPER_BACKBONE = "ViT-B-16-quickgelu"
_PAPER_SAMPLES = 1600
_NOTES = """\
Delta P: change in the probability of the object's name among the names in the image,
in percentage points. The paper's value for "crop & intensity 10%" was measured without
a crop. For its masked attention, the authors set logits to 0, mixed up the masks of a
batch, and compared masked images of a larger size with unmasked ones of CLIP's size.
This command also compares these two sizes. One row shows the effect of the size alone.
See docs/deviations.md (masked-attention, alignment-samples, table-2-rows)."""


def main(args: list[str]) -> None:
    """Run the command. User errors exit with status 1 and a one-line message."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl alignment",
        description="Compare visual prompt engineering methods on CLIP alone (paper, Table 2). "
        "Objects of LVIS are highlighted in their images by blurring or darkening the background, "
        "cropping, or masking CLIP's attention. The command prints by how much each method raises "
        "the probability of the object's name (Delta P).",
        epilog="example:\n"
        "  python -m clipseg_pl alignment --root data --backbone ViT-B-16-quickgelu",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--root",
        default=TOY,
        metavar="FOLDER",
        help="folder that contains the folder LVIS (with lvis_v1_train.json, lvis_v1_val.json, "
        "train2017, val2017). 'toy' uses 4,040 generated images, which are cached on first use "
        "(default: toy)",
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help=f"CLIP model, by its open_clip name (default: {_PAPER_BACKBONE}; "
        f"{TOY_CLIP} with --root toy)",
    )
    parser.add_argument(
        "--tag",
        default="openai",
        metavar="TAG",
        help="pretrained weights of the CLIP model, by their open_clip tag (default: openai)",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=_PAPER_SAMPLES,
        metavar="N",
        help="maximum number of objects, at least 2; fewer are used if the dataset has fewer "
        f"(default: {_PAPER_SAMPLES})",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="random seed for the choice of objects and crops, and for the images of 'toy', at "
        "least 0 (default: 0)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/alignment.json"),
        metavar="FILE",
        help="JSON file for the results (default: runs/alignment.json)",
    )
    options = parser.parse_args(args)
    if options.samples < 2 or options.seed < 0:
        parser.error("--samples must be at least 2, and --seed at least 0")
    try:
        _run(options)
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")


def _run(options: argparse.Namespace) -> None:
    if options.out.exists():
        raise FileExistsError(f"{options.out} exists: choose another --out or remove the file")
    check_folders([options.out.parent])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    started, toy = time.monotonic(), options.root == TOY

    # deferred so that --help does not import torch
    import torch
    from rich.progress import track

    from clipseg_pl.metrics.alignment import delta_p
    from clipseg_pl.models.clip_backbone import CLIPBackbone
    from clipseg_pl.protocols.alignment import ORIGINAL, image_sizes, measure
    from clipseg_pl.training.callbacks.results import config_hash, provenance
    from datamodules.datasets.alignment import crop_object
    from datamodules.datasets.lvis import LVIS
    from datamodules.toy.world import toy_root
    from datamodules.toy.writers.folder import build_folders
    from datamodules.toy.writers.lvis import lvis_request

    name = options.backbone or (TOY_CLIP if toy else _PAPER_BACKBONE)
    backbone = CLIPBackbone(name, options.tag)
    backbone.to("cuda" if torch.cuda.is_available() else "cpu")
    root = Path(options.root).expanduser()
    if toy:
        root = toy_root() / f"alignment_{options.seed}"
        build_folders(root, lvis_request(TOY_SCENES, options.seed), progress=True)
    source, skipped = LVIS(root), Counter[str]()
    pairs = _choose(source, options.samples, options.seed, skipped)
    side = image_sizes(backbone)[1]
    crops = (crop_object(source, pair, side, options.seed) for pair in pairs)
    probabilities = measure(backbone, track(crops, "embedding objects", total=len(pairs)))
    original = probabilities.pop(ORIGINAL)
    unmodified = float(original.mean())
    gains = {row: delta_p(original, modified) for row, modified in probabilities.items()}
    numbers = {
        f"alignment/{row}/{number}": value
        for row, gain in gains.items()
        for number, value in gain._asdict().items()
    }
    config = {
        "root": options.root,
        "backbone": {"name": name, "tag": options.tag},
        "samples": options.samples,
        "seed": options.seed,
    }
    content = {
        "metrics": {**numbers, f"alignment/{ORIGINAL}/probability": unmodified},
        "config_hash": config_hash(config),
        "config": config,
        "dataset_sizes": {"objects": len(source.pairs), "samples": len(pairs)},
        "dataset_skipped": skipped,
        "seconds": round(time.monotonic() - started, 1),
        **provenance(),
    }
    options.out.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    _print_table(gains, len(pairs), unmodified)
    print(f"results: {options.out}")


def _choose(source: "LVIS", count: int, seed: int, skipped: Counter[str]) -> "list[Pair]":
    """Return `count` random objects, or all with a notice if there are fewer."""
    from rich.progress import track

    from datamodules.datasets.alignment import large_objects

    found = islice(large_objects(source, seed, skipped), count)
    pairs = list(track(found, "choosing objects", total=count, transient=True))
    if len(pairs) < 2:
        raise ValueError(
            f"{source.folder} has {len(pairs)} suitable objects, but at least two are needed. An "
            "object is suitable if it covers more than a tenth of an image with at least three "
            "annotated names"
        )
    if len(pairs) < count:
        print(f"{source.folder} has only {len(pairs)} suitable objects, not {count}; using all")
    return pairs


def _print_table(gains: "Mapping[str, DeltaP]", samples: int, probability: float) -> None:
    """Print one row per method, in the paper's order, with the paper's value."""
    from rich.console import Console
    from rich.table import Table

    from clipseg_pl.protocols.alignment import PAPER

    table = Table("method")
    for column in ("Delta P", "standard error", "paper"):
        table.add_column(column, justify="right")
    for row in [*PAPER, *(row for row in gains if row not in PAPER)]:
        gain, paper = gains[row], PAPER.get(row)
        printed = "-" if paper is None else f"{paper:.2f}"
        table.add_row(row, f"{gain.mean:.2f}", f"{gain.standard_error:.2f}", printed)
    Console().print(table)
    print(f"{samples} objects; mean probability on unmodified images: {probability:.3f}.")
    print(_NOTES)
