"""The command `doctor`: check datasets, own data, weights, checkpoints and the machine."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, NamedTuple

from clipseg_pl.cli.commands import HelpFormatter
from clipseg_pl.weights.places import TOY, default_checkpoint

if TYPE_CHECKING:
    from clipseg_pl.doctor.findings import Finding
    from datamodules.image_folder import ImageFolderDataModule
    from datamodules.label_maps import LabelMapsDataModule


class _Check(NamedTuple):
    title: str
    function: str
    """in clipseg_pl.doctor"""
    reads_root: bool = True


_CHECKS = {
    "phrasecut": _Check("PhraseCut (training, Tables 3 and 9)", "phrasecut:check_phrasecut"),
    "voc2012": _Check("Pascal VOC 2012 (generalised zero-shot, Table 4)", "datasets:check_voc2012"),
    "pascal_5i": _Check(
        "Pascal-5i with PFENet's photos (Tables 5 and 7)", "datasets:check_pascal_5i"
    ),
    "pascal_5i_hsnet": _Check("Pascal-5i with HSNet's episodes", "datasets:check_pascal_5i_hsnet"),
    "coco_20i": _Check("COCO-20i (Table 6)", "datasets:check_coco_20i"),
    "refcoco": _Check("RefCOCO", "referring:check_refcoco"),
    "refcoco+": _Check("RefCOCO+", "referring:check_refcoco_plus"),
    "refcocog": _Check("RefCOCOg", "referring:check_refcocog"),
    "grefcoco": _Check("gRefCOCO", "referring:check_grefcoco"),
    "refcoco-m": _Check("RefCOCO-M", "referring:check_refcoco_m"),
    "lvis": _Check("LVIS (Tables 2 and 8)", "datasets:check_lvis"),
    "clip": _Check("CLIP weights", "weights:check_clip", False),
    "vit": _Check("ViT weights (baseline ViTSeg only)", "weights:check_vit", False),
    "cache": _Check("cached indexes and toy world", "machine:check_cache", False),
    "devices": _Check("hardware used by default", "machine:check_devices", False),
    "versions": _Check(
        "library versions required by pyproject.toml", "machine:check_versions", False
    ),
}
"""name -> what `doctor` checks, in this order"""
_COLOURS = {"ok": "green", "note": "cyan", "missing": "yellow", "wrong": "red"}
_BEST = "*/checkpoints/best.ckpt"
_RECENT = 5  # number of newest runs to check if no item is named
_NOTHING_NAMED = """\
No item was named, so nothing is required. To start without a download, train on the toy world:
  python -m clipseg_pl fit --config experiments/pc_plus.yaml --config experiments/toy.yaml"""


def main(args: list[str]) -> None:
    """Run the command. Exits with status 1 if a named dataset or checkpoint is unusable."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl doctor",
        description="Check datasets, your own data, weights, checkpoints and this machine, and "
        "print how to fix problems. Nothing is downloaded. Only the contact sheet of your own data "
        "is written, to runs/<name of the overlay>_contact_sheet.jpg. Without names or "
        "--checkpoint, the command checks everything but own data, including the default "
        f"checkpoint of `segment` and the best checkpoints of the {_RECENT} newest runs, and the "
        "exit status is 0. Otherwise, it checks the named items only, and exits with status 1 if "
        "one of them is missing or unusable. The state 'note' marks files that work but differ "
        "from the published ones, and properties of your own data to check before training.",
        epilog="examples:\n  python -m clipseg_pl doctor phrasecut clip --root data\n"
        "  python -m clipseg_pl doctor own.yaml\n"
        "  python -m clipseg_pl doctor experiments/benchmarks/ade20k_150.yaml --root data",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"item to check; one or more of {', '.join(_CHECKS)}, or a config overlay (.yaml) "
        "whose section `data` describes your own data or label maps",
    )
    parser.add_argument(
        "--root",
        default="data",
        metavar="FOLDER",
        help="folder that contains the datasets, for example VGPhraseCut_v0, VOC2012, COCO2014, "
        "refcoco; see docs/datasets.md. 'toy' checks the generated datasets in the cache. Not used "
        "for an overlay that sets the folder (default: data)",
    )
    parser.add_argument(
        "--checkpoint",
        type=os.path.expanduser,
        action="append",
        default=[],
        metavar="MODEL",
        help="model to check, as for `segment --checkpoint`; can be repeated",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="open every photo of PhraseCut, RefCOCO and LVIS, every label map, and every mask of "
        "your own data (default: a sample of 200 per list)",
    )
    options = parser.parse_args(args)
    unknown = [name for name in options.names if name not in _CHECKS and not _is_overlay(name)]
    if unknown:
        choices = f"{', '.join(_CHECKS)}, or the YAML file of a config overlay"
        parser.error(f"unknown name: {', '.join(unknown)}; choose from {choices}")
    unusable = _examine(options)
    if unusable:
        sys.exit(f"clipseg_pl: cannot be used: {', '.join(unusable)}")


