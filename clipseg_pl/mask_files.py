"""Masks of photos on disk, in four forms."""

import json
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from typing_extensions import Self

from clipseg_pl.coco_results import ResultList
from clipseg_pl.images import RGB
from clipseg_pl.mask_names import check_inputs, join_name, name_files
from clipseg_pl.overlay import colour, draw_overlay
from clipseg_pl.paths import check_folders
from clipseg_pl.photo_files import PhotoFile
from clipseg_pl.segmentation import Segmentation
from clipseg_pl.whole_file import write_whole

Form = Literal["png", "npy", "rle", "labels"]

_MOST_LABELS = 255


class MaskFiles:
    """Writes what photos show of P prompts, each file whole or not at all.

    Several threads and processes may write into one folder; one of them finishes.

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
        self._legend = folder / "prompts.json"
        self._list = ResultList(folder / "masks.json")
        self._begun, self._beginning = False, threading.Lock()
        self._outdated: list[Path] = []

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
            return self._list.file
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
                may be overwritten; a legend of other prompts, if maps would stay that need it.
            ValueError: naming a file that would be written twice, or is a photo or an example.
        """
        files = [file for photo in photos for file in self.of(photo)]
        check_folders((self.folder, *(file.parent for file in files)))
        twice = [file for file, times in Counter(files).items() if times > 1]
        if twice:
            raise ValueError(f"{twice[0]} would be written twice: rename a photo or a prompt")
        check_inputs(files, (*(photo.path for photo in photos), *examples))
        legend = self._legend
        if self._has_legend and legend.exists() and legend.read_bytes() != self._described():
            self._outdated = [*self.folder.rglob("*.npy"), *self.folder.rglob("*_labels.png")]
            left = sorted({*self._outdated}.difference(files))
            if left:
                raise FileExistsError(
                    f"{legend} has other prompts, and {left[0]} is read by it: write elsewhere"
                )
            files.append(legend)
        if overwrite:
            return
        files += [self._list.file] if self.form == "rle" else []
        for file in files:
            if file.exists():
                raise FileExistsError(f"{file} exists; --overwrite replaces it")

    def __enter__(self) -> Self:
        """Forget what a run that was killed has left."""
        self._list.clear(everyone=False)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Finish, unless something went wrong; what is stopped by hand is finished as it is."""
        try:
            if self._begun and (error is None or issubclass(error, KeyboardInterrupt)):
                self.finish(everyone=False)
        finally:
            self._list.clear(everyone=False)

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
        files = self.of(photo)
        for file in (self._list.file, *files[-1:]):  # all of a photo lie in one folder
            file.parent.mkdir(parents=True, exist_ok=True)
        self._begin()
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
            self._list.append(photo.name, number, self.prompts, masks, result.presence.tolist())
        if self.overlay:
            assert pixels is not None
            _save_image(draw_overlay(pixels, masks, self.prompts), files[-1])
        return [float(mask.mean()) for mask in masks]

    def finish(self, everyone: bool = True) -> None:
        """Write the list of all photos, when all parts are complete.

        Args:
            everyone: list what other processes have written too.
        """
        if self.form == "rle":
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._list.file, lambda draft: self._list.join(draft, everyone))
            self._list.clear(everyone)

    def _begin(self) -> None:
        """Write the legend, before anything is read by it; what another one described goes."""
        with self._beginning:
            if self._has_legend and not self._begun:
                for file in self._outdated:
                    file.unlink(missing_ok=True)
                write_whole(self._legend, lambda draft: draft.write(self._described()))
            self._begun = True

    @property
    def _has_legend(self) -> bool:
        return self.form in ("npy", "labels")

    def _described(self) -> bytes:
        """The prompts, one a line, in the order of the rows of probabilities."""
        lines = [
            json.dumps({"label": row + 1, "prompt": prompt, "colour": colour(row)})
            for row, prompt in enumerate(self.prompts)
        ]
        return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


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
