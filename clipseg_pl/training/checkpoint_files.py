"""Checkpoints on disk: there whole or not at all, and read without running what is in them."""

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from clipseg_pl.atomic import write_whole


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's, but for two things.

    A checkpoint takes the place of the one before when all of it is on the disk; lightning moves
    it there from the folder for temporary files, which copies it where that is another disk. And
    the checkpoint of the command line, which was read to know what to build, is not read again.

    Args:
        stored: that checkpoint, if there is one.
    """

    def __init__(self, stored: dict[str, Any] | None = None) -> None:
        """Keep the checkpoint until it is asked for."""
        self._stored = stored

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401 - lightning's signature
    ) -> None:
        """Write a checkpoint into a folder that is made if missing.

        Raises:
            OSError: naming the file, which is then as it was before: the disk is full, for example.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)

        def fill(stream: BinaryIO) -> None:
            stream.write(content.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())  # else power may fail between the renaming and the writing

        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_whole(file, fill)
        except OSError as error:
            raise OSError(
                f"{error}; the checkpoints there are whole: make room and go on with "
                "--ckpt_path last"
            ) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = "cpu",  # noqa: ANN401 - the same
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read one; nothing but plain values and tensors is unpickled, whatever is asked for."""
        stored, self._stored = self._stored, None
        return stored or super().load_checkpoint(path, map_location, weights_only=True)
