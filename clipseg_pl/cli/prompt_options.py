"""Options to specify prompts on a command line: text, example images, or both.

Options apply to the prompt or example before them. Masks, boxes and further examples are separate
options, so that file names may contain any character:

    --prompt "a dog"
    --image-prompt cat.jpg --mask cat_mask.png
    --image-prompt cat.jpg --box 40,30,200,180 --with cat2.jpg --box 10,10,90,80
    --prompt "a cat" --with cat.jpg --mask cat_mask.png --weight 0.5
    --prompt "a person" --minus "a face" --minus-image glasses.jpg --box 40,30,200,180
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipseg_pl.photo_files import is_url

if TYPE_CHECKING:
    from clipseg_pl.prompts.image_prompt import ImagePrompt, Prompt

_MAX_SHOWN = 60  # characters of a prompt in printed output


@dataclass
class _Draft:
    """A prompt while its options are being parsed."""

    text: str | None = None
    examples: "list[ImagePrompt]" = field(default_factory=list)
    weight: float | None = None
    minus: bool = False


def add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `collect_prompts` uses to a command."""
    group = parser.add_argument_group(
        "prompts",
        "--mask, --box, --with and --weight refine the prompt before them; every other option "
        "starts a new prompt.",
    )
    described = (
        ("--prompt", "TEXT", _add_text, "text prompt: describe the object to segment"),
        ("--prompts", "FILE", _add_lines, "text file with one text prompt per line"),
        (
            *("--image-prompt", "IMAGE", _add_example),
            "image prompt: a photo of an example object. Without --mask or --box, the object is "
            "the whole image, or its opaque part if it has transparency",
        ),
        (
            *("--minus", "TEXT", _subtract_text),
            "text prompt for what is removed from every mask, for example: --prompt 'a person' "
            "--minus 'a face'",
        ),
        (
            *("--minus-image", "IMAGE", _subtract_example),
            "image prompt for what is removed from every mask",
        ),
        (
            *("--mask", "IMAGE", _set_mask),
            "mark the object in the preceding example: bright pixels of this image are the object",
        ),
        (
            *("--box", "L,T,R,B", _set_box),
            "mark the object in the preceding example by a bounding box in pixels: left, top, "
            "right, bottom",
        ),
        (
            *("--with", "IMAGE", _add_further_example),
            "add an example to the preceding prompt. Several examples are averaged; examples are "
            "blended with the text of a --prompt or --minus. Can be followed by --mask or --box",
        ),
        (
            *("--weight", "W", _set_weight),
            "weight of the text when it is blended with examples, 0 to 1 (default: 0.5)",
        ),
    )
    for option, metavar, parse, meaning in described:
        group.add_argument(
            *(option,), dest="drafts", metavar=metavar, action=_Collect, help=meaning, parse=parse
        )


