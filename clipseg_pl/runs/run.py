"""A run of `fit` as `tables` and `sweep` launch it: skipped if finished, resumed if interrupted."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKPOINTS = "checkpoints"
"""subfolder of a run's folder"""


@dataclass(frozen=True)
class Run:
    """One training.

    Args:
        arguments: arguments of `python -m clipseg_pl`, without `--trainer.default_root_dir`.
        folder: folder of the run.
        config: resolved config.
    """

    arguments: Sequence[str]
    folder: Path
    config: dict[str, Any]

    @property
    def last(self) -> Path:
        """Path of the newest checkpoint."""
        return self.folder / CHECKPOINTS / "last.ckpt"

    @property
    def command(self) -> list[str]:
        """Arguments of `python -m clipseg_pl`, including the run's folder."""
        return [*self.arguments, f"--trainer.default_root_dir={self.folder}"]

    def is_finished(self) -> bool:
        """Return whether the training has taken its last step or ended with the same limits.

        The number of steps of a limit in epochs is not in the config, so only the results tell
        whether they were taken.
        """
        trainer, results = self.config["trainer"], newest_results(self.folder, "fit")
        steps, limits = trainer["max_steps"], ("max_steps", "max_epochs")
        if results is not None:
            earlier = results["config"]["trainer"]
            same = all(earlier.get(limit) == trainer.get(limit) for limit in limits)
            if results["step"] >= steps > 0 or (same and results.get("ended")):
                return True
        if steps < 0 or not self.last.exists():
            return False
        from clipseg_pl.convert.checkpoints import read_checkpoint

        return bool(read_checkpoint(self.last)["global_step"] >= steps)

    def finish(self) -> bool:
        """Run the remaining steps, from the last checkpoint if there is one.

        Returns:
            Whether the run has succeeded.
        """
        if self.is_finished():
            return True
        return launch([*self.command, *(["--ckpt_path=last"] if self.last.exists() else [])])


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return the command line of clipseg_pl for this Python interpreter."""
    return [sys.executable, "-m", "clipseg_pl", *arguments]


def launch(arguments: Sequence[str]) -> bool:
    """Run clipseg_pl in a separate process and return whether it has succeeded."""
    with subprocess.Popen(command_line(arguments)) as process:
        try:
            return process.wait() == 0
        except KeyboardInterrupt:
            process.wait()  # the process was interrupted too; let it clean up
            raise


def newest_results(folder: Path, command: str) -> dict[str, Any] | None:
    """Return the content of the newest results file of a command, or None if there is none."""
    files = folder.glob(f"results/{command}-*.json")
    newest = max(files, key=lambda file: file.stat().st_mtime_ns, default=None)
    return json.loads(newest.read_text()) if newest else None
