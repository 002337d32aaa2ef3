"""`figure`: the paper's prompts on photos of one's own, as one picture."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clipseg_pl.atomic import check_file
from clipseg_pl.weights.places import TOY, find_checkpoint

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
"""those of the paper's Figures 4 and 6"""
_COLUMNS, _CELL, _CAPTION = 6, 200, 22  # cells in a line; pixels


def main(args: list[str]) -> None:
    """Parse, segment, draw; one line and status 1 for what a user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl figure",
        description="Show what a model makes of the paper's prompts (Figures 4 and 6), from plain "
        "names to what things are for, as one picture: the redder, the more probable.",
        epilog="example: python -m clipseg_pl figure kitchen.jpg field.jpg --checkpoint "
        "runs/pc_plus/checkpoints/best.ckpt --out figure.png",
    )
    parser.add_argument("photos", type=Path, nargs="+", help="photos, in any common format")
    parser.add_argument(
        "--prompt", action="append", help="other prompts than the paper's; repeat for more"
    )
    parser.add_argument(
        "--checkpoint",
        default=TOY,
        help="as of `segment`; by default the toy weights, which know drawn scenes only",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("figure.png"),
        help="picture to write (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the picture")
    given = parser.parse_args(args)
    try:
        find_checkpoint(given.checkpoint)
        for photo in given.photos:
            if not photo.is_file():
                raise FileNotFoundError(f"{photo}: no such photo")
        _check_picture(given.out, given.overwrite)
        drawn = _draw(given.photos, given.prompt or list(PROMPTS), given.checkpoint)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        drawn.save(given.out)
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")
    print(f"{given.out}: {len(given.photos)} photos")


def _check_picture(out: Path, overwrite: bool) -> None:
    """Refuse what could not be written before anything is computed."""
    from PIL import Image

    check_file(out, overwrite)
    if Image.registered_extensions().get(out.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"{out}: not an image file name; use figure.png, for example")


def _draw(photos: list[Path], prompts: list[str], checkpoint: str) -> "Image":
    """One block a photo: the photo, then a cell for each prompt."""
    from PIL import Image
    from rich.progress import track

    from clipseg_pl.images import load_photo
    from clipseg_pl.inference.segmenter import Segmenter

    segmenter = Segmenter.from_checkpoint(checkpoint)
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
