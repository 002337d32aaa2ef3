"""Options to choose a model and how to run it, shared by several commands."""

import argparse
import os
import re
from typing import TYPE_CHECKING

from clipseg_pl.cli.prompt_options import fraction
from clipseg_pl.prompts.text import PREFIXES
from clipseg_pl.weights.places import PUBLISHED, default_checkpoint

if TYPE_CHECKING:
    from clipseg_pl.inference.segmenter import Segmenter

_MIN_TILE = 32  # pixels


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `load_segmenter` uses to a command."""
    model = parser.add_argument_group("model")
    add_checkpoint_option(model)
    model.add_argument(
        "--threshold",
        type=fraction,
        metavar="T",
        help="probability above which a pixel belongs to a mask, 0 to 1 (default: the stored "
        "threshold of the text prompt's class, else the stored threshold, else 0.3)",
    )
    model.add_argument(
        "--absent-cut",
        type=_cut,
        metavar="CUT",
        help="leave the mask of a prompt empty if its presence score (mean of the highest 1%% of "
        "its probabilities) is below this value, 0 to 1; 'stored' uses the checkpoint's value. "
        "Cannot be combined with --tile (default: 0, off)",
    )
    model.add_argument(
        "--prefixes",
        choices=PREFIXES,
        default="plain",
        help="sentence templates for text prompts; the embeddings of all sentences of a set are "
        "averaged. plain: no template; fixed: 'a photo of a ...'; shuffle: 4 templates; "
        "shuffle_plus: 9 templates (default: plain)",
    )
    model.add_argument(
        "--tile",
        type=_tile,
        metavar="PIXELS",
        help="also segment square tiles with this side length, and average their results with "
        "that of the whole photo; helps to find small objects in large photos (default: off)",
    )
    model.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="auto, cpu, cuda or cuda:N (default: auto, a GPU if there is one)",
    )
    model.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="number format for inference (default: auto, the fastest one that the device "
        "supports well)",
    )


def add_checkpoint_option(parser: argparse._ActionsContainer) -> None:
    """Add `--checkpoint` to a command or to a group of its options."""
    parser.add_argument(
        "--checkpoint",
        type=os.path.expanduser,
        default=default_checkpoint(),
        metavar="MODEL",
        help="CLIPSeg on Hugging Face's hub (owner/name or owner/name@revision), downloaded on "
        "first use; its folder or model.safetensors; checkpoint of `fit` (.ckpt); or decoder of "
        "the authors (.pth), used with OpenAI's ViT-B/16 from CLIPSEG_WEIGHTS or Hugging Face's "
        "cache. 'toy' is a small model included in the package that works on generated scenes "
        f"only (default: the environment variable CLIPSEG_CHECKPOINT, else {PUBLISHED})",
    )


def load_segmenter(options: argparse.Namespace) -> "tuple[Segmenter, str]":
    """Load the model chosen by the options.

    Returns:
        The segmenter, and a summary of its settings and their sources, one per line.

    Raises:
        ValueError: if the device is not available or --absent-cut is combined with --tile; see
            also `load_model`.
        FileNotFoundError: see `load_model`.
    """
    from clipseg_pl.convert.loading import load_model
    from clipseg_pl.inference.segmenter import Segmenter
    from clipseg_pl.metrics.functional import cut_in_use, threshold_in_use
    from clipseg_pl.models.backbone import PAPER_SIZE

    _check_device(options.device)
    if options.absent_cut and options.tile:
        raise ValueError(
            "--absent-cut cannot be combined with --tile: it is calibrated on whole photos, and "
            "presence scores are higher in tiles"
        )
    loaded = load_model(options.checkpoint)
    threshold, origin = threshold_in_use(options.threshold, loaded.threshold)
    cut, cut_origin = cut_in_use(options.absent_cut, loaded.absent_cut)
    segmenter = Segmenter(
        loaded.model,
        image_size=loaded.image_size or PAPER_SIZE,
        threshold=threshold,
        absent_cut=cut,
        class_thresholds=loaded.class_thresholds if options.threshold is None else {},
        prefixes=options.prefixes,
        tile=options.tile,
        device=options.device,
        precision=options.precision,
    )
    side, dtype = segmenter.image_size, str(segmenter.dtype).removeprefix("torch.")
    lines = [
        f"checkpoint  {options.checkpoint}",
        f"threshold   {threshold:g} ({origin})",
        f"absent cut  {cut:g} ({cut_origin})",
        f"device      {segmenter.device}, {dtype}",
        f"model size  {side} (photos are resized to about the area of {side} x {side} pixels)",
    ]
    return segmenter, "\n".join(lines)


def _check_device(name: str) -> None:
    import torch

    try:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
            raise RuntimeError(name)  # devices of PyTorch that we do not support, like meta
        torch.empty(0, device="cpu" if name == "auto" else name)
    except (RuntimeError, AssertionError) as error:
        available = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise ValueError(f"--device {name} is not available; choose from {available}") from error


def _cut(text: str) -> float | str:
    return text if text == "stored" else fraction(text)


def _tile(text: str) -> int:
    if not text.isdecimal() or int(text) < _MIN_TILE:
        raise argparse.ArgumentTypeError(
            f"must be an integer of at least {_MIN_TILE} pixels, not {text}"
        )
    return int(text)
