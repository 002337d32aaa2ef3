"""`segment`: masks and overlays for photos of one's own."""

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from clipseg_pl.photo_files import find_photos
from clipseg_pl.prompt_options import add_prompt_options, collect_prompts, share, shorten
from clipseg_pl.prompts.text import PREFIXES

if TYPE_CHECKING:
    from clipseg_pl.embedding import EmbeddedPrompts
    from clipseg_pl.mask_files import MaskFiles
    from clipseg_pl.prompts.image_prompt import Prompt
    from clipseg_pl.segment_files import Outcome
    from clipseg_pl.segmenter import Segmenter

_TOY = "toy"
_LEAST_TILE = 32  # pixels
_KEPT = ("threshold", "absent_cut")  # of a checkpoint, if it was calibrated


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it on one line; the usage is long."""
        self.exit(2, f"clipseg_pl: {message} (see segment --help)\n")


def main(args: list[str]) -> None:
    """Parse, segment, write; one line and status 1 for what a user can mend.

    Photos that cannot be read are left out and named at the end, with status 1 as well.
    """
    parser = _parser()
    given = parser.parse_args(args)
    try:
        skipped = _segment(given, collect_prompts(parser, given))
    except (OSError, ValueError) as error:
        sys.exit(f"clipseg_pl: {error}")
    if skipped:
        sys.exit("\n".join(f"clipseg_pl: skipped {reason}" for reason in skipped))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m clipseg_pl segment",
        usage="python -m clipseg_pl segment PHOTO [PHOTO ...] --prompt WORDS [options]",
        description="Find in photos what prompts ask for. Every prompt gives a mask at the\n"
        "photo's own size; an overlay shows them all, with a legend. Photos that cannot\n"
        "be read are skipped and named at the end.",
        epilog="examples:\n"
        '  python -m clipseg_pl segment photo.jpg --prompt "a dog" --prompt grass\n'
        '  python -m clipseg_pl segment holiday "more/**/*.jpg" --prompt sky --format rle\n'
        "  python -m clipseg_pl segment photo.jpg --image-prompt cat.jpg --mask cat_mask.png\n"
        '  python -m clipseg_pl segment photo.jpg --prompt "a cat" --with cat.jpg '
        "--box 40,30,200,180",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="a file in any common format; a folder, with those in it; or a quoted glob",
    )
    add_prompt_options(parser)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--checkpoint",
        default=_TOY,
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
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        type=Path,
        default=Path("masks"),
        metavar="FOLDER",
        help="where to write; photos of several folders keep theirs below it (default: masks)",
    )
    form = output.add_mutually_exclusive_group()
    form.add_argument(
        "--format",
        choices=("png", "npy", "rle"),
        default="png",
        help="png: <photo>_<prompt>.png, a mask each (default); npy: <photo>.npy, float16 "
        "probabilities (prompts, height, width); rle: masks.json of all photos, as COCO's results",
    )
    form.add_argument(
        "--argmax",
        dest="format",
        action="store_const",
        const="labels",
        help="<photo>_labels.png in place of masks: each pixel the number of its likeliest prompt, "
        "0 where none reaches the threshold; prompts.json has the numbers",
    )
    output.add_argument("--no-overlay", action="store_true", help="write no <photo>_overlay.png")
    output.add_argument("--overwrite", action="store_true", help="replace what earlier runs wrote")
    output.add_argument(
        "--verbose", action="store_true", help="say what is used, and what each photo shows"
    )
    return parser


def _tile(text: str) -> int:
    if not text.isdecimal() or int(text) < _LEAST_TILE:
        raise argparse.ArgumentTypeError(f"is at least {_LEAST_TILE} pixels, not {text}")
    return int(text)


def _segment(given: argparse.Namespace, prompts: "list[Prompt]") -> list[str]:
    """Write masks; returns why photos were skipped."""
    photos = find_photos(given.photos, leave_out=given.out)

    # torch and what hangs on it, only when there is something to do
    from rich.console import Console
    from rich.progress import Progress

    from clipseg_pl.mask_files import MaskFiles
    from clipseg_pl.prompts.image_prompt import describe
    from clipseg_pl.segment_files import segment_files
    from clipseg_pl.segmenter import Segmenter

    names = [describe(prompt) for prompt in prompts]
    files = MaskFiles(given.out, names, given.format, overlay=not given.no_overlay)
    files.check(photos, given.overwrite)
    _check_device(given.device)
    if given.checkpoint == _TOY:
        print("the toy weights know drawn scenes only; --checkpoint names others", file=sys.stderr)
    segmenter = Segmenter.from_checkpoint(
        given.checkpoint, device=given.device, precision=given.precision
    )
    segmenter.prefixes, segmenter.tile = given.prefixes, given.tile
    for key in _KEPT:
        if getattr(given, key) is not None:
            setattr(segmenter, key, getattr(given, key))
    if given.verbose:
        _print_settings(given, segmenter)
    embedded = _embed(segmenter, prompts)
    several, started = len(photos) > 1, time.perf_counter()
    found, skipped = [0] * len(prompts), []
    outcomes = segment_files(segmenter, embedded, photos, files)
    console, to_screen = Console(stderr=True), sys.stdout.isatty()  # what goes to a file stays out
    bar = Progress(console=console, redirect_stdout=to_screen, disable=not several)
    with files, bar:
        for outcome in bar.track(outcomes, len(photos), description="segmenting"):
            if outcome.problem:
                skipped.append(outcome.problem)
                continue
            found = [n + (part > 0) for n, part in zip(found, outcome.covered, strict=True)]
            if given.verbose or not several:
                _print_outcome(files, outcome, with_presence=given.verbose)
    seconds, written = time.perf_counter() - started, len(photos) - len(skipped)
    if several:
        print(f"{given.out}: {written} of {len(photos)} photos")
        for prompt, count in zip(names, found, strict=True):
            print(f"  {shorten(prompt)!r} found in {count}")
    if given.verbose and written:
        print(f"{seconds / written * 1000:.0f} ms a photo, with reading and writing")
    return skipped


def _check_device(name: str) -> None:
    import torch

    try:
        torch.empty(0, device="cpu" if name == "auto" else name)
    except (RuntimeError, AssertionError) as error:
        has = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise ValueError(f"--device {name} cannot be used here, where there is {has}") from error


def _embed(segmenter: "Segmenter", prompts: "list[Prompt]") -> "EmbeddedPrompts":
    """Read the prompts; what CLIP warns of is said in one line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embedded = segmenter.embed(prompts)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"clipseg_pl: {message}", file=sys.stderr)
    return embedded