def collect_prompts(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> "tuple[list[Prompt], list[Prompt]]":
    """Return the prompts and those of --minus and --minus-image, in the order of the command line.

    Example images are not loaded yet. Exits with status 2 if there is no prompt to segment, or if a
    prompt with --weight lacks text or example.

    Raises:
        ValueError: if a prompt is empty.
    """
    drafts: list[_Draft] = options.drafts or []
    if all(draft.minus for draft in drafts):
        parser.error("no prompt: give --prompt TEXT, --image-prompt IMAGE or --prompts FILE")
    if any(draft.text is not None and not draft.text.strip() for draft in drafts):
        raise ValueError("empty prompt: every --prompt and --minus needs a text")
    for draft in drafts:
        if draft.weight is not None and not (draft.text and draft.examples):
            parser.error("--weight needs a text and an example: --prompt TEXT --with IMAGE")
    plus, minus = (
        [_build(draft) for draft in drafts if draft.minus == subtracted]
        for subtracted in (False, True)
    )
    return plus, minus


def example_files(options: argparse.Namespace) -> list[Path]:
    """Return the files of all example images and of their masks, except URLs."""
    examples = [example for draft in options.drafts for example in draft.examples]
    return [file for e in examples for file in (e.image, e.mask) if isinstance(file, Path)]


def fraction(text: str) -> float:
    """Parse a number from 0 to 1; for use as an argparse type."""
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {text!r}") from error
    if not 0 <= number <= 1:  # also true for NaN
        raise argparse.ArgumentTypeError(f"must be in [0, 1], not {text}")
    return number


def shorten(prompt: str) -> str:
    """Shorten a prompt to a single line of at most 60 characters."""
    line = " ".join(prompt.split())
    return line if len(line) <= _MAX_SHOWN else f"{line[: _MAX_SHOWN - 3]}..."


def _build(draft: _Draft) -> "Prompt":
    from clipseg_pl.prompts.image_prompt import Blend

    examples = draft.examples
    if draft.text is None:
        return examples if len(examples) > 1 else examples[0]
    if not examples:
        return draft.text
    return Blend(draft.text, examples, 0.5 if draft.weight is None else draft.weight)


class _Collect(argparse.Action):
    """Calls the function `parse` with the prompts so far and the value of the option."""

    def __init__(self, parse: Any, **options: Any) -> None:  # noqa: ANN401 - argparse's
        super().__init__(**options)
        self.parse = parse

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if namespace.drafts is None:
            namespace.drafts = []
        try:
            self.parse(namespace.drafts, values)
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise argparse.ArgumentError(self, str(error)) from error


def _add_text(drafts: list[_Draft], text: str) -> None:
    drafts.append(_Draft(text))


def _add_lines(drafts: list[_Draft], file: str) -> None:
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a UTF-8 text file") from error
    lines = [line.strip() for line in text.splitlines()]
    found = [_Draft(line) for line in lines if line]
    if not found:
        raise ValueError(f"{file} contains no prompt")
    drafts += found


def _add_example(drafts: list[_Draft], image: str) -> None:
    drafts.append(_Draft(examples=[_image_prompt(image)]))


def _subtract_text(drafts: list[_Draft], text: str) -> None:
    drafts.append(_Draft(text, minus=True))


def _subtract_example(drafts: list[_Draft], image: str) -> None:
    drafts.append(_Draft(examples=[_image_prompt(image)], minus=True))


def _add_further_example(drafts: list[_Draft], image: str) -> None:
    if not drafts:
        raise ValueError("must come after the prompt it belongs to")
    drafts[-1].examples.append(_image_prompt(image))


def _image_prompt(image: str) -> "ImagePrompt":
    from clipseg_pl.prompts.image_prompt import ImagePrompt

    return ImagePrompt(_path_or_url(image))


def _set_mask(drafts: list[_Draft], image: str) -> None:
    _mark_object(drafts, mask=_path_or_url(image))


def _path_or_url(image: str) -> Path | str:
    return image if is_url(image) else Path(image).expanduser()


def _set_box(drafts: list[_Draft], sides: str) -> None:
    try:
        left, top, right, bottom = map(float, sides.split(","))
    except ValueError as error:
        raise ValueError(f"must be four numbers like 40,30,200,180, not {sides!r}") from error
    _mark_object(drafts, box=(left, top, right, bottom))


def _mark_object(drafts: list[_Draft], **region: Any) -> None:  # noqa: ANN401 - mask or box
    if not drafts or not drafts[-1].examples:
        raise ValueError("must come after the --image-prompt or --with IMAGE it belongs to")
    example = drafts[-1].examples[-1]
    if example.mask is not None or example.box is not None:
        raise ValueError(f"{example.image!s} already has a mask or box")
    drafts[-1].examples[-1] = replace(example, **region)


def _set_weight(drafts: list[_Draft], weight: str) -> None:
    if not drafts:
        raise ValueError("must come after the --prompt it belongs to")
    drafts[-1].weight = fraction(weight)
