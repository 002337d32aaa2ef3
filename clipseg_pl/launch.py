"""Runs of the command line in processes of their own, and what they leave behind."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def command_line(arguments: Sequence[str]) -> list[str]:
    """The command that a user would type, with this Python."""
    return [sys.executable, "-m", "clipseg_pl", *arguments]


def launch(arguments: Sequence[str]) -> bool:
    """Run in a process of its own, which may start further ones; whether all went well."""
    with subprocess.Popen(command_line(arguments)) as process:
        try:
            return process.wait() == 0
        except KeyboardInterrupt:
            process.wait()  # it was interrupted as well, and tidies up
            raise


def newest_results(folder: Path, verb: str) -> dict[str, Any] | None:
    """What the newest results file of a verb holds; None where a run has left none."""
    files = folder.glob(f"results/{verb}-*.json")
    newest = max(files, key=lambda file: file.stat().st_mtime_ns, default=None)
    return json.loads(newest.read_text()) if newest else None
