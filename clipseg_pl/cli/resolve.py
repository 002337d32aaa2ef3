"""What a command line comes to, without running it."""

import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any

from clipseg_pl.cli.main import CLIPSegCLI


class _Parsed(CLIPSegCLI):
    """Stops when everything is parsed: reads no checkpoint, claims no folder, builds nothing."""

    def _parse_ckpt_path(self) -> None:
        pass

    def _set_seed(self) -> None:
        pass

    def before_instantiate_classes(self) -> None:
        """Leave the machine and the run's folder alone."""

    def instantiate_classes(self) -> None:
        """Keep the config as plain values."""
        self._dump_config()

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def resolve(args: Sequence[str]) -> dict[str, Any]:
    """Every value of a run, as plain data.

    Args:
        args: verb and options, as on the command line.

    Raises:
        ValueError: for what the command line would refuse, with its reason.
    """
    sys.argv = sys.argv[:1]  # lightning warns where both are given
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            config: dict[str, Any] = _Parsed(list(args)).config_dump
    except SystemExit as stopped:
        reason = said.getvalue().strip().splitlines()[-1].removeprefix("clipseg_pl: ")
        raise ValueError(reason) from stopped
    return config
