"""Resolve a command line to its config without running it."""

import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any

from clipseg_pl.cli.main import CLIPSegCLI


class _Parsed(CLIPSegCLI):
    """Parses the command line only: reads no checkpoint, uses no folder and builds no object."""

    def _parse_ckpt_path(self) -> None:
        pass

    def _set_seed(self) -> None:
        pass

    def before_instantiate_classes(self) -> None:
        """Skip the checks of the device and the run's folder."""

    def instantiate_classes(self) -> None:
        """Store the config as plain values."""
        self._dump_config()

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def resolve(args: Sequence[str]) -> dict[str, Any]:
    """Return the resolved config of a command line as plain data.

    Args:
        args: command and options.

    Raises:
        ValueError: if the command line is invalid. The message is the one the command would print.
    """
    sys.argv = sys.argv[:1]  # lightning warns if sys.argv and args are both set
    stderr = io.StringIO()
    try:
        with redirect_stderr(stderr):
            config: dict[str, Any] = _Parsed(list(args)).config_dump
    except SystemExit as error:
        message = stderr.getvalue().strip().splitlines()[-1].removeprefix("clipseg_pl: ")
        raise ValueError(message) from error
    return config
