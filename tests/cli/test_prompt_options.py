"""Prompt options on the command line."""

import argparse

import pytest

from clipseg_pl.cli.prompt_options import add_prompt_options, collect_prompts, shorten
from clipseg_pl.prompts.image_prompt import Blend, ImagePrompt


def parse(*args):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("photos", nargs="+")
    add_prompt_options(parser)
    return collect_prompts(parser, parser.parse_args(["photo.jpg", *map(str, args)]))


def plain(prompt):
    """Convert a prompt to tuples, with paths as strings."""
    if isinstance(prompt, ImagePrompt):
        return str(prompt.image), prompt.mask and str(prompt.mask), prompt.box
    if isinstance(prompt, Blend):
        return prompt.text, plain(prompt.image), prompt.weight
    return prompt if isinstance(prompt, str) else [plain(part) for part in prompt]


def test_options_apply_to_the_prompt_or_example_before_them(tmp_path):
    (tmp_path / "many.txt").write_text("\ufeffa tree\n\n  two words \n", "utf-8")
    args = [
        *("--prompt", "a dog"),
        *("--image-prompt", "a: b, c.jpg", "--mask", "a: b, c mask.png"),
        *("--prompts", tmp_path / "many.txt"),
        *("--image-prompt", "1.jpg", "--box", "1,2,3.5,4", "--with", "2.jpg"),
        *("--prompt", "a cat", "--with", "1.jpg", "--with", "2.jpg", "--mask", "m.png"),
        *("--prompt", "a cow", "--weight", "0.25", "--with", "cow.jpg"),
    ]
    prompts, minus = parse(*args)
    assert minus == []
    assert [plain(prompt) for prompt in prompts] == [
        "a dog",
        ("a: b, c.jpg", "a: b, c mask.png", None),
        "a tree",
        "two words",
        [("1.jpg", None, (1, 2, 3.5, 4)), ("2.jpg", None, None)],
        ("a cat", [("1.jpg", None, None), ("2.jpg", "m.png", None)], 0.5),
        ("a cow", [("cow.jpg", None, None)], 0.25),
    ]


def test_minus_options_start_a_prompt():
    args = [
        *("--minus-image", "1.jpg", "--box", "1,2,3,4", "--with", "2.jpg", "--mask", "m.png"),
        *("--prompt", "a person"),
        *("--minus", "a face", "--with", "face.jpg", "--weight", "0.25"),
        *("--image-prompt", "3.jpg"),
        *("--minus", "hair"),
    ]
    prompts, minus = parse(*args)
    assert [plain(prompt) for prompt in prompts] == ["a person", ("3.jpg", None, None)]
    assert [plain(prompt) for prompt in minus] == [
        [("1.jpg", None, (1, 2, 3, 4)), ("2.jpg", "m.png", None)],
        ("a face", [("face.jpg", None, None)], 0.25),
        "hair",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--mask m.png", "--mask: must come after"),
        ("--prompt dog --minus cat --box 1,2,3,4", "--box: must come after"),
        ("--prompt dog --box 1,2,3,4", "--box: must come after"),
        ("--with a.jpg", "--with: must come after"),
        ("--weight 0.5", "--weight: must come after"),
        ("--image-prompt a.jpg --mask m.png --box 1,2,3,4", "a.jpg already has a mask or box"),
        ("--image-prompt a.jpg --box 1,2,3", "four numbers"),
        ("--image-prompt a.jpg --box 1,2,3,x", "four numbers"),
        ("--prompt dog --with a.jpg --weight 1.5", r"--weight: must be in \[0, 1\]"),
        ("--prompt dog --with a.jpg --weight nan", r"--weight: must be in \[0, 1\]"),
        ("--prompt dog --with a.jpg --weight half", "--weight: must be a number from 0 to 1"),
        ("--prompts missing.txt", "missing.txt: No such file"),
    ],
)
def test_misplaced_or_malformed_options_are_rejected(options, message):
    with pytest.raises(argparse.ArgumentError, match=message):
        parse(*options.split())


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xff\xfe\x00dog"])
def test_file_without_prompts_is_rejected(tmp_path, content):
    (tmp_path / "many.txt").write_bytes(content)
    message = r"many.txt(: not a UTF-8 text file| contains no prompt)"
    with pytest.raises(argparse.ArgumentError, match=message):
        parse("--prompts", tmp_path / "many.txt")


@pytest.mark.parametrize(
    "args",
    [[], ["--image-prompt", "a.jpg", "--weight", "0.5"], ["--minus", "a face"]],
)
def test_command_without_a_complete_prompt_is_rejected(args, capsys):
    with pytest.raises(SystemExit) as exited:
        parse(*args)
    assert exited.value.code == 2
    assert "--prompt" in capsys.readouterr().err


def test_long_prompts_are_shortened_to_one_line():
    assert shorten("a dog\n on  grass") == "a dog on grass"
    assert shorten("x" * 100) == "x" * 57 + "..."
