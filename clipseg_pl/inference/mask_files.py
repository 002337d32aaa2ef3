"""Masks of photos on disk, in four forms."""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask
from typing_extensions import Self

from clipseg_pl.atomic import LONGEST_NAME, check_folders, write_text, write_whole
from clipseg_pl.images import RGB
from clipseg_pl.inference.overlay import colour, draw_overlay
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.photo_files import PhotoFile

Form = Literal["png", "npy", "rle", "labels"]

_MOST_LABELS = 255
_LEGEND = "prompts.json"
_LIST = "masks.json"
_LONGEST_PROMPT = 40  # letters of a prompt in a file's name, of up to four bytes each


class MaskFiles:
    """Writes what photos show of P prompts, each file whole or not at all.

    ========  ===================================================================================
    png       `<photo>_<prompt>.png`: a mask each, 0 or 255
    npy       `<photo>.npy`: (P, H, W) float16 probabilities, not cut at any threshold
    rle       `masks.json`: all photos, a list in the form of COCO's results, with the photo's
              `file_name`, the `prompt` and its presence as `score`
    labels    `<photo>_labels.png`: one indexed image, 0 background, p the p-th prompt
    ========  ===================================================================================

    Beside npy and labels lies `prompts.json`, which names the rows and labels. All are at the
    photo's own size.

    Args:
        folder: where to; made when there is something to write.
        prompts: their names.
        form: see above.
        overlay: write `<photo>_overlay.png` too, the masks laid over the photo with a legend.

    Raises:
        ValueError: for more prompts than a label map can tell apart.
    """

    def __init__(self, folder: Path, prompts: Sequence[str], form: Form, overlay: bool) -> None:
        """Name the files."""
        if form == "labels" and len(prompts) > _MOST_LABELS:
            raise ValueError(f"a label map has {_MOST_LABELS} labels, for {len(prompts)} prompts")
        self.folder, self.prompts, self.form, self.overlay = folder, prompts, form, overlay
        self._slugs = name_files(prompts)
        self.entries: list[dict[str, Any]] = []
        """of the list of rle, a mask each"""

    def of(self, photo: PhotoFile) -> list[Path]:
        """The files of a photo alone, the overlay last."""
        endings = {
            "png": [f"_{slug}.png" for slug in self._slugs],
            "npy": [".npy"],
            "rle": [],
            "labels": ["_labels.png"],
        }[self.form]
        if self.overlay:
            endings = [*endings, "_overlay.png"]
        return [self.folder / join_name(photo.stem, ending) for ending in endings]

    def with_prompt(self, photo: PhotoFile, prompt: int) -> Path:
        """The file that holds the mask of a prompt."""
        if self.form == "rle":
            return self.folder / _LIST
        return self.of(photo)[prompt if self.form == "png" else 0]

    def check(
        self, photos: Sequence[PhotoFile], overwrite: bool, examples: Sequence[Path] = ()
    ) -> None:
        """Refuse what could not be written, before there is anything to write.

        Args:
            photos: all of them.
            overwrite: whether files of earlier runs may be replaced; photos and examples never.
            examples: support images and their masks.

        Raises:
            OSError: naming a folder that cannot be written to; a file that is there, unless it
                may be overwritten; a `prompts.json` of other prompts.
            ValueError: naming a file that would be written twice, or is a photo or an example.
        """
        files = [file for photo in photos for file in self.of(photo)]
        check_folders((self.folder, *(file.parent for file in files)))
        twice = [file for file, times in Counter(files).items() if times > 1]
        if twice:
            raise ValueError(f"{twice[0]} would be written twice: rename a photo or a prompt")
        inputs = {path.resolve() for path in (*(photo.path for photo in photos), *examples)}
        legend = self.folder / _LEGEND
        for file in [*files, *self._shared]:
            if file.resolve() in inputs:
                raise ValueError(f"{file} would replace a photo or an example: write elsewhere")
            if file.exists() and not overwrite and file != legend:
                raise FileExistsError(f"{file} exists; --overwrite replaces it")
        if legend in self._shared and legend.exists():
            if legend.read_text() != self._listing():
                raise FileExistsError(f"{legend} is of other prompts: give another --out")

    def __enter__(self) -> Self:
        """Write each photo by `write`."""
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Finish, unless something went wrong; what is stopped by hand is finished as it is."""
        if error is None or issubclass(error, KeyboardInterrupt):
            self.finish()

    def write(
        self, photo: PhotoFile, number: int, pixels: RGB | None, result: Segmentation
    ) -> list[float]:
        """Write what is of a photo alone.

        Args:
            photo: which.
            number: its own among all photos, from 0.
            pixels: (H, W, 3) uint8, for the overlay.
            result: of the prompts.

        Returns:
            The share of the photo that each prompt covers, 0 to 1.
        """
        files, legend = self.of(photo), self.folder / _LEGEND
        for file in files[-1:]:  # all of a photo lie in one folder
            file.parent.mkdir(parents=True, exist_ok=True)
        if legend in self._shared and not legend.exists():
            legend.parent.mkdir(parents=True, exist_ok=True)
            write_text(legend, self._listing())
        if self.form == "labels":
            labels = result.argmax()
            masks = labels == np.arange(1, len(self.prompts) + 1)[:, None, None]
            _save_image(_indexed(labels, len(self.prompts)), files[0])
        else:
            masks = result.masks
        if self.form == "png":
            for mask, file in zip(masks, files, strict=False):
                save_mask(mask, file)
        elif self.form == "npy":
            half = result.probability.astype(np.float16)
            write_whole(files[0], lambda draft: np.save(draft, half))
        elif self.form == "rle":
            self.entries.extend(_coco_results(photo.name, number, result, masks))
        if self.overlay:
            assert pixels is not None
            _save_image(draw_overlay(pixels, masks, self.prompts), files[-1])
        return [float(mask.mean()) for mask in masks]

    def finish(self) -> None:
        """Write the list of masks, if there is any."""
        if self.entries:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / _LIST, self._listing())

    def _listing(self) -> str:
        """The list of masks, in the photos' order, or the prompts in that of their rows."""
        listed: list[dict[str, Any]] = [
            {"label": row + 1, "prompt": prompt, "colour": colour(row)}
            for row, prompt in enumerate(self.prompts)
        ]
        if self.form == "rle":
            listed = sorted(self.entries, key=lambda entry: entry["image_id"])  # stable
        return "[\n" + ",\n".join(map(json.dumps, listed)) + "\n]\n"

    @property
    def _shared(self) -> list[Path]:
        """The files that all photos share."""
        names = {"rle": [_LIST], "png": []}.get(self.form, [_LEGEND])
        return [self.folder / name for name in names]


