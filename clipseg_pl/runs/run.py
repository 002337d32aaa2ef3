"""A run of `fit`: planned, skipped if done, resumed or launched; behind `tables` and `sweep`."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKPOINTS = "checkpoints"
"""folder of a run's checkpoints, in its own"""


@dataclass(frozen=True)
class Run:
    """One training.

    Args:
        arguments: of `python -m clipseg_pl`, without a folder.
        folder: where the run lies.
        config: resolved.
    """

    arguments: Sequence[str]
    folder: Path
    config: dict[str, Any]

    @property
    def last(self) -> Path:
        """Its newest checkpoint."""
        return self.folder / CHECKPOINTS / "last.ckpt"

    @property
    def command(self) -> list[str]:
        """Arguments of `python -m clipseg_pl` with the folder."""
        return [*self.arguments, f"--trainer.default_root_dir={self.folder}"]

    def is_finished(self) -> bool:
        """Whether it has taken all steps, by its results or else by its last checkpoint."""
        steps = self.config["trainer"]["max_steps"]
        results = newest_results(self.folder, "fit")
        if results is not None and results["step"] >= steps:
            return True
        from clipseg_pl.convert.checkpoints import read_checkpoint

        return self.last.exists() and read_checkpoint(self.last)["global_step"] >= steps

    def finish(self) -> bool:
        """Run what is left, from the last checkpoint if there is one; whether it went well."""
        if self.is_finished():
            return True
        return launch([*self.command, *(["--ckpt_path=last"] if self.last.exists() else [])])


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
