"""`doctor`: what is there to work with, what is missing, and where to get it."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from clipseg_pl.weights.places import TOY

if TYPE_CHECKING:
    from clipseg_pl.doctor.findings import Finding

_PLACES = {
    "phrasecut": "PhraseCut (training, Tables 3 and 9)",
    "voc2012": "Pascal VOC 2012 (generalised zero-shot, Table 4)",
    "pascal_5i": "Pascal-5i, PFENet's photos (Tables 5 and 7)",
    "pascal_5i_hsnet": "Pascal-5i, HSNet's episodes",
    "coco_20i": "COCO-20i (Table 6)",
    "lvis": "LVIS (Tables 2 and 8)",
    "clip": "weights of CLIP",
    "vit": "weights of the ViT (baseline ViTSeg only)",
    "cache": "indexes and the toy world",
    "devices": "what runs would use",
    "versions": "libraries against pyproject.toml",
}
_DATASETS = ("phrasecut", "voc2012", "pascal_5i", "pascal_5i_hsnet", "coco_20i", "lvis")
_COLOURS = {"ok": "green", "note": "cyan", "missing": "yellow", "wrong": "red"}
_BEST = "*/checkpoints/best.ckpt"
_RECENT = 5  # runs that are looked at unless checkpoints are named
_NOTHING_ASKED = """\
Nothing was asked for by name, so nothing is required. What needs no download is the toy world:
  python -m clipseg_pl fit --config experiments/pc_plus.yaml --config experiments/toy.yaml"""


def main(args: list[str]) -> None:
    """Parse, look, report; status 1 if something asked for by name cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl doctor",
        description="Look at datasets, weights, checkpoints and this machine: what is there, what "
        "is missing or cannot be used, and what to do about it. Without names everything is looked "
        f"at, with the best checkpoints of the {_RECENT} newest runs, and nothing is required; what"
        " is named must be usable, else the exit status is 1. Nothing is downloaded or written. "
        "'note' marks what works but is not the published one.",
        epilog="example: python -m clipseg_pl doctor phrasecut clip --root data",
    )
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"what to ask for: {', '.join(_PLACES)}"
    )
    parser.add_argument(
        "--root",
        default="data",
        help="folder that holds the datasets (VGPhraseCut_v0, VOC2012, lists, COCO2014, splits, "
        "LVIS); or 'toy', the drawn ones in the cache (default: data)",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        action="append",
        default=[],
        help="to ask for: a checkpoint of `fit`, an authors' decoder (.pth), Hugging Face's CLIPSeg"
        " (file or folder), or 'toy'; repeat for more",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="open every photo of PhraseCut and LVIS and every label map; by default 200 of a "
        "list, spread over it",
    )
    given = parser.parse_args(args)
    unknown = [name for name in given.names if name not in _PLACES]
    if unknown:
        parser.error(f"no {', '.join(unknown)}; there are {', '.join(_PLACES)}")
    unusable = _examine(given)
    if unusable:
        sys.exit(f"clipseg_pl: cannot be used: {', '.join(unusable)}")


def _examine(given: argparse.Namespace) -> list[str]:
    """Print what is found; returns what was asked for and cannot be used."""
    # torch and what hangs on it, only when there is something to do
    from clipseg_pl.doctor.checkpoints import check_checkpoint
    from clipseg_pl.doctor.datasets import (
        check_coco_20i,
        check_lvis,
        check_pascal_5i,
        check_pascal_5i_hsnet,
        check_voc2012,
    )
    from clipseg_pl.doctor.machine import check_cache, check_devices, check_versions
    from clipseg_pl.doctor.phrasecut import check_phrasecut
    from clipseg_pl.doctor.weights import check_clip, check_vit
    from datamodules.toy.world import toy_root

    checks = {
        "phrasecut": check_phrasecut,
        "voc2012": check_voc2012,
        "pascal_5i": check_pascal_5i,
        "pascal_5i_hsnet": check_pascal_5i_hsnet,
        "coco_20i": check_coco_20i,
        "lvis": check_lvis,
        "clip": check_clip,
        "vit": check_vit,
        "cache": check_cache,
        "devices": check_devices,
        "versions": check_versions,
    }
    root = toy_root() if given.root == TOY else Path(given.root).expanduser()
    if given.root == TOY and not root.is_dir():
        sys.exit(f"clipseg_pl: no toy world yet: python -m clipseg_pl toy --root {root} draws it")
    asked = bool(given.names or given.checkpoint)
    states = dict[str, Counter[str]]()
    for name in dict.fromkeys(given.names) if asked else _PLACES:
        where = f" in {root}" if name in _DATASETS else ""
        states[name] = _report(f"{name}: {_PLACES[name]}{where}", checks[name](root, given.all))
    runs = sorted(Path("runs").glob(_BEST), key=lambda file: file.stat().st_mtime)
    for file in given.checkpoint if asked else [Path(TOY), *runs[-_RECENT:]]:
        states[str(file)] = _report(f"checkpoint {file}", check_checkpoint(file.expanduser()))
    if not asked:
        together = sum(states.values(), Counter[str]())
        print(f"in all: {', '.join(f'{together[state]} {state}' for state in _COLOURS)}")
        print(_NOTHING_ASKED)
        return []
    return [name for name, counts in states.items() if counts["missing"] or counts["wrong"]]


def _report(title: str, findings: "Iterable[Finding]") -> Counter[str]:
    """Print a section, a line each; how many are in each state."""
    from rich.console import Console
    from rich.text import Text

    from clipseg_pl.doctor.findings import Finding, explain

    found = list[Finding]()
    try:
        for finding in findings:
            found.append(finding)  # what came before an error is said too
    except Exception as error:  # one thing that is broken must not hide the others
        found.append(Finding("wrong", "reading", explain(error)))
    console = Console(soft_wrap=True, highlight=False)
    console.print(Text(title, "bold"))
    for state, thing, says in found:
        console.print(Text.assemble((f"  {state:9}", _COLOURS[state]), f"  {thing:26}  {says}"))
    console.print()
    return Counter(finding.state for finding in found)
