"""What a command line comes to, without running it."""

import sys
from collections.abc import Sequence
from typing import Any

from clipseg_pl.cli import CLIPSegCLI


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
        SystemExit: for what the command line would refuse; the reason is on stderr.
    """
    sys.argv = sys.argv[:1]  # lightning warns where both are given
    config: dict[str, Any] = _Parsed(list(args)).config_dump
    return config
