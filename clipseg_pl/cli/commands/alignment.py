"""`alignment`: which way of showing CLIP an object brings it closest to the object's text."""

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
from clipseg_pl.weights.places import TOY

if TYPE_CHECKING:
    from clipseg_pl.metrics.alignment import DeltaP
    from datamodules.datasets.lvis import LVIS, Pair

TOY_SCENES = {"train": 40, "val": 4000}
"""pictures of the toy LVIS that is drawn for this alone; few have an object that qualifies"""
_PAPER_BACKBONE = "ViT-B-16-quickgelu"
_PAPER_SAMPLES = 1600
_NOTES = """\
Delta P: gain of the probability among the names in the image, in percentage points.
The paper's "crop & intensity 10%" is a run without a crop. It masked attention by
setting logits to 0, mixed up the masks of a batch, and compared larger images, masked,
with the unmasked ones of CLIP's own size (as here; what size alone does has a row)."""


def main(args: list[str]) -> None:
    """Parse, measure, report; one line and status 1 for what a user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl alignment",
        description="The paper's prompt engineering (Delta P, Table 2): large objects of LVIS are "
        "cut out and shown to CLIP darkened, blurred, cropped, ... or with their masks laid into "
        "its attention; measured is how much more probable their names become. No decoder takes "
        "part.",
        epilog="example: python -m clipseg_pl alignment --root data --backbone ViT-B-16-quickgelu",
    )
    parser.add_argument(
        "--root",
        default=TOY,
        help="folder that holds LVIS (lvis_v1_train.json, lvis_v1_val.json, train2017, val2017); "
        "or 'toy', the default, a drawn one of 4,040 pictures, written into the cache on first use",
    )
    parser.add_argument(
        "--backbone",
        help=f"name of a CLIP, as of a config (default: {_PAPER_BACKBONE}; toy with --root toy)",
    )
    parser.add_argument(
        "--tag", default="openai", help="which weights of that name (default: openai)"
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=_PAPER_SAMPLES,
        help=f"objects to measure on, as far as there are so many (default: {_PAPER_SAMPLES})",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the choice of objects and crops (default: 0)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/alignment.json"),
        help="results file to write (default: runs/alignment.json)",
    )
    given = parser.parse_args(args)
    if given.samples < 2 or given.seed < 0:
        parser.error("--samples is 2 or more, --seed 0 or more")
    try:
        _run(given)
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")


def _run(given: argparse.Namespace) -> None:
    if given.out.exists():  # said before the work, not after it
        raise FileExistsError(f"{given.out} exists: give another --out or remove it")
    check_folders([given.out.parent])
    given.out.parent.mkdir(parents=True, exist_ok=True)
    started, toy = time.monotonic(), given.root == TOY

    # torch and what hangs on it, only when there is something to do
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

    name = given.backbone or (TOY if toy else _PAPER_BACKBONE)
    backbone = CLIPBackbone(name, given.tag)
    backbone.to("cuda" if torch.cuda.is_available() else "cpu")
    root = toy_root() / "alignment" if toy else Path(given.root).expanduser()
    if toy:
        build_folders(root, lvis_request(TOY_SCENES, 0), progress=True)
    source, skipped = LVIS(root), Counter[str]()
    pairs = _choose(source, given.samples, given.seed, skipped)
    side = image_sizes(backbone)[1]
    crops = (crop_object(source, pair, side, given.seed) for pair in pairs)
    probabilities = measure(backbone, track(crops, "showing them to CLIP", total=len(pairs)))
    original = probabilities.pop(ORIGINAL)
    unmodified = float(original.mean())
    gains = {row: delta_p(original, modified) for row, modified in probabilities.items()}
    numbers = {
        f"alignment/{row}/{number}": value
        for row, gain in gains.items()
        for number, value in gain._asdict().items()
    }
    config = {
        "root": given.root,
        "backbone": {"name": name, "tag": given.tag},
        "samples": given.samples,
        "seed": given.seed,
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
    given.out.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    _print_table(gains, len(pairs), unmodified)
    print(f"results: {given.out}")


def _choose(source: "LVIS", count: int, seed: int, skipped: Counter[str]) -> "list[Pair]":
    """As many objects as asked for, or all that there are; says so on one line."""
    from rich.progress import track

    from datamodules.datasets.alignment import large_objects

    found = islice(large_objects(source, seed, skipped), count)
    pairs = list(track(found, "choosing objects", total=count, transient=True))
    if len(pairs) < 2:
        raise ValueError(
            f"{source.folder} has {len(pairs)} objects on more than a tenth of an image with three "
            "names; two are needed"
        )
    if len(pairs) < count:
        print(f"{source.folder} has {len(pairs)} objects that qualify, not {count}: all are taken")
    return pairs


def _print_table(gains: "Mapping[str, DeltaP]", samples: int, probability: float) -> None:
    """One row a modification, in the paper's order, the paper's figure beside ours."""
    from rich.console import Console
    from rich.table import Table

    from clipseg_pl.protocols.alignment import PAPER

    table = Table("modification")
    for column in ("Delta P", "standard error", "paper"):
        table.add_column(column, justify="right")
    for row in [*PAPER, *(row for row in gains if row not in PAPER)]:
        gain, paper = gains[row], PAPER.get(row)
        printed = "-" if paper is None else f"{paper:.2f}"
        table.add_row(row, f"{gain.mean:.2f}", f"{gain.standard_error:.2f}", printed)
    Console().print(table)
    print(f"{samples} objects; on the unmodified image their probability is {probability:.3f}.")
    print(_NOTES)
