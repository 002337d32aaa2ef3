"""Formats of photo files: which are read, and what it takes to read others."""

from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from clipseg_pl.photo_files import NEEDS_CONVERSION, NEEDS_HEIF, RAW

Image.init()  # PIL 10 has no AVIF
_KNOWN = {"AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"}
FORMATS = sorted(_KNOWN.intersection(Image.OPEN))
"""that are read: those of photos; of PIL's others one starts a program (EPS: Ghostscript)"""
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}


def open_header(file: Path) -> ImageFile.ImageFile:
    """Read the header of a file in one of `FORMATS`, or in HEIC where pillow-heif is installed.

    Raises:
        ValueError: if the format is known but not read here, saying what would read it.
        Exception: of many kinds, if it is no image.
    """
    if file.suffix.lower() in RAW:
        raise ValueError(NEEDS_CONVERSION)  # PIL would show the small preview in it
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        brands = _brands(file)
        if brands & _HEIC_BRANDS:
            _register_heic()
            return Image.open(file, formats=["HEIF"])
        if b"avif" in brands and "AVIF" not in FORMATS:
            raise ValueError("AVIF needs Pillow 11.3 or later: pip install -U pillow") from None
        raise


def _brands(file: Path) -> set[bytes]:
    """What a file of the family of HEIC and AVIF says that it is; empty for all others."""
    with file.open("rb") as stream:
        start = stream.read(64)
    if start[4:8] != b"ftyp":
        return set()
    listed = start[8 : int.from_bytes(start[:4], "big")]
    return {listed[first : first + 4] for first in range(0, len(listed), 4)}


def _register_heic() -> None:
    """Let PIL open HEIC.

    Raises:
        ValueError: if pillow-heif is not installed.
    """
    if "HEIF" not in Image.OPEN:
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise ValueError(NEEDS_HEIF) from error
        register_heif_opener()
