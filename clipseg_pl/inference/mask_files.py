"""Write masks of photos to disk."""

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
from clipseg_pl.inference.editing import UNEDITED, Edits, check_form, edit_masks, feather
from clipseg_pl.inference.overlay import colour, draw_overlay
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.photo_files import PhotoFile, is_url

Form = Literal["png", "soft", "cutout", "npy", "rle", "labels"]

_MAX_LABELS = 255
_ENDINGS = {"png": ".png", "soft": "_soft.png", "cutout": "_cutout.png"}
"""formats with one file per mask"""
_LEGEND = "prompts.json"
_LIST = "masks.json"
_LONGEST_PROMPT = 40  # maximum characters of a prompt in a file name; each has up to four bytes


class MaskFiles:
    """Write the masks of P prompts for any number of photos.

    Every file is written completely or not at all. All results have the size of the photo.

    ========  ===================================================================================
    png       `<photo>_<prompt>.png`: one mask per prompt, 0 or 255; 0 to 255 if feathered
    soft      `<photo>_<prompt>_soft.png`: probabilities mapped to 0 to 255, see `Segmentation.soft`
    cutout    `<photo>_<prompt>_cutout.png`: the photo with the mask as its alpha channel
    npy       `<photo>.npy`: (P, H, W) float16 probabilities, without a threshold
    rle       `masks.json`: the masks of all photos in COCO results format, with the extra keys
              `file_name` (photo) and `prompt`; `score` is the presence score, the confidence
              that the prompted object is in the photo
    labels    `<photo>_labels.png`: indexed image, 0 is background, p + 1 is prompt p
    ========  ===================================================================================

    With npy and labels, `prompts.json` lists the prompts in the order of the rows or labels. With
    `edits.union`, <prompt> is `union`, and `score` is the highest presence of all prompts.

    Args:
        folder: output folder, created with the first file.
        prompts: names of the prompts.
        form: output format, see above.
        overlay: also write `<photo>_overlay.png`, the masks drawn on the photo with a legend. The
            masks are edited, but not feathered.
        edits: edits of the masks.

    Raises:
        ValueError: if there are more prompts than labels in a label map (255), or the format cannot
            show the edits.
    """

    def __init__(
        self,
        folder: Path,
        prompts: Sequence[str],
        form: Form,
        overlay: bool,
        edits: Edits = UNEDITED,
    ) -> None:
        """Derive the file names of the masks."""
        check_form(form, edits)
        if form == "labels" and len(prompts) > _MAX_LABELS:
            raise ValueError(
                f"a label map has {_MAX_LABELS} labels, too few for {len(prompts)} prompts"
            )
        self.folder, self.prompts, self.form, self.overlay = folder, prompts, form, overlay
        self.edits = edits
        self.names = [", ".join(prompts)] if edits.union else list(prompts)
        """names of the Q masks of a photo"""
        self._slugs = ["union"] if edits.union else name_files(prompts)
        self.entries: list[dict[str, Any]] = []
        """RLE entries, one per mask"""

    def photo_files(self, photo: PhotoFile) -> list[Path]:
        """Return the result files of one photo, without shared files; the overlay is the last."""
        if self.form in _ENDINGS:
            endings = [f"_{slug}{_ENDINGS[self.form]}" for slug in self._slugs]
        else:
            endings = {"npy": [".npy"], "rle": [], "labels": ["_labels.png"]}[self.form]
        if self.overlay:
            endings = [*endings, "_overlay.png"]
        return [self.folder / join_name(photo.stem, ending) for ending in endings]

    def mask_file(self, photo: PhotoFile, mask: int) -> Path:
        """Return the file that contains a mask, by its index from 0."""
        if self.form == "rle":
            return self.folder / _LIST
        return self.photo_files(photo)[mask if self.form in _ENDINGS else 0]

    @property
    def needs_pixels(self) -> bool:
        """Whether `write` needs the pixels of the photo."""
        return self.overlay or self.form == "cutout"

    def check(
        self, photos: Sequence[PhotoFile], overwrite: bool, examples: Sequence[Path] = ()
    ) -> None:
        """Check that all results can be written. Call this before the first photo is segmented.

        Args:
            photos: all photos.
            overwrite: whether results of earlier runs may be replaced. Photos and examples are
                never replaced.
            examples: support images and support masks.

        Raises:
            OSError: if a folder is not writable, a file exists and may not be overwritten, or
                `prompts.json` lists other prompts.
            ValueError: if two results have the same file name, or a result would replace a photo
                or an example.
        """
        files = [file for photo in photos for file in self.photo_files(photo)]
        check_folders((self.folder, *(file.parent for file in files)))
        duplicates = [file for file, times in Counter(files).items() if times > 1]
        if duplicates:
            raise ValueError(f"{duplicates[0]} would be written twice: rename a photo or a prompt")
        sources = [photo.source for photo in photos if not is_url(photo.source)]
        inputs = {Path(file).resolve() for file in (*sources, *examples)}
        legend = self.folder / _LEGEND
        for file in [*files, *self._shared]:
            if file.resolve() in inputs:
                raise ValueError(
                    f"{file} would replace a photo or an example: choose another folder"
                )
            if file.exists() and not overwrite and file != legend:
                raise FileExistsError(f"{file} exists; --overwrite replaces it")
        if legend in self._shared and legend.exists():
            if legend.read_text() != self._listing():
                raise FileExistsError(f"{legend} lists other prompts: choose another --out")

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Call `finish` on success or KeyboardInterrupt, not after other errors."""
        if error is None or issubclass(error, KeyboardInterrupt):
            self.finish()

    def write(
        self, photo: PhotoFile, number: int, pixels: RGB | None, result: Segmentation
    ) -> tuple[list[float], list[float]]:
        """Write the results of one photo. RLE masks are collected for `finish`.

        Args:
            photo: the photo.
            number: index of the photo among all photos, from 0.
            pixels: (H, W, 3) uint8, see `needs_pixels`.
            result: segmentation of the photo. The masks of prompts after the first P are
                subtracted from those of the first P.

        Returns:
            For each mask, the fraction of the photo that it covers before feathering, and its
            presence score, both 0 to 1.
        """
        result, minus = result.split(len(self.prompts))
        files, legend = self.photo_files(photo), self.folder / _LEGEND
        for file in files[-1:]:  # all files of a photo are in one folder
            file.parent.mkdir(parents=True, exist_ok=True)
        if legend in self._shared and not legend.exists():
            legend.parent.mkdir(parents=True, exist_ok=True)
            write_text(legend, self._listing())
        if self.form == "labels":
            labels = result.argmax()
            masks = labels == np.arange(1, len(self.prompts) + 1)[:, None, None]
            _save_image(_indexed(labels, len(self.prompts)), files[0])
        else:
            masks = edit_masks(result.masks, minus.masks, self.edits)
        presence = result.presence.tolist()
        if self.edits.union:
            presence = [max(presence)]
        if self.form == "png":
            for mask, file in zip(masks, files, strict=False):
                _save_image(Image.fromarray(feather(mask, self.edits.feather)), file)
        elif self.form == "soft":
            for values, file in zip(result.soft(self.edits, minus), files, strict=False):
                _save_image(Image.fromarray(values), file)
        elif self.form == "cutout":
            assert pixels is not None
            for mask, file in zip(masks, files, strict=False):
                alpha = feather(mask, self.edits.feather)
                _save_image(Image.fromarray(np.dstack([pixels, alpha])), file)
        elif self.form == "npy":
            half = result.probability.astype(np.float16)
            write_whole(files[0], lambda draft: np.save(draft, half))
        elif self.form == "rle":
            self.entries.extend(_coco_results(photo.name, number, self.names, presence, masks))
        if self.overlay:
            assert pixels is not None
            shown = [f"all but {name}" for name in self.names] if self.edits.invert else self.names
            _save_image(draw_overlay(pixels, masks, shown), files[-1])
        return [float(mask.mean()) for mask in masks], presence

    def finish(self) -> None:
        """Write `masks.json` if there are RLE masks."""
        if self.entries:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / _LIST, self._listing())

    def _listing(self) -> str:
        """Return the JSON of `masks.json`, sorted by photo, or of `prompts.json`."""
        listed: list[dict[str, Any]] = [
            {"label": row + 1, "prompt": prompt, "colour": colour(row)}
            for row, prompt in enumerate(self.prompts)
        ]
        if self.form == "rle":
            # the sort is stable, so the prompts of a photo keep their order
            listed = sorted(self.entries, key=lambda entry: entry["image_id"])
        return "[\n" + ",\n".join(map(json.dumps, listed)) + "\n]\n"

    @property
    def _shared(self) -> list[Path]:
        """Files shared by all photos."""
        if self.form in _ENDINGS:
            return []
        return [self.folder / (_LIST if self.form == "rle" else _LEGEND)]


def _coco_results(
    photo: str,
    number: int,
    names: Sequence[str],
    scores: Sequence[float],
    masks: npt.NDArray[np.bool_],
) -> list[dict[str, Any]]:
    """Convert the masks of a photo to COCO results, in the order of the masks."""
    entries = []
    for row, (name, score, mask) in enumerate(zip(names, scores, masks, strict=True)):
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        size, counts = list(mask.shape), encoded["counts"].decode("ascii")
        entries.append(
            {
                "image_id": number + 1,
                "category_id": row + 1,
                "file_name": photo,
                "prompt": name,
                "segmentation": {"size": size, "counts": counts},
                "score": round(score, 4),
            }
        )
    return entries


def save_mask(mask: npt.NDArray[np.bool_], file: Path) -> None:
    """Write a mask (H, W) as a PNG with values 0 and 255."""
    _save_image(Image.fromarray(mask.astype(np.uint8) * 255), file)


def _indexed(labels: npt.NDArray[np.int64], prompts: int) -> Image.Image:
    """Convert labels (H, W) to an indexed image with the colours of the overlay; 0 is black."""
    image = Image.fromarray(labels.astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, *(part for p in range(prompts) for part in colour(p))])
    return image


def _save_image(image: Image.Image, file: Path) -> None:
    # level 1 takes a third of the time of level 6 for an overlay, and its file is 12 % larger
    write_whole(file, lambda draft: image.save(draft, "PNG", compress_level=1))


def name_files(prompts: Sequence[str]) -> list[str]:
    """Convert prompts to short, lower-case, unique parts of file names."""
    taken, names = {"overlay", "labels"}, []
    for prompt in prompts:
        name = re.sub(r"\W+", "_", prompt.lower())[:_LONGEST_PROMPT].strip("_") or "prompt"
        number, base = 1, name
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names.append(name)
    return names


def join_name(stem: str, ending: str) -> str:
    """Join a stem and an ending; truncate the file name to the limit of file systems."""
    folder, slash, name = stem.rpartition("/")
    limit = LONGEST_NAME - len(os.fsencode(ending))
    return f"{folder}{slash}{os.fsencode(name)[:limit].decode('utf-8', 'ignore')}{ending}"
