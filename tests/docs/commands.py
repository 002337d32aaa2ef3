"""The commands on a page, run as a reader would run them."""

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
    """What follows `python -m clipseg_pl` on the code lines of a markdown page, in order.

    Code lines are indented by four blanks or stand between fences; a backslash at their end goes on
    on the next line. Inline code is not run: it may be half a command.
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


def run_command(args: Sequence[str], folder: Path, shrunk: Mapping[str, Sequence[str]]) -> None:
    """Run a command in this process, in a folder, with options for its verb behind its own.

    Args:
        args: verb and options.
        folder: where to; `experiments`, `clipseg_pl` and `sweeps` are there as in the repository.
        shrunk: verb -> options that make it quick; of an option given twice the last counts.

    Raises:
        SystemExit: what the command ends with, if it does not simply return.
    """
    for name in ("experiments", "clipseg_pl", "sweeps"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    before = Path.cwd()
    os.chdir(folder)
    try:
        with patch.object(sys, "argv", ["clipseg_pl", *args, *shrunk.get(args[0], ())]):
            main()
    finally:
        os.chdir(before)