def _coco_results(
    name: str, number: int, result: Segmentation, masks: npt.NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """The masks of a photo as COCO's results, in the order of the prompts."""
    entries = []
    scores = result.presence.tolist()
    for row, (prompt, mask) in enumerate(zip(result.prompts, masks, strict=True)):
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        size, counts = list(mask.shape), encoded["counts"].decode("ascii")
        entries.append(
            {
                "image_id": number + 1,
                "category_id": row + 1,
                "file_name": name,
                "prompt": prompt,
                "segmentation": {"size": size, "counts": counts},
                "score": round(scores[row], 4),
            }
        )
    return entries


def save_mask(mask: npt.NDArray[np.bool_], file: Path) -> None:
    """Write a mask (H, W) as a PNG of 0 and 255."""
    _save_image(Image.fromarray(mask.astype(np.uint8) * 255), file)


def _indexed(labels: npt.NDArray[np.int64], prompts: int) -> Image.Image:
    """(H, W) labels as an image with the colours of the overlay; the background is black."""
    image = Image.fromarray(labels.astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, *(part for p in range(prompts) for part in colour(p))])
    return image


def _save_image(image: Image.Image, file: Path) -> None:
    write_whole(file, lambda draft: image.save(draft, "PNG"))


def name_files(prompts: Sequence[str]) -> list[str]:
    """Bring prompts to parts of file names: short, in lower case, all different."""
    taken, names = {"overlay", "labels"}, []
    for prompt in prompts:
        name = re.sub(r"\W+", "_", prompt.lower())[:_LONGEST_PROMPT].strip("_") or "prompt"
        number, first = 1, name
        while name in taken:
            number += 1
            name = f"{first}_{number}"
        taken.add(name)
        names.append(name)
    return names


def join_name(stem: str, ending: str) -> str:
    """Both as the name of a file, the stem cut to what file systems take; folders stay."""
    folder, slash, name = stem.rpartition("/")
    most = LONGEST_NAME - len(os.fsencode(ending))
    return f"{folder}{slash}{os.fsencode(name)[:most].decode('utf-8', 'ignore')}{ending}"
