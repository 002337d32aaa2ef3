"""Output formats of masks. `MaskFiles` writes the files."""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask

from clipseg_pl.atomic import write_text, write_whole
from clipseg_pl.images import RGB
from clipseg_pl.inference.editing import Edits, edit_masks, feather
from clipseg_pl.inference.file_names import join_name, name_prompts
from clipseg_pl.inference.overlay import colour
from clipseg_pl.inference.polygons import trace
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.photo_files import PhotoFile

Form = Literal["png", "soft", "cutout", "npy", "rle", "labels", "coco", "yolo"]
Masks = npt.NDArray[np.bool_]

_MAX_LABELS = 255


class Segmented(NamedTuple):
    """A segmented photo."""

    photo: PhotoFile
    number: int
    """index of the photo among all photos, from 0"""
    pixels: RGB | None
    """(H, W, 3) uint8, if the format needs them"""
    result: Segmentation
    """P prompts"""
    minus: Segmentation
    masks: Masks
    """(Q, H, W)"""
    presence: Sequence[float]
    """of each of the Q masks, 0 to 1"""


class MaskFormat:
    """Base class of the formats: the names and the contents of their files.

    Args:
        prompts: names of the P prompts.
        edits: edits of the masks.
        name_pattern: file name of a mask, see `check_name_pattern`.

    Raises:
        ValueError: if the format cannot show these prompts.
    """

    legend: ClassVar[str] = ""
    """file that lists the prompts, written with the first photo"""
    collection: ClassVar[str] = ""
    """file with the masks of all photos, written after the last photo"""
    needs_pixels: ClassVar[bool] = False

    def __init__(self, prompts: Sequence[str], edits: Edits, name_pattern: str) -> None:
        """Name the masks."""
        self.prompts, self.edits, self.name_pattern = prompts, edits, name_pattern
        self.names = [", ".join(prompts)] if edits.union else list(prompts)
        """names of the Q masks of a photo"""
        self.check()

    def check(self) -> None:
        """Raise ValueError if the format cannot show the prompts."""

    def files(self, photo: PhotoFile) -> list[str]:
        """Return the photo's own files, relative to the output folder: Q, one or none."""
        return []

    def masks(self, result: Segmentation, minus: Segmentation) -> Masks:
        """Return the masks (Q, H, W), edited but not feathered."""
        return edit_masks(result.masks, minus.masks, self.edits)

    def write(self, shown: Segmented, files: Sequence[Path]) -> object:
        """Write the photo's own files; return the photo's entry in the collection, if any."""
        raise NotImplementedError

    def list_prompts(self) -> str:
        """Return the content of the legend."""
        raise NotImplementedError

    def collect(self, entries: Sequence[Any]) -> str:
        """Return the content of the collection; the entries are in the order of the photos."""
        raise NotImplementedError


class _ImagePerMask(MaskFormat):
    ending: ClassVar[str] = ".png"

    @cached_property
    def _short_names(self) -> list[str]:
        return ["union"] if self.edits.union else name_prompts(self.prompts)

    def files(self, photo: PhotoFile) -> list[str]:
        pattern = self.name_pattern + self.ending
        return [join_name(photo.stem, pattern, name) for name in self._short_names]

    def write(self, shown: Segmented, files: Sequence[Path]) -> None:
        for image, file in zip(self.images(shown), files, strict=True):
            save_image(Image.fromarray(image), file)

    def images(self, shown: Segmented) -> Iterable[npt.NDArray[np.uint8]]:
        """Return the content of each file."""
        return (feather(mask, self.edits.feather) for mask in shown.masks)


class _Soft(_ImagePerMask):
    ending: ClassVar[str] = "_soft.png"

    def images(self, shown: Segmented) -> Iterable[npt.NDArray[np.uint8]]:
        return shown.result.soft(self.edits, shown.minus)


class _Cutout(_ImagePerMask):
    ending: ClassVar[str] = "_cutout.png"
    needs_pixels: ClassVar[bool] = True

    def images(self, shown: Segmented) -> Iterable[npt.NDArray[np.uint8]]:
        assert shown.pixels is not None
        return [np.dstack([shown.pixels, alpha]) for alpha in super().images(shown)]


class _WithLegend(MaskFormat):
    legend: ClassVar[str] = "prompts.json"

    def list_prompts(self) -> str:
        rows = enumerate(self.prompts)
        return _json_list(
            {"label": row + 1, "prompt": prompt, "colour": colour(row)} for row, prompt in rows
        )


class _Probabilities(_WithLegend):
    def files(self, photo: PhotoFile) -> list[str]:
        return [join_name(photo.stem, "{photo}.npy")]

    def write(self, shown: Segmented, files: Sequence[Path]) -> None:
        half = shown.result.probability.astype(np.float16)
        write_whole(files[0], lambda draft: np.save(draft, half))


