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
        own = self.file.with_name(f".{self.file.stem}_{platform.node()}_{os.getpid()}.part")
        with self._appending, own.open("a") as part:
            part.writelines(lines)

    def join(self, stream: BinaryIO) -> None:
        """Write all entries of all parts as one list, in the order of the photos."""
        parts = [part.open("rb") for part in self._parts()]
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

    def clear(self) -> None:
        """Remove the parts."""
        for part in self._parts():
            part.unlink()

    def _parts(self) -> list[Path]:
        return sorted(self.file.parent.glob(f".{self.file.stem}_*.part"))
