"""The command `figure`: draw the probabilities of the paper's prompts for your own photos.

Reference: paper, Figures 4 and 6.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clipseg_pl.atomic import check_file
from clipseg_pl.cli.commands import HelpFormatter
from clipseg_pl.cli.model_options import add_checkpoint_option
from clipseg_pl.weights.places import find_local

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    from clipseg_pl.images import RGB

PROMPTS = (
    *("a surface", "a surface to place items", "somewhere to store away things"),
    *("something to sit on", "something to drink", "something to eat"),
    *("something that has legs", "cutlery", "a living creature", "chair", "table", "drawers"),
    *("grass", "cow", "yellow cow", "green drawers"),
)
"""the prompts in the paper's Figures 4 and 6"""
_COLUMNS, _CELL, _CAPTION = 6, 200, 22  # cells per row; width of a cell and caption height (px)


def main(args: list[str]) -> None:
    """Run the command. User errors exit with status 1 and a one-line message."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl figure",
        description="Segment photos with the prompts of the paper's Figures 4 and 6, and draw the "
        "probabilities into one image. Red areas are more probable.",
        epilog="example:\n  python -m clipseg_pl figure kitchen.jpg field.jpg --checkpoint "
        "runs/pc_plus/checkpoints/best.ckpt --out figure.png",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("photos", type=Path, nargs="+", metavar="PHOTO", help="image file")
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="text prompt to use instead of the paper's prompts; can be repeated",
    )
    add_checkpoint_option(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("figure.png"),
        metavar="FILE",
        help="image file to write (default: figure.png)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    options = parser.parse_args(args)
    try:
        find_local(options.checkpoint)  # reports a missing file at once
        for photo in options.photos:
            if not photo.is_file():
                raise FileNotFoundError(f"{photo}: no such photo")
        _check_picture(options.out, options.overwrite)
        drawn = _draw(options.photos, options.prompt or list(PROMPTS), options.checkpoint)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        drawn.save(options.out)
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")
    print(f"{options.out}: {len(options.photos)} photos")


def _check_picture(out: Path, overwrite: bool) -> None:
    """Check that the image can be written, before any work is done."""
    from PIL import Image

    check_file(out, overwrite)
    if Image.registered_extensions().get(out.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"{out}: unknown image format; use a name like figure.png")


def _draw(photos: list[Path], prompts: list[str], checkpoint: str) -> "Image":
    """Draw one block per photo: the photo, then one cell per prompt."""
    from PIL import Image
    from rich.progress import track

    from clipseg_pl.images import load_photo
    from clipseg_pl.inference.segmenter import Segmenter

    segmenter = Segmenter.from_pretrained(checkpoint)
    blocks = []
    for file in track(photos, "segmenting"):
        photo = load_photo(file)
        blocks.append(_block(photo, prompts, segmenter(photo, prompts).probability))
    canvas = Image.new("RGB", (blocks[0].width, sum(block.height for block in blocks)), "white")
    top = 0
    for block in blocks:
        canvas.paste(block, (0, top))
        top += block.height
    return canvas


def _block(photo: "RGB", prompts: list[str], probability: "npt.NDArray[np.float32]") -> "Image":
    from PIL import Image, ImageDraw, ImageFont

    from clipseg_pl.training.callbacks.panels import tint

    height, width = photo.shape[:2]
    cell = max(1, round(_CELL * height / width))
    lines = -(-(1 + len(prompts)) // _COLUMNS)
    canvas = Image.new("RGB", (_COLUMNS * (_CELL + 4), lines * (cell + _CAPTION)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    pictures = [photo, *(tint(photo, answer) for answer in probability)]
    for position, (caption, picture) in enumerate(zip(["", *prompts], pictures, strict=True)):
        left = position % _COLUMNS * (_CELL + 4)
        top = position // _COLUMNS * (cell + _CAPTION)
        canvas.paste(Image.fromarray(picture).resize((_CELL, cell)), (left, top))
        draw.text((left + 2, top + cell + 2), caption, fill="black", font=font)
    return canvas