class _LabelMap(_WithLegend):
    def check(self) -> None:
        if len(self.prompts) > _MAX_LABELS:
            raise ValueError(
                f"a label map has {_MAX_LABELS} labels, too few for {len(self.prompts)} prompts"
            )

    def files(self, photo: PhotoFile) -> list[str]:
        return [join_name(photo.stem, "{photo}_labels.png")]

    def masks(self, result: Segmentation, minus: Segmentation) -> Masks:
        masks: Masks = result.argmax() == np.arange(1, len(self.prompts) + 1)[:, None, None]
        return masks

    def write(self, shown: Segmented, files: Sequence[Path]) -> None:
        labels = np.where(shown.masks.any(0), shown.masks.argmax(0) + 1, 0)
        image = Image.fromarray(labels.astype(np.uint8)).convert("P")
        # colours of the overlay; 0 is black
        palette = [part for row in range(len(self.prompts)) for part in colour(row)]
        image.putpalette([0, 0, 0, *palette])
        save_image(image, files[0])


class _CocoResults(MaskFormat):
    collection: ClassVar[str] = "masks.json"

    def write(self, shown: Segmented, files: Sequence[Path]) -> list[dict[str, Any]]:
        entries = []
        for row, (name, mask) in enumerate(zip(self.names, shown.masks, strict=True)):
            encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            counts = encoded["counts"].decode("ascii")
            entries.append(
                {
                    "image_id": shown.number + 1,
                    "category_id": row + 1,
                    "file_name": shown.photo.name,
                    "prompt": name,
                    "segmentation": {"size": list(mask.shape), "counts": counts},
                    "score": round(shown.presence[row], 4),
                }
            )
        return entries

    def collect(self, entries: Sequence[list[dict[str, Any]]]) -> str:
        return _json_list(entry for photo in entries for entry in photo)


class _DataSet(MaskFormat):
    """Masks as polygons, because Label Studio, Ultralytics and others read no run lengths."""

    def check(self) -> None:
        for name in self.names:
            if self.names.count(name) > 1:
                raise ValueError(f"two prompts are {name!r}: give each class of a dataset once")


class _CocoDataSet(_DataSet):
    collection: ClassVar[str] = "annotations.coco.json"

    def write(self, shown: Segmented, files: Sequence[Path]) -> tuple[str, list[str]]:
        """Return the image and its annotations as JSON, which takes less memory than lists."""
        height, width = shown.masks.shape[1:]
        number = shown.number + 1
        image = {"id": number, "file_name": shown.photo.name, "height": height, "width": width}
        annotations = [
            {
                "id": shown.number * len(self.names) + category,
                "image_id": number,
                "category_id": category,
                "segmentation": [polygon.ravel().tolist() for polygon in trace(mask)],
                "bbox": cv2.boundingRect(mask.astype(np.uint8)),
                "area": int(mask.sum()),
                "iscrowd": 0,
                "score": round(presence, 4),
            }
            for category, (mask, presence) in enumerate(
                zip(shown.masks, shown.presence, strict=True), 1
            )
            if mask.any()
        ]
        return json.dumps(image), list(map(json.dumps, annotations))

    def collect(self, entries: Sequence[tuple[str, list[str]]]) -> str:
        categories = [{"id": row + 1, "name": name} for row, name in enumerate(self.names)]
        images = [image for image, _ in entries]
        annotations = [annotation for _, of_photo in entries for annotation in of_photo]
        return (
            f'{{"images": {_lines(images)},\n"categories": {json.dumps(categories)},\n'
            f'"annotations": {_lines(annotations)}}}\n'
        )


class _YoloDataSet(_DataSet):
    legend: ClassVar[str] = "data.yaml"

    def files(self, photo: PhotoFile) -> list[str]:
        # named after the photo's file, as Ultralytics expects
        return [(PurePosixPath("labels") / photo.name).with_suffix(".txt").as_posix()]

    def write(self, shown: Segmented, files: Sequence[Path]) -> None:
        size = np.array(shown.masks.shape[:0:-1])  # width, height
        lines = [
            " ".join([str(label), *(f"{part:.6g}" for part in (polygon / size).ravel())])
            for label, mask in enumerate(shown.masks)
            for polygon in trace(mask)
        ]
        write_text(files[0], "".join(line + "\n" for line in lines))

    def list_prompts(self) -> str:
        # a JSON string is also a YAML string
        names = "".join(
            f"  {label}: {json.dumps(name, ensure_ascii=False)}\n"
            for label, name in enumerate(self.names)
        )
        folders = "train: images\nval: images # change this to your validation photos\n"
        return f"{folders}names:\n{names}"


FORMATS: dict[Form, type[MaskFormat]] = {
    "png": _ImagePerMask,
    "soft": _Soft,
    "cutout": _Cutout,
    "npy": _Probabilities,
    "rle": _CocoResults,
    "labels": _LabelMap,
    "coco": _CocoDataSet,
    "yolo": _YoloDataSet,
}


def _lines(entries: Iterable[str]) -> str:
    """Join JSON texts to a list with one line per entry."""
    return "[\n" + ",\n".join(entries) + "\n]"


def _json_list(entries: Iterable[dict[str, Any]]) -> str:
    return _lines(map(json.dumps, entries)) + "\n"


def save_mask(mask: Masks, file: Path) -> None:
    """Write a mask (H, W) as a PNG with values 0 and 255."""
    save_image(Image.fromarray(mask.astype(np.uint8) * 255), file)


def save_image(image: Image.Image, file: Path) -> None:
    """Write an image as a PNG."""
    # level 1 takes a third of the time of level 6 for an overlay, and its file is 12 % larger
    write_whole(file, lambda draft: image.save(draft, "PNG", compress_level=1))