def _print_settings(given: argparse.Namespace, segmenter: "Segmenter") -> None:
    """Say what is used, and who says so."""
    from clipseg_pl.models.checkpoints import read_checkpoint
    from clipseg_pl.segmenter import TOY_CHECKPOINT

    file = TOY_CHECKPOINT if given.checkpoint == _TOY else Path(given.checkpoint)
    content = read_checkpoint(file) if file.suffix == ".ckpt" else {}
    print(f"checkpoint  {given.checkpoint}")
    for key in _KEPT:
        origin = "default, as the checkpoint keeps none"
        if getattr(given, key) is not None:
            origin = "as given"
        elif content.get(key) is not None:
            origin = "kept in the checkpoint"
        print(f"{key.replace('_', ' '):11} {getattr(segmenter, key):g} ({origin})")
    print(f"device      {segmenter.device}, {str(segmenter.dtype).removeprefix('torch.')}")
    side = segmenter.image_size
    print(f"model size  {side} (sees a photo at the area of {side} x {side} pixels)")


def _print_outcome(files: "MaskFiles", outcome: "Outcome", with_presence: bool) -> None:
    rows = zip(files.prompts, outcome.covered, outcome.presence, strict=True)
    for number, (prompt, covered, presence) in enumerate(rows):
        said = f"covers {covered:.1%}" if covered else "not found"
        more = f", presence {presence:.2f}" if with_presence else ""
        print(f"{files.with_prompt(outcome.photo, number)}: {shorten(prompt)!r} {said}{more}")
    if files.overlay:
        print(f"{files.of(outcome.photo)[-1]}: all prompts")
