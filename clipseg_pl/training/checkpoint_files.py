"""Atomic writing and safe reading of checkpoint files."""

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from clipseg_pl.atomic import write_whole


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint IO that writes atomically and does not read the initial checkpoint twice.

    A new checkpoint replaces the previous file only after it is completely on disk. Lightning's
    own IO moves the file from the system's temporary folder. If that folder is on another disk,
    the move is a copy, and an interrupted copy can leave a damaged checkpoint.

    Args:
        stored: content of the checkpoint that the command line has already read, if any.
    """

    def __init__(self, stored: dict[str, Any] | None = None) -> None:
        """Store the checkpoint for the first call of `load_checkpoint`."""
        self._stored = stored

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401 - lightning's signature
    ) -> None:
        """Write a checkpoint, and create its folder if it is missing.

        Raises:
            OSError: if the file cannot be written, for example because the disk is full. The
                previous file is unchanged.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)

        def fill(stream: BinaryIO) -> None:
            stream.write(content.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())  # else a power failure could leave an empty file

        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_whole(file, fill)
        except OSError as error:
            raise OSError(
                f"{error}. The existing checkpoints are intact: free disk space and resume with "
                "--ckpt_path last"
            ) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = "cpu",  # noqa: ANN401 - lightning's signature
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint, always with `weights_only=True` (only plain values and tensors)."""
        stored, self._stored = self._stored, None
        return stored or super().load_checkpoint(path, map_location, weights_only=True)
