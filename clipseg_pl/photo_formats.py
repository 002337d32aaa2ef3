"""Formats of photo files: which are read, and what it takes to read others."""

from pathlib import Path

from PIL import Image, ImageFile

from clipseg_pl.photo_files import NEEDS_CONVERSION, NEEDS_HEIF, RAW

Image.init()  # PIL 10 has no AVIF
_KNOWN = {"AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"}
FORMATS = sorted(_KNOWN.intersection(Image.OPEN))
"""that are read: those of photos; of PIL's others one starts a program (EPS: Ghostscript)"""
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}


def open_header(file: Path) -> ImageFile.ImageFile:
    """Read the header of a file in one of `FORMATS`, or in HEIC where pillow-heif is installed.

    Raises:
        ValueError: saying what would read it.
        Exception: of many kinds, where it is no image.
    """
    needed = needed_for(file)
    if needed:
        raise ValueError(needed)
    return Image.open(file, formats=["HEIF"] if _brands(file) & _HEIC_BRANDS else FORMATS)


def needed_for(file: Path) -> str:
    """What it takes to read a photo of a format that is not read here; empty for all others.

    Raises:
        OSError: if the file cannot be read at all.
    """
    if file.suffix.lower() in RAW:
        return NEEDS_CONVERSION  # PIL would show the small preview in it
    brands = _brands(file)
    if b"avif" in brands and "AVIF" not in FORMATS:
        return "AVIF needs Pillow 11.3 or later: pip install -U pillow"
    return NEEDS_HEIF if brands & _HEIC_BRANDS and not _opens_heic() else ""


def _brands(file: Path) -> set[bytes]:
    """What a file of the family of HEIC and AVIF says that it is; empty for all others."""
    with file.open("rb") as stream:
        start = stream.read(64)
    if start[4:8] != b"ftyp":
        return set()
    listed = start[8 : int.from_bytes(start[:4], "big")]
    return {listed[first : first + 4] for first in range(0, len(listed), 4)}


def _opens_heic() -> bool:
    """Let PIL open HEIC if pillow-heif is installed."""
    if "HEIF" not in Image.OPEN:
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return False
        register_heif_opener()
    return True
