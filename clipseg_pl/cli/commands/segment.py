"""The command `segment`: write masks and mask overlays for your own photos."""

import argparse
import sys
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from clipseg_pl.cli.commands import HelpFormatter
from clipseg_pl.cli.model_options import add_model_options, load_segmenter
from clipseg_pl.cli.prompt_options import (
    add_prompt_options,
    collect_prompts,
    example_files,
    shorten,
)
from clipseg_pl.inference.file_names import NAME_PATTERN, check_name_pattern
from clipseg_pl.photo_files import MASKS, find_photos
from clipseg_pl.prompts.text import normalise_phrase
from clipseg_pl.weights.places import find_local

if TYPE_CHECKING:
    from clipseg_pl.inference.editing import Edits
    from clipseg_pl.inference.embedding import EmbeddedPrompts
    from clipseg_pl.inference.mask_files import MaskFiles
    from clipseg_pl.inference.segment_files import Outcome
    from clipseg_pl.inference.segmenter import Segmenter
    from clipseg_pl.prompts.image_prompt import Prompt


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print the error on one line, without argparse's long usage text."""
        option = message.removeprefix("argument ").partition(":")[0]
        if message.endswith("expected one argument"):  # also printed for values like -1.jpg
            message += f"; write a value that starts with - as {option}=-..."
        self.exit(2, f"clipseg_pl: {message} (see segment --help)\n")


def main(args: list[str]) -> None:
    """Run the command. User errors exit with status 1 and a one-line message.

    Unreadable photos are skipped and listed at the end, also with status 1.
    """
    parser = _parser()
    options = parser.parse_args(args)
    try:
        prompts, minus = collect_prompts(parser, options)
        edits = _collect_edits(parser, options, len(prompts), bool(minus))
        skipped = _segment(options, prompts, minus, edits)
    except OSError as error:
        sys.exit(f"clipseg_pl: {_without_errno(error)}")
    except ValueError as error:
        sys.exit(f"clipseg_pl: {error}")
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        sys.exit("clipseg_pl: out of memory: use fewer prompts, omit --tile or set --device cpu")
    except KeyboardInterrupt:
        print(
            f"\nclipseg_pl: interrupted. The results so far are in {options.out}. Run the command "
            "again with the remaining photos, or with all photos and --overwrite",
            file=sys.stderr,
        )
        sys.exit(130)
    if skipped:
        sys.exit("\n".join(f"clipseg_pl: skipped {reason}" for reason in skipped))


