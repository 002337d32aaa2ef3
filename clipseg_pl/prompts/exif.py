"""Whether a photo's EXIF orientation is why its size is not the one annotated."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from PIL import Image, ImageOps

from clipseg_pl.images import Picture, image_size


def exif_note(found: Sequence[int], wanted: Sequence[int], *pictures: Picture) -> str:
    """Explain, for a message, two sizes that differ by an EXIF orientation.

    Args:
        found: height and width.
        wanted: what they should be.
        pictures: which may be turned: files, or images of PIL.

    Returns:
        "; " and what turns the first turned picture and what to do. Empty unless the two sizes have
        their sides exchanged and a picture is turned.
    """
    if list(found) != list(wanted)[::-1]:
        return ""
    for picture in pictures:
        stored, shown = _stored_and_shown(picture)
        if stored and shown and stored != shown:
            name = picture if isinstance(picture, str | PathLike) else "the image"
            return (
                f"; {name} is stored as {stored[1]} x {stored[0]} pixels (width x height) and its "
                f"EXIF orientation turns it to {shown[1]} x {shown[0]}: save it again as it was "
                "annotated, without the EXIF orientation"
            )
    return ""


def _stored_and_shown(picture: Picture) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Height and width as stored and as viewers show them."""
    if isinstance(picture, str | PathLike):
        file = Path(picture).expanduser()
        return image_size(file), image_size(file, upright=True)
    if isinstance(picture, Image.Image):
        upright = ImageOps.exif_transpose(picture)
        return (picture.height, picture.width), (upright.height, upright.width)
    return None, None
