"""The model that a command line names, and how it is to be used."""

import argparse
import os
import re
from typing import TYPE_CHECKING

from clipseg_pl.paths import TOY, find_checkpoint
from clipseg_pl.prompt_options import share
from clipseg_pl.prompts.text import PREFIXES

if TYPE_CHECKING:
    from clipseg_pl.segmenter import Segmenter

_LEAST_TILE = 32  # pixels
_KEPT = ("threshold", "absent_cut")  # of a checkpoint, as far as it was calibrated


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Give a command the options that `load_segmenter` reads."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--checkpoint",
        type=os.path.expanduser,
        default=TOY,
        help="a checkpoint of `fit`; or 'toy', the default, which comes with the package and knows "
        "drawn scenes only; or an authors' decoder (.pth), which needs OpenAI's ViT-B/16 in "
        "CLIPSEG_WEIGHTS or open_clip's cache; or a CLIPSeg of Hugging Face's (its folder or "
        "model.safetensors)",
    )
    model.add_argument(
        "--threshold",
        type=share,
        metavar="T",
        help="probability above which a pixel counts, 0 to 1 (default: the checkpoint's own, 0.3 "
        "for published weights)",
    )
    model.add_argument(
        "--absent-cut",
        type=share,
        metavar="CUT",
        help="presence (0 to 1, see --verbose) below which a prompt is taken to be absent and its "
        "mask left empty (default: the checkpoint's own, 0 for published weights)",
    )
    model.add_argument(
        "--prefixes",
        choices=PREFIXES,
        default="plain",
        help="sentences that words are put into, averaged (default: plain, the words alone)",
    )
    model.add_argument(
        "--tile",
        type=_tile,
        metavar="PIXELS",
        help="look also at squares of this side: finds what is small in large photos",
    )
    model.add_argument(
        "--device", default="auto", help="cpu, cuda or cuda:1 (default: a GPU where there is one)"
    )
    model.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of the computation (default: the fastest that the device does well)",
    )


def load_segmenter(given: argparse.Namespace) -> "Segmenter":
    """Load what the options name.

    Raises:
        ValueError: for a device that is not there; see `Segmenter.from_checkpoint`.
        FileNotFoundError: see there.
    """
    from clipseg_pl.segmenter import Segmenter

    _check_device(given.device)
    segmenter = Segmenter.from_checkpoint(
        given.checkpoint, device=given.device, precision=given.precision
    )
    segmenter.prefixes, segmenter.tile = given.prefixes, given.tile
    for key in _KEPT:
        if getattr(given, key) is not None:
            setattr(segmenter, key, getattr(given, key))
    return segmenter


def describe_settings(given: argparse.Namespace, segmenter: "Segmenter") -> str:
    """Say what is used, and who says so."""
    from clipseg_pl.models.checkpoints import read_checkpoint
    from clipseg_pl.models.from_hugging_face import CONFIG, WEIGHTS, describe

    file = find_checkpoint(given.checkpoint)
    content = read_checkpoint(file) if file.suffix == ".ckpt" else {}
    folder = file if file.is_dir() else file.parent
    if (file.is_dir() or file.name in WEIGHTS) and (folder / CONFIG).is_file():
        described = describe(folder)
        content = {"threshold": described.threshold, "absent_cut": described.absent_cut}
    lines = [f"checkpoint  {given.checkpoint}"]
    for key in _KEPT:
        origin = "default, as the checkpoint keeps none"
        if getattr(given, key) is not None:
            origin = "as given"
        elif content.get(key) is not None:
            origin = "kept in the checkpoint"
        lines.append(f"{key.replace('_', ' '):11} {getattr(segmenter, key):g} ({origin})")
    side, dtype = segmenter.image_size, str(segmenter.dtype).removeprefix("torch.")
    lines.append(f"device      {segmenter.device}, {dtype}")
    lines.append(f"model size  {side} (sees a photo at the area of {side} x {side} pixels)")
    return "\n".join(lines)


def _check_device(name: str) -> None:
    import torch

    try:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
            raise RuntimeError(name)  # also what PyTorch knows, as meta, and this project does not
        torch.empty(0, device="cpu" if name == "auto" else name)
    except (RuntimeError, AssertionError) as error:
        has = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise ValueError(f"--device {name} cannot be used here; there is {has}") from error


def _tile(text: str) -> int:
    if not text.isdecimal() or int(text) < _LEAST_TILE:
        raise argparse.ArgumentTypeError(f"is at least {_LEAST_TILE} pixels, not {text}")
    return int(text)