def _is_overlay(name: str) -> bool:
    return name.lower().endswith((".yaml", ".yml"))


def _examine(options: argparse.Namespace) -> list[str]:
    """Print all findings; return the named items that are missing or unusable."""
    # deferred so that --help does not import torch
    from clipseg_pl.doctor.checkpoints import check_checkpoint
    from datamodules.toy.world import toy_root

    root = toy_root() if options.root == TOY else Path(options.root).expanduser()
    if options.root == TOY and not root.is_dir():
        sys.exit(f"clipseg_pl: no toy world in {root}; run python -m clipseg_pl toy --root {root}")
    named = bool(options.names or options.checkpoint)
    states = dict[str, Counter[str]]()
    for name in dict.fromkeys(options.names) if named else _CHECKS:
        if _is_overlay(name):
            found = _check_overlay(Path(name), options.root, options.all)
            states[name] = _report(f"data of {name}", found)
            continue
        title, function, reads_root = _CHECKS[name]
        check = resolve_name(f"clipseg_pl.doctor.{function}")
        where = f" in {root}" if reads_root else ""
        states[name] = _report(f"{name}: {title}{where}", check(root, options.all))
    runs = sorted(Path("runs").glob(_BEST), key=lambda file: file.stat().st_mtime)
    usual = dict.fromkeys([default_checkpoint(), TOY, *map(str, runs[-_RECENT:])])
    for name in options.checkpoint if named else usual:
        states[name] = _report(f"checkpoint {name}", check_checkpoint(name))
    if not named:
        total = sum(states.values(), Counter[str]())
        print(f"total: {', '.join(f'{total[state]} {state}' for state in _COLOURS)}")
        print(_NOTHING_NAMED)
        return []
    return [name for name, counts in states.items() if counts["missing"] or counts["wrong"]]


def _check_overlay(file: Path, root: str, every: bool) -> "Iterator[Finding]":
    """Check the own data or the label maps of a config overlay."""
    from clipseg_pl.doctor.label_maps import check_label_maps
    from clipseg_pl.doctor.own_data import check_own_data
    from datamodules.image_folder import ImageFolderDataModule

    data, sheet = _read_overlay(file, root), Path("runs") / f"{file.stem}_contact_sheet.jpg"
    if isinstance(data, ImageFolderDataModule):
        yield from check_own_data(data, sheet, every)
    else:
        yield from check_label_maps(data)


def _read_overlay(file: Path, root: str) -> "ImageFolderDataModule | LabelMapsDataModule":
    """Build the datamodule of a config overlay.

    Args:
        file: the overlay.
        root: folder of the data if the overlay sets none.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it does not describe own data or label maps.
    """
    from clipseg_pl.cli.arguments import Parser, one_line
    from datamodules.base import BaseDataModule
    from datamodules.datasets.files import read_yaml
    from datamodules.image_folder import ImageFolderDataModule
    from datamodules.label_maps import LabelMapsDataModule

    content = read_yaml(file)
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("init_args"), dict):
        raise ValueError(
            f"{file}: the section `data` with init_args is missing; see docs/own_data.md"
        )
    parser = Parser(exit_on_error=False)
    parser.add_lightning_class_args(BaseDataModule, "data", subclass_mode=True)
    name = f"{ImageFolderDataModule.__module__}.{ImageFolderDataModule.__name__}"
    given = {"class_path": name, **data, "init_args": {"root": root, **data["init_args"]}}
    try:
        parsed = parser.parse_object({"data": given})
        built = parser.instantiate_classes(parsed).data
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {one_line(str(error))}") from error
    if not isinstance(built, ImageFolderDataModule | LabelMapsDataModule):
        raise ValueError(f"{file}: describes neither own data nor label maps")
    return built


def _report(title: str, findings: "Iterable[Finding]") -> Counter[str]:
    """Print the findings of a section, one per line; return the number in each state."""
    from rich.console import Console
    from rich.text import Text

    from clipseg_pl.doctor.findings import Finding, explain

    found = list[Finding]()
    try:
        for finding in findings:
            found.append(finding)  # keeps the findings before an error
    except Exception as error:  # a broken item must not hide the others
        found.append(Finding("wrong", "reading", explain(error)))
    console = Console(soft_wrap=True, highlight=False)
    console.print(Text(title, "bold"))
    for state, subject, message in found:
        line = Text.assemble((f"  {state:9}", _COLOURS[state]), f"  {subject:26}  {message}")
        console.print(line)
    console.print()
    return Counter(finding.state for finding in found)
