"""`segment`: masks and an overlay for a photo."""

import argparse
import re
import sys
from pathlib import Path

_LONGEST_NAME = 60
_TOY = "toy"


def main(args: list[str]) -> None:
    """Parse, segment, write; one line and status 1 for what a user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m clipseg_pl segment",
        description="Segment a photo by text. Every prompt gives a mask (PNG, 0 or 255) at the "
        "photo's own size; an overlay shows them all. The photo is encoded once.",
        epilog='example: python -m clipseg_pl segment photo.jpg --prompt "a dog" --prompt grass '
        "--checkpoint runs/pc_plus/checkpoints/best.ckpt",
    )
    parser.add_argument("photo", type=Path, help="the photo, in any common format")
    parser.add_argument(
        "--prompt", action="append", required=True, help="what to look for; repeat for more"
    )
    parser.add_argument(
        "--checkpoint",
        default=_TOY,
        help="a checkpoint of `fit`; or 'toy', the default, which comes with the package and knows "
        "drawn scenes only; or an authors' decoder (.pth), which needs OpenAI's ViT-B/16 "
        "in CLIPSEG_WEIGHTS or open_clip's cache; or Hugging Face's CLIPSeg (model.safetensors)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        help="probability above which a pixel counts, 0 to 1 (default: the checkpoint's own, 0.3 "
        "for published weights)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("masks"), help="folder to write to (default: masks)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace masks of earlier runs")
    given = parser.parse_args(args)
    if given.threshold is not None and not 0 <= given.threshold <= 1:
        parser.error(f"--threshold lies in [0, 1], not {given.threshold}")
    try:
        _segment(given)
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")


def _segment(given: argparse.Namespace) -> None:
    files = {
        prompt: given.out / f"{given.photo.stem}_{_slug(prompt)}.png" for prompt in given.prompt
    }
    overlay = given.out / f"{given.photo.stem}_overlay.png"
    if len({*files.values(), overlay}) <= len(given.prompt):
        raise ValueError("two prompts would be written to one file; word them differently")
    standing = [file for file in (*files.values(), overlay) if file.exists()]
    if standing and not given.overwrite:
        raise FileExistsError(f"{standing[0]} exists; --overwrite replaces it")
    if not given.photo.is_file():
        raise FileNotFoundError(f"{given.photo}: no such photo")

    # torch and what hangs on it, only when there is something to do
    from PIL import Image

    from clipseg_pl.images import load_photo
    from clipseg_pl.overlay import draw_overlay
    from clipseg_pl.segmenter import Segmenter

    if given.checkpoint == _TOY:
        print("the toy weights know drawn scenes only; --checkpoint names others", file=sys.stderr)
    segmenter = Segmenter.from_checkpoint(given.checkpoint)
    if given.threshold is not None:
        segmenter.threshold = given.threshold
    photo = load_photo(given.photo)
    result = segmenter(photo, given.prompt)
    given.out.mkdir(parents=True, exist_ok=True)
    for (prompt, file), mask in zip(files.items(), result.masks, strict=True):
        Image.fromarray(mask).convert("L").save(file)
        print(f"{file}: {prompt!r} covers {mask.mean():.1%}")
    draw_overlay(photo, result.masks, given.prompt).save(overlay)
    print(f"{overlay}: all prompts, threshold {segmenter.threshold:g}")


def _slug(prompt: str) -> str:
    """Words for a file name, cut where file systems would refuse it."""
    return re.sub(r"\W+", "_", prompt.strip().lower()).strip("_")[:_LONGEST_NAME]
