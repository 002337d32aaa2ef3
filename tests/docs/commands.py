"""Find the commands of a documentation page and run them as a reader would."""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

from clipseg_pl.__main__ import main

ROOT = Path(__file__).parents[2]
_COMMAND = "python -m clipseg_pl "


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of each `python -m clipseg_pl` command on a Markdown page, in order.

    Commands are in fenced code blocks, or in lines indented by four spaces. A backslash at the end
    of a line continues the command. Inline code is skipped, because it may be part of a command.
    """
    text = re.sub(r"\\\n\s*", "", page.read_text())
    found, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            _, command, rest = line.partition(_COMMAND)
            if command:
                found.append(shlex.split(rest, comments=True))
    return found


def run_command(
    args: Sequence[str], folder: Path, extra_options: Mapping[str, Sequence[str]]
) -> None:
    """Run a command in this process, with `folder` as the working directory.

    Args:
        args: command and options.
        folder: working directory. `experiments`, `clipseg_pl` and `sweeps` are linked into it, so
            that paths relative to the repository's root work.
        extra_options: command -> options that make it fast. They are appended, and the last value
            of an option counts.

    Raises:
        SystemExit: if the command exits instead of returning.
    """
    for name in ("experiments", "clipseg_pl", "sweeps"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    before = Path.cwd()
    os.chdir(folder)
    try:
        with patch.object(sys, "argv", ["clipseg_pl", *args, *extra_options.get(args[0], ())]):
            main()
    finally:
        os.chdir(before)
