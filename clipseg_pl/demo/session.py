"""Logic of the demo page, independent of Gradio."""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipseg_pl.images import RGB, load_photo
from clipseg_pl.inference.editing import Edits, edit_masks, feather
from clipseg_pl.inference.overlay import COLOURS, draw_overlay
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.prompts.image_prompt import Blend, ImagePrompt, Prompt

if TYPE_CHECKING:  # slow to import: the page opens before the model is loaded
    from clipseg_pl.inference.segmenter import EncodedPhoto, Segmenter

LONGEST_SIDE = 1024
"""maximum side length of photos in pixels, so that moving a slider redraws the page quickly"""
MAX_PROMPTS = len(COLOURS)
"""maximum number of prompts: each has its own colour"""
_PAINTED = 32  # minimum opacity (0 to 255) of a painted pixel; brush strokes are translucent


class PagePhoto(NamedTuple):
    """A photo at the size shown on the page, and its encoding."""

    pixels: RGB
    encoded: "EncodedPhoto"


class Result(NamedTuple):
    """Segmentations of a photo for the prompts, and for the prompts to subtract."""

    shown: Segmentation
    minus: Segmentation


class Settings(NamedTuple):
    """Settings that need no run of the model.

    `threshold` applies to all prompts; None keeps the thresholds of the segmentation. `cutout`
    selects the photo with the masks as alpha channel for download, instead of the masks.
    """

    threshold: float | None
    absent_cut: float
    edits: Edits
    cutout: bool


def encode(segmenter: "Segmenter", file: Path) -> PagePhoto:
    """Encode a photo, after shrinking it to the size shown on the page if it is larger.

    Raises:
        ValueError: if the file cannot be read.
    """
    try:
        photo = load_photo(file)
    except (OSError, ValueError) as error:
        # show only the file name, because users do not know the folder of uploads
        raise ValueError(str(error).replace(str(file), file.name)) from error
    if max(photo.shape) > LONGEST_SIDE:
        image = Image.fromarray(photo)
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        photo = np.array(image)
    return PagePhoto(photo, segmenter.encode(photo))


def segment(
    segmenter: "Segmenter", photo: PagePhoto, prompts: Sequence[Prompt], minus: Sequence[str]
) -> Result:
    """Segment an encoded photo.

    Args:
        segmenter: segmenter that encoded the photo.
        photo: the photo.
        prompts: prompts to show, at least one.
        minus: prompts whose masks are subtracted.

    Raises:
        ValueError: if there are too many prompts.
    """
    for part in (prompts, minus):
        if len(part) > MAX_PROMPTS:
            raise ValueError(f"At most {MAX_PROMPTS} prompts at a time; there are {len(part)}.")
    return Result(*segmenter.segment(photo.encoded, [*prompts, *minus]).split(len(prompts)))


def show(
    photo: PagePhoto, result: Result, settings: Settings, folder: Path
) -> tuple[Image.Image, str, Path]:
    """Draw a result.

    Args:
        photo: the photo.
        result: its segmentation.
        settings: thresholds and edits.
        folder: folder for the zip file, see `write_masks`.

    Returns:
        The overlay, without a legend because the table replaces it; the HTML table; and the zip
        file with the edited masks, or with the cutouts, and the overlay with its legend.
    """
    shown, minus = (replace(part, absent_cut=settings.absent_cut) for part in result)
    if settings.threshold is not None:
        shown, minus = (replace(part, threshold=settings.threshold) for part in (shown, minus))
    edits, names, presence = settings.edits, list(shown.prompts), shown.presence
    masks = edit_masks(shown.masks, minus.masks, edits)
    if edits.union:
        names, presence = [", ".join(names)], presence.max(keepdims=True)
    if edits.invert:
        names = [f"all but {name}" for name in names]
    images = [feather(mask, edits.feather) for mask in masks]
    if settings.cutout:
        images = [np.dstack([photo.pixels, alpha]) for alpha in images]
    overlay = draw_overlay(photo.pixels, masks, names)
    height, width = photo.pixels.shape[:2]
    return (
        overlay.crop((0, 0, width, height)),
        write_table(names, presence, masks),
        write_masks(names, images, overlay, folder),
    )


