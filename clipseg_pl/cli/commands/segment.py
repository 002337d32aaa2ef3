"""`segment`: masks and overlays for photos of one's own."""

import argparse
import sys
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from clipseg_pl.cli.model_options import add_model_options, load_segmenter
from clipseg_pl.cli.prompt_options import (
    add_prompt_options,
    collect_prompts,
    example_files,
    shorten,
)
from clipseg_pl.photo_files import MASKS, find_photos
from clipseg_pl.weights.places import TOY, find_checkpoint

if TYPE_CHECKING:
    from clipseg_pl.inference.embedding import EmbeddedPrompts
    from clipseg_pl.inference.mask_files import MaskFiles
    from clipseg_pl.inference.segment_files import Outcome
    from clipseg_pl.inference.segmenter import Segmenter
    from clipseg_pl.prompts.image_prompt import Prompt


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it on one line; the usage is long."""
        option = message.removeprefix("argument ").partition(":")[0]
        if message.endswith("expected one argument"):  # argparse takes what follows for an option
            message += f"; one that begins with - is written behind =, as in {option}=-..."
        self.exit(2, f"clipseg_pl: {message} (see segment --help)\n")


def main(args: list[str]) -> None:
    """Parse, segment, write; one line and status 1 for what a user can mend.

    Photos that cannot be read are left out and named at the end, with status 1 as well.
    """
    parser = _parser()
    given = parser.parse_args(args)
    try:
        skipped = _segment(given, collect_prompts(parser, given))
    except OSError as error:
        sys.exit(f"clipseg_pl: {_without_number(error)}")
    except ValueError as error:
        sys.exit(f"clipseg_pl: {error}")
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        sys.exit("clipseg_pl: out of memory: give fewer prompts, no --tile, or --device cpu")
    except KeyboardInterrupt:
        print(
            f"\nclipseg_pl: stopped; the photos that are finished lie in {given.out}: go on with "
            "the others, or with all of them and --overwrite",
            file=sys.stderr,
        )
        sys.exit(130)
    if skipped:
        sys.exit("\n".join(f"clipseg_pl: skipped {reason}" for reason in skipped))


def _without_number(error: OSError) -> str:
    """What the system says of a file, without the number of the error; what we say as it is."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether a GPU's, PyTorch's or numpy's memory is spent."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in said or "allocate memory" in said


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
        help="a file in any common format; a folder, with those in it and in its subfolders, but "
        "for subfolders called masks and the --out folder; or a quoted glob",
    )
    add_prompt_options(parser)
    add_model_options(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        type=lambda folder: Path(folder).expanduser(),
        default=Path(MASKS),
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
    output.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what earlier runs wrote, but not maps of other prompts",
    )
    output.add_argument(
        "--verbose", action="store_true", help="say what is used, and what each photo shows"
    )
    return parser


def _segment(given: argparse.Namespace, prompts: "list[Prompt]") -> list[str]:
    """Write masks; returns why photos were skipped."""
    find_checkpoint(given.checkpoint)  # the first thing to be said, and said at once
    photos = find_photos(given.photos, leave_out=given.out)

    # torch and what hangs on it, only when there is something to do
    from rich.console import Console
    from rich.progress import Progress

    from clipseg_pl.inference.mask_files import MaskFiles
    from clipseg_pl.inference.segment_files import segment_files
    from clipseg_pl.prompts.image_prompt import describe

    names = [describe(prompt) for prompt in prompts]
    files = MaskFiles(given.out, names, given.format, overlay=not given.no_overlay)
    files.check(photos, given.overwrite, example_files(given))
    segmenter, settings = load_segmenter(given)
    if given.verbose:
        print(settings)
    embedded = _embed(segmenter, prompts)
    if given.checkpoint == TOY:
        print("the toy weights know drawn scenes only; --checkpoint names others", file=sys.stderr)
    several, started = len(photos) > 1, time.perf_counter()
    found, skipped = [0] * len(prompts), []
    outcomes = segment_files(segmenter, embedded, photos, files)
    console, to_screen = Console(stderr=True), sys.stdout.isatty()  # what goes to a file stays out
    bar = Progress(console=console, redirect_stdout=to_screen, disable=not several)
    with files, closing(outcomes), bar:  # when stopped, what is being written is finished first
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


def _embed(segmenter: "Segmenter", prompts: "list[Prompt]") -> "EmbeddedPrompts":
    """Read the prompts; what CLIP warns of, that it reads no texts so long, is said in a line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embedded = segmenter.embed(prompts)
    said = list(dict.fromkeys(str(warning.message) for warning in caught))
    if said:
        more = f" (and {len(said) - 1} more such texts)" if len(said) > 1 else ""
        print(f"clipseg_pl: {said[0]}{more}", file=sys.stderr)
    return embedded


def _print_outcome(files: "MaskFiles", outcome: "Outcome", with_presence: bool) -> None:
    rows = zip(files.prompts, outcome.covered, outcome.presence, strict=True)
    for number, (prompt, covered, presence) in enumerate(rows):
        said = f"covers {covered:.1%}" if covered else "not found"
        more = f", presence {presence:.2f}" if with_presence else ""
        print(f"{files.with_prompt(outcome.photo, number)}: {shorten(prompt)!r} {said}{more}")
    if files.overlay:
        print(f"{files.of(outcome.photo)[-1]}: all prompts")
