"""How the page shows a segmentation beside the picture: table and files."""

import re
import zipfile
from html import escape
from pathlib import Path

from PIL import Image

from clipseg_pl.overlay import COLOURS
from clipseg_pl.segmentation import Segmentation

_LONGEST_NAME = 60


def write_table(segmentation: Segmentation) -> str:
    """HTML: each prompt with its colour, how surely it is there, and how much it covers."""
    rows = [
        "<tr><th>Prompt</th><th>Presence</th><th class='number'>Covers</th></tr>",
    ]
    for position, (prompt, mask) in enumerate(
        zip(segmentation.prompts, segmentation.masks, strict=True)
    ):
        presence = f"{segmentation.presence[position]:.0%}"
        covers = f"{mask.mean():.1%}" if mask.any() else "not found"
        colour = "#{:02x}{:02x}{:02x}".format(*COLOURS[position % len(COLOURS)])
        bar = f"<b style='width:{presence};background:{colour}'></b>"
        rows.append(
            f"<tr><td><i style='background:{colour}'></i>{escape(prompt)}</td>"
            f"<td><span class='bar'>{bar}</span>{presence}</td>"
            f"<td class='number'>{covers}</td></tr>"
        )
    return f"<table class='prompts'>{''.join(rows)}</table>"


def write_masks(segmentation: Segmentation, overlay: Image.Image, folder: Path) -> Path:
    """A zip of the masks (PNG, 0 or 255, at the size shown) and of the overlay.

    Args:
        segmentation: with the thresholds that are shown.
        overlay: with its legend; a JPEG in the zip, as PNG would take most of the time here.
        folder: to write `masks.zip` to.
    """
    file = folder / "masks.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for number, (prompt, mask) in enumerate(
            zip(segmentation.prompts, segmentation.masks, strict=True), start=1
        ):
            name = re.sub(r"\W+", "_", prompt.lower()).strip("_")[:_LONGEST_NAME]
            with archive.open(f"{number}_{name}.png", "w") as entry:
                Image.fromarray(mask).convert("L").save(entry, "PNG")
        with archive.open("overlay.jpg", "w") as entry:
            overlay.save(entry, "JPEG", quality=90)
    return file