def list_prompts(
    phrases: str, example: ImagePrompt | None, example_text: str, weight: float
) -> list[Prompt]:
    """Collect the prompts from the page's fields.

    Args:
        phrases: phrases separated by commas, semicolons or line breaks.
        example: the painted example, or None.
        example_text: text to blend with the example; may be empty.
        weight: weight of `example_text`, 0 to 1.
    """
    prompts: list[Prompt] = [*split_phrases(phrases)]
    if example is not None:
        phrase = " ".join(example_text.split())
        prompts.append(Blend(phrase, example, weight) if phrase else example)
    return prompts


def split_phrases(text: str) -> list[str]:
    """Split a text at commas, semicolons and line breaks, and drop duplicates."""
    phrases = (" ".join(phrase.split()) for phrase in re.split(r"[,;\n]", text))
    return list(dict.fromkeys(filter(None, phrases)))


def read_example(editor: Mapping[str, Any] | None) -> ImagePrompt:
    """Convert the support image and the brush strokes on it to an image prompt.

    Args:
        editor: value of the editor. `background` is None or the support image (H, W, 4) uint8, with
            transparent margins if its aspect ratio differs from that of the canvas. `layers` is a
            list of brush strokes, (H, W, 4) uint8 each.

    Raises:
        ValueError: if there is no image or nothing is painted.
    """
    background = None if editor is None else editor["background"]
    # an empty canvas is white or transparent
    if editor is None or background is None or background.min() == 255 or not background.any():
        raise ValueError("Choose an image to paint on first.")
    rows, columns = (np.flatnonzero(background[..., 3].any(axis)) for axis in (1, 0))
    image = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    strokes = [layer[..., 3][image] >= _PAINTED for layer in editor["layers"]]
    mask = np.any(strokes, 0)
    if not mask.any():
        raise ValueError("Nothing is painted. Paint over the object in the example.")
    return ImagePrompt(load_photo(background[image]), mask=mask)


_LONGEST_NAME = 60


def write_table(
    names: Sequence[str], presences: npt.NDArray[np.float32], masks: npt.NDArray[np.bool_]
) -> str:
    """Return an HTML table with the colour, presence score and covered area of each mask."""
    rows = [
        "<tr><th>Prompt</th><th>Presence</th><th class='number'>Covers</th></tr>",
    ]
    for position, (name, score, mask) in enumerate(zip(names, presences, masks, strict=True)):
        presence = f"{score:.0%}"
        covers = f"{mask.mean():.1%}" if mask.any() else "not found"
        colour = "#{:02x}{:02x}{:02x}".format(*COLOURS[position % len(COLOURS)])
        bar = f"<b style='width:{presence};background:{colour}'></b>"
        rows.append(
            f"<tr><td><i style='background:{colour}'></i>{escape(name)}</td>"
            f"<td><span class='bar'>{bar}</span>{presence}</td>"
            f"<td class='number'>{covers}</td></tr>"
        )
    return f"<table class='prompts'>{''.join(rows)}</table>"


def write_masks(
    names: Sequence[str],
    images: Sequence[npt.NDArray[np.uint8]],
    overlay: Image.Image,
    folder: Path,
) -> Path:
    """Write a zip file with the masks or cutouts (PNG) and the overlay, at the size shown.

    Args:
        names: names of the masks.
        images: masks (H, W), 0 to 255, or cutouts (H, W, 4), RGBA.
        overlay: overlay with its legend, stored as JPEG because encoding PNG is slow.
        folder: output folder of `masks.zip`.
    """
    file = folder / "masks.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for number, (name, image) in enumerate(zip(names, images, strict=True), start=1):
            stem = re.sub(r"\W+", "_", name.lower()).strip("_")[:_LONGEST_NAME]
            with archive.open(f"{number}_{stem}.png", "w") as entry:
                Image.fromarray(image).save(entry, "PNG", compress_level=1)  # fast, for sliders
        with archive.open("overlay.jpg", "w") as entry:
            overlay.save(entry, "JPEG", quality=90)
    return file