def _without_errno(error: OSError) -> str:
    """Format an error of the operating system without its number; keep our own messages."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _is_out_of_memory(error: Exception) -> bool:
    """Recognize out-of-memory errors of CUDA, PyTorch and NumPy."""
    message = str(error).lower()
    return (
        isinstance(error, MemoryError) or "out of memory" in message or "allocate memory" in message
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m clipseg_pl segment",
        usage="python -m clipseg_pl segment PHOTO [PHOTO ...] --prompt TEXT [options]",
        description="Segment photos with text and image prompts. Writes one mask per photo and "
        "prompt, at the size of the photo, and one overlay image per photo that shows all masks "
        "with a legend. Unreadable photos are skipped and listed at the end.",
        epilog="examples:\n"
        '  python -m clipseg_pl segment photo.jpg --prompt "a dog" --prompt grass\n'
        '  python -m clipseg_pl segment holiday "more/**/*.jpg" --prompt sky --format rle\n'
        "  python -m clipseg_pl segment photo.jpg --image-prompt cat.jpg --mask cat_mask.png\n"
        '  python -m clipseg_pl segment photo.jpg --prompt "a cat" --with cat.jpg '
        "--box 40,30,200,180\n"
        '  python -m clipseg_pl segment photo.jpg --prompt "a person" --minus "a face" --grow 8',
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="image file, http(s) URL, folder or quoted glob pattern. Folders are searched "
        "recursively, except subfolders named 'masks' and the --out folder",
    )
    add_prompt_options(parser)
    add_model_options(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        type=lambda folder: Path(folder).expanduser(),
        default=Path(MASKS),
        metavar="FOLDER",
        help="output folder; photos from several folders are written to subfolders of it "
        "(default: masks)",
    )
    form = output.add_mutually_exclusive_group()
    form.add_argument(
        "--format",
        choices=("png", "soft", "npy", "rle", "coco", "yolo"),
        default="png",
        help="png: one mask per prompt in <photo>_<prompt>.png; soft: probabilities as 8-bit grey "
        "in <photo>_<prompt>_soft.png; npy: float16 probabilities of shape (prompts, height, "
        "width) in <photo>.npy; rle: run-length encoded masks of all photos in masks.json, in COCO "
        "results format; coco: a COCO dataset with polygons in annotations.coco.json; yolo: a "
        "dataset for Ultralytics with polygons in labels/<photo>.txt and the names in data.yaml, "
        "for photos in the folder images beside labels (default: png)",
    )
    form.add_argument(
        "--cutout",
        dest="format",
        action="store_const",
        const="cutout",
        help="write the photo with the mask as its alpha channel instead of masks, in "
        "<photo>_<prompt>_cutout.png",
    )
    form.add_argument(
        "--argmax",
        dest="format",
        action="store_const",
        const="labels",
        help="write one label map <photo>_labels.png instead of masks: the number of the most "
        "probable prompt for each pixel, 0 where no prompt exceeds the threshold. prompts.json "
        "lists the numbers",
    )
    output.add_argument(
        "--name-pattern",
        default=NAME_PATTERN,
        metavar="PATTERN",
        help="file names of png, soft and cutout without the ending, for example "
        "{photo}__{prompt} (default: {photo}_{prompt})",
    )
    output.add_argument(
        "--no-overlay", action="store_true", help="do not write <photo>_overlay.png"
    )
    output.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing result files; still an error if --out contains .npy files or label "
        "maps of other prompts",
    )
    output.add_argument(
        "--verbose",
        action="store_true",
        help="print the settings, the covered area and presence of each mask, and the time per "
        "photo",
    )
    edits = parser.add_argument_group(
        "edits",
        "For inpainting and compositing. Edits apply in the order --union, --grow, --minus (see "
        "prompts), --invert, --feather. All masks stay aligned with the photo.",
    )
    edits.add_argument(
        "--union",
        action="store_true",
        help="merge the masks of all prompts into one; `union` replaces <prompt> in file names",
    )
    edits.add_argument(
        "--grow",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="add all pixels within this distance of the mask; a negative distance shrinks the "
        "mask (default: 0)",
    )
    edits.add_argument("--invert", action="store_true", help="swap mask and background")
    edits.add_argument(
        "--feather",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="soften the edge: values fall linearly from 255 this far inside the edge to 0 this "
        "far outside (default: 0)",
    )
    return parser


def _collect_edits(
    parser: argparse.ArgumentParser, options: argparse.Namespace, prompts: int, minus: bool
) -> "Edits":
    """Return the edits. Exits with status 2 if the format cannot show them or the names."""
    from clipseg_pl.inference.editing import Edits, check_form

    try:
        edits = Edits(options.union, options.grow, options.invert, options.feather)
        check_form(options.format, edits, minus)
        check_name_pattern(options.name_pattern, options.format, prompts > 1 and not edits.union)
    except ValueError as error:
        parser.error(str(error))
    return edits


def _segment(
    options: argparse.Namespace, prompts: "list[Prompt]", minus: "list[Prompt]", edits: "Edits"
) -> list[str]:
    """Segment and write; return one message per skipped photo."""
    find_local(options.checkpoint)  # first, to report a missing file at once
    photos = find_photos(options.photos, leave_out=options.out)

    # deferred so that --help does not import torch
    from rich.console import Console
    from rich.progress import Progress

    from clipseg_pl.inference.mask_files import MaskFiles
    from clipseg_pl.inference.segment_files import segment_files
    from clipseg_pl.prompts.image_prompt import describe

    names = [describe(prompt) for prompt in prompts]
    overlay = not options.no_overlay
    files = MaskFiles(options.out, names, options.format, overlay, edits, options.name_pattern)
    files.check(photos, options.overwrite, example_files(options))
    segmenter, settings = load_segmenter(options)
    if options.verbose:
        print(settings)
    embedded = _embed(segmenter, [*prompts, *minus])
    if options.verbose:
        for phrase in embedded.phrases:
            if (threshold := segmenter.class_thresholds.get(normalise_phrase(phrase))) is not None:
                print(f"threshold   {threshold:g} for {shorten(phrase)!r} (of its class)")
    several, started = len(photos) > 1, time.perf_counter()
    found, annotated, skipped = [0] * len(files.names), 0, []
    empty = float(edits.invert)  # covered fraction if nothing is found
    outcomes = segment_files(segmenter, embedded, photos, files)
    # redirecting stdout keeps printed lines above the bar, but would move piped output to stderr
    console, to_screen = Console(stderr=True), sys.stdout.isatty()
    bar = Progress(console=console, redirect_stdout=to_screen, disable=not several)
    with files, closing(outcomes), bar:  # closing: when interrupted, finish files being written
        for outcome in bar.track(outcomes, len(photos), description="segmenting"):
            if outcome.problem:
                skipped.append(outcome.problem)
                continue
            found = [n + (part != empty) for n, part in zip(found, outcome.covered, strict=True)]
            annotated += any(outcome.covered)
            if options.verbose or not several:
                _print_outcome(files, outcome, with_presence=options.verbose)
    seconds, written = time.perf_counter() - started, len(photos) - len(skipped)
    if several:
        print(f"{options.out}: {written} of {len(photos)} photos")
        for name, count in zip(files.names, found, strict=True):
            print(f"  {shorten(name)!r} found in {count}")
    if options.format in ("coco", "yolo") and written and not annotated:
        print(f"{options.out}: the dataset has no masks; its photos have no annotations")
    if options.verbose and written:
        print(f"{seconds / written * 1000:.0f} ms per photo, including reading and writing")
    return skipped


def _embed(segmenter: "Segmenter", prompts: "list[Prompt]") -> "EmbeddedPrompts":
    """Embed the prompts; print CLIP's warnings about truncated texts on one line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embedded = segmenter.embed(prompts)
    messages = list(dict.fromkeys(str(warning.message) for warning in caught))
    if messages:
        more = f" (and {len(messages) - 1} more such texts)" if len(messages) > 1 else ""
        print(f"clipseg_pl: {messages[0]}{more}", file=sys.stderr)
    return embedded


def _print_outcome(files: "MaskFiles", outcome: "Outcome", with_presence: bool) -> None:
    empty = float(files.edits.invert)  # covered fraction if nothing is found
    rows = zip(files.names, outcome.covered, outcome.presence, strict=True)
    for number, (name, covered, presence) in enumerate(rows):
        subject = "all but " * (files.edits.invert and covered != empty) + repr(shorten(name))
        area = f"covers {covered:.1%}" if covered != empty else "not found"
        more = f", presence {presence:.2f}" if with_presence else ""
        print(f"{files.mask_file(outcome.photo, number)}: {subject} {area}{more}")
    if files.overlay:
        print(f"{files.photo_files(outcome.photo)[-1]}: all prompts")
