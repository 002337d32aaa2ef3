"""Masks of many photos in one file, in the form of COCO's results."""

import json
import os
import platform
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask


class ResultList:
    """Collects masks beside the file that will list them, so that memory holds one photo's.

    Args:
        file: the list; entries of photos lie beside it, by process, until they are joined.
    """

    def __init__(self, file: Path) -> None:
        """Nothing is written yet."""
        self.file = file
        self._appending = threading.Lock()

    def append(
        self,
        name: str,
        number: int,
        prompts: Sequence[str],
        masks: npt.NDArray[np.bool_],
        scores: Sequence[float],
    ) -> None:
        """Add the masks of a photo; several threads may.

        Args:
            name: of its file.
            number: its own among all photos, from 0.
            prompts: P names.
            masks: (P, H, W).
            scores: P numbers.
        """
        lines = []
        for row, (prompt, mask, score) in enumerate(zip(prompts, masks, scores, strict=True)):
            encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            entry = {
                "image_id": number + 1,
                "category_id": row + 1,
                "file_name": name,
                "prompt": prompt,
                "segmentation": {
                    "size": list(mask.shape),
                    "counts": encoded["counts"].decode("ascii"),
                },
                "score": round(score, 4),
            }
            lines.append(json.dumps(entry) + "\n")
        with self._appending, self._own.open("a") as part:
            part.writelines(lines)

    def join(self, stream: BinaryIO, everyone: bool) -> None:
        """Write all entries as one list, in the order of the photos.

        Args:
            stream: where to.
            everyone: take those of all processes; else those of this one.
        """
        parts = [part.open("rb") for part in self._parts() if everyone or part == self._own]
        try:
            places = []  # of the lines, rather than the lines
            for position, part in enumerate(parts):
                start = 0
                for line in part:
                    places.append((json.loads(line)["image_id"], position, start))
                    start += len(line)
            stream.write(b"[")
            for entry, (_, position, start) in enumerate(sorted(places)):
                parts[position].seek(start)
                stream.write(b",\n" if entry else b"\n")
                stream.write(parts[position].readline().rstrip(b"\n"))
            stream.write(b"\n]\n")
        finally:
            for part in parts:
                part.close()

    def clear(self, everyone: bool) -> None:
        """Remove the parts of this process, and those of its machine that a killed one has left.

        Args:
            everyone: remove those of all processes.
        """
        for part in self._parts():
            if everyone or part == self._own or _is_left(part):
                part.unlink(missing_ok=True)

    @property
    def _own(self) -> Path:
        return self.file.with_name(f".{self.file.stem}_{platform.node()}_{os.getpid()}.part")

    def _parts(self) -> list[Path]:
        return sorted(self.file.parent.glob(f".{self.file.stem}_*.part"))


def _is_left(part: Path) -> bool:
    """Whether it was written on this machine, by a process that is gone."""
    written_by, _, process = part.stem.rpartition("_")
    if not written_by.endswith(f"_{platform.node()}") or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)  # sends nothing
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        return False
    return False
