"""Prompts on a command line: words, examples with a mask or a box, and both together.

What is meant in an example is said by an option behind it, and so are further examples, so that
file names may hold any sign, and what belongs together stands together:

    --prompt "a dog"
    --image-prompt cat.jpg --mask cat_mask.png
    --image-prompt cat.jpg --box 40,30,200,180 --with cat2.jpg --box 10,10,90,80
    --prompt "a cat" --with cat.jpg --mask cat_mask.png --weight 0.5
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipseg_pl.prompts.image_prompt import ImagePrompt, Prompt

_SHORT = 60  # letters of a prompt on the screen


@dataclass
class _Asked:
    """A prompt as far as it has been read."""

    words: str | None = None
    examples: "list[ImagePrompt]" = field(default_factory=list)
    weight: float | None = None


def add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """Give a command the options that `collect_prompts` reads."""
    group = parser.add_argument_group(
        "prompts", "words, examples or both; each --prompt and --image-prompt begins another"
    )
    described = (
        ("--prompt", "WORDS", _words, "what to look for, in words"),
        ("--prompts", "FILE", _lines, "text file of many, one a line"),
        ("--image-prompt", "IMAGE", _example, "an example of what to look for"),
        ("--mask", "IMAGE", _mask, "what is meant in the example before: bright in this image"),
        ("--box", "L,T,R,B", _box, "or inside this box, in pixels: left, top, right, bottom"),
        (
            *("--with", "IMAGE", _further),
            "one more example for the prompt before: examples are averaged, words and examples "
            "are blended; may have a --mask or --box too",
        ),
        ("--weight", "W", _weight, "of the words in that blend, 0 to 1 (default: 0.5)"),
    )
    for option, metavar, read, meaning in described:
        group.add_argument(
            *(option,), dest="asked", metavar=metavar, action=_Collect, help=meaning, read=read
        )


def collect_prompts(parser: argparse.ArgumentParser, given: argparse.Namespace) -> "list[Prompt]":
    """The prompts in the order given; examples are not read yet.

    Wrong options stop the program with status 2.

    Raises:
        ValueError: for an empty prompt.
    """
    asked: list[_Asked] = given.asked or []
    if not asked:
        parser.error("nothing to look for: give a --prompt, an --image-prompt or --prompts FILE")
    if any(part.words is not None and not part.words.strip() for part in asked):
        raise ValueError("give at least one prompt, none of them empty")
    for part in asked:
        if part.weight is not None and not (part.words and part.examples):
            parser.error("--weight needs words and an example: --prompt WORDS --with IMAGE")
    return [_build(part) for part in asked]


def example_files(given: argparse.Namespace) -> list[Path]:
    """The support images and masks that the options name."""
    examples = [example for asked in given.asked for example in asked.examples]
    return [Path(file) for e in examples for file in (e.image, e.mask) if file is not None]


def share(text: str) -> float:
    """Read a number from 0 to 1, as an argparse type."""
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is a number from 0 to 1, not {text!r}") from error
    if not 0 <= number <= 1:  # NaN is refused too
        raise argparse.ArgumentTypeError(f"lies in [0, 1], not {text}")
    return number


def shorten(prompt: str) -> str:
    """Bring a prompt to one short line."""
    line = " ".join(prompt.split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 3]}..."


def _build(asked: _Asked) -> "Prompt":
    from clipseg_pl.prompts.image_prompt import Blend

    examples = asked.examples
    if asked.words is None:
        return examples if len(examples) > 1 else examples[0]
    if not examples:
        return asked.words
    return Blend(asked.words, examples, 0.5 if asked.weight is None else asked.weight)


class _Collect(argparse.Action):
    """Hands each option on, with all that stood before it."""

    def __init__(self, read: Any, **options: Any) -> None:  # noqa: ANN401 - argparse's
        super().__init__(**options)
        self.read = read

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if namespace.asked is None:
            namespace.asked = []
        try:
            self.read(namespace.asked, values)
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise argparse.ArgumentError(self, str(error)) from error


def _words(asked: list[_Asked], words: str) -> None:
    asked.append(_Asked(words))


def _lines(asked: list[_Asked], file: str) -> None:
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: no text in UTF-8") from error
    lines = [line.strip() for line in text.splitlines()]
    found = [_Asked(line) for line in lines if line]
    if not found:
        raise ValueError(f"{file} holds no prompt")
    asked += found


def _example(asked: list[_Asked], image: str) -> None:
    asked.append(_Asked(examples=[_image_prompt(image)]))


def _further(asked: list[_Asked], image: str) -> None:
    if not asked:
        raise ValueError("stands behind the --prompt or --image-prompt that it belongs to")
    asked[-1].examples.append(_image_prompt(image))


def _image_prompt(image: str) -> "ImagePrompt":
    from clipseg_pl.prompts.image_prompt import ImagePrompt

    return ImagePrompt(Path(image).expanduser())


def _mask(asked: list[_Asked], image: str) -> None:
    _say_what_is_meant(asked, mask=Path(image).expanduser())


def _box(asked: list[_Asked], sides: str) -> None:
    try:
        left, top, right, bottom = map(float, sides.split(","))
    except ValueError as error:
        raise ValueError(f"is four numbers, as in 40,30,200,180, not {sides!r}") from error
    _say_what_is_meant(asked, box=(left, top, right, bottom))


def _say_what_is_meant(asked: list[_Asked], **given: Any) -> None:  # noqa: ANN401 - mask or box
    if not asked or not asked[-1].examples:
        raise ValueError("stands behind the --image-prompt or --with IMAGE that it belongs to")
    example = asked[-1].examples[-1]
    if example.mask is not None or example.box is not None:
        raise ValueError(f"{example.image} has a mask or box already")
    asked[-1].examples[-1] = replace(example, **given)


def _weight(asked: list[_Asked], given: str) -> None:
    if not asked:
        raise ValueError("stands behind the --prompt that it belongs to")
    asked[-1].weight = share(given)
