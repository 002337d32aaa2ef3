"""The model that a command line names, and how it is to be used."""

import argparse
import os
import re
from typing import TYPE_CHECKING

from clipseg_pl.cli.prompt_options import share
from clipseg_pl.prompts.text import PREFIXES
from clipseg_pl.weights.places import TOY

if TYPE_CHECKING:
    from clipseg_pl.inference.segmenter import Segmenter

_LEAST_TILE = 32  # pixels


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
        type=_cut,
        metavar="CUT",
        help="leave the masks of absent prompts empty: those whose presence (0 to 1, see "
        "--verbose) is below this number, or below the one in the checkpoint with 'kept'; not "
        "together with --tile (default: 0, no mask is left empty)",
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


def load_segmenter(given: argparse.Namespace) -> "tuple[Segmenter, str]":
    """Load what the options name.

    Returns:
        The segmenter, and its settings with where each comes from, a line each.

    Raises:
        ValueError: for a device that is not there; see `load_model`.
        FileNotFoundError: see `load_model`.
    """
    from clipseg_pl.convert.loading import load_model
    from clipseg_pl.inference.segmenter import Segmenter
    from clipseg_pl.metrics.functional import cut_in_use, threshold_in_use
    from clipseg_pl.models.backbone import PAPER_SIZE

    _check_device(given.device)
    if given.absent_cut and given.tile:
        raise ValueError("--absent-cut has no meaning with --tile: presence is higher in tiles")
    loaded = load_model(given.checkpoint)
    threshold, origin = threshold_in_use(given.threshold, loaded.threshold)
    cut, whose = cut_in_use(given.absent_cut, loaded.absent_cut)
    segmenter = Segmenter(
        loaded.model,
        image_size=loaded.image_size or PAPER_SIZE,
        threshold=threshold,
        absent_cut=cut,
        prefixes=given.prefixes,
        tile=given.tile,
        device=given.device,
        precision=given.precision,
    )
    side, dtype = segmenter.image_size, str(segmenter.dtype).removeprefix("torch.")
    lines = [
        f"checkpoint  {given.checkpoint}",
        f"threshold   {threshold:g} ({origin})",
        f"absent cut  {cut:g} ({whose})",
        f"device      {segmenter.device}, {dtype}",
        f"model size  {side} (sees a photo at the area of {side} x {side} pixels)",
    ]
    return segmenter, "\n".join(lines)


def _check_device(name: str) -> None:
    import torch

    try:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
            raise RuntimeError(name)  # also what PyTorch knows, as meta, and this project does not
        torch.empty(0, device="cpu" if name == "auto" else name)
    except (RuntimeError, AssertionError) as error:
        has = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise ValueError(f"--device {name} cannot be used here; there is {has}") from error


def _cut(text: str) -> float | str:
    return text if text == "kept" else share(text)


def _tile(text: str) -> int:
    if not text.isdecimal() or int(text) < _LEAST_TILE:
        raise argparse.ArgumentTypeError(f"is at least {_LEAST_TILE} pixels, not {text}")
    return int(text)
