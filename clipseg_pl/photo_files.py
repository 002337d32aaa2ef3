"""Which photos are meant by files, folders and globs."""

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageFile, UnidentifiedImageError

log = logging.getLogger(__name__)

ENDINGS = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm")
) | {".tga", ".tif", ".tiff", ".webp"}
"""of the files that are taken for photos in folders and of what globs match; of either case"""
HEIC = frozenset((".heic", ".heif", ".hif"))
"""endings of iPhones' photos, which are taken for photos where pillow-heif is installed"""
RAW = frozenset(
    (".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".mrw", ".nef", ".nrw", ".orf")
) | {".pef", ".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f"}
"""endings of cameras' raw data, which are not read"""
NEEDS_HEIF = "HEIC needs pillow-heif: pip install pillow-heif"
NEEDS_CONVERSION = "raw data of a camera must be converted to JPEG, PNG or TIFF first"

MASKS = "masks"
"""what `segment` calls the folder of its results; subfolders of that name hold no photos"""


class PhotoFile(NamedTuple):
    """A photo, and what its results are called."""

    path: Path
    name: str
    """path below the nearest folder that holds all that was given, as in `summer/beach.jpg`"""
    stem: str
    """the same without its ending, which stays where two photos differ in nothing else"""


def find_photos(given: Sequence[str], leave_out: Path | None = None) -> list[PhotoFile]:
    """List the photos that are meant, each once.

    Args:
        given: files, whatever they are called; folders, with all folders in them; globs, with `**`
            for any folders. Of folders and globs what ends as photos do is taken, but for hidden
            files and what lies in subfolders called `masks`, the results of earlier runs. A log
            line names what looks like photos but is not read, and what would read it.
        leave_out: a folder that holds results, not photos.

    Returns:
        In the order given, those of a folder or glob by name.

    Raises:
        FileNotFoundError: naming what is not there, or holds or matches no photo.
        ValueError: if a folder given is the one to leave out.
    """
    out = None if leave_out is None else leave_out.expanduser().resolve()
    read = ENDINGS | (HEIC if find_spec("pillow_heif") else frozenset())
    roots: list[Path] = []
    files: dict[str, Path] = {}  # each once, whichever way it is named
    for entry in given:
        path = Path(entry).expanduser()
        if path.is_dir():
            if path.resolve() == out:
                raise ValueError(f"{path}: photos and results would be mixed; write elsewhere")
            root, looks = path, sorted(_in_folder(path, out))
            problem = f"{path}: holds no photos ({', '.join(sorted(ENDINGS))})"
        elif path.is_file():
            files.setdefault(os.path.abspath(path), path)
            roots.append(path.parent)
            continue
        elif glob.has_magic(entry):
            root, looks = _match(str(path), out)
            problem = f"{entry}: matches no photos"
        else:
            raise FileNotFoundError(f"{path}: no such photo")
        found = [file for file in looks if file.suffix.lower() in read]
        unread = [file for file in looks if file.suffix.lower() not in read]
        if not found:
            raise FileNotFoundError(problem + (f"; {_name_unread(unread)}" if unread else ""))
        if unread:
            log.warning("%s: %s", entry, _name_unread(unread))
        roots.append(root)
        for file in found:
            files.setdefault(os.path.abspath(file), file)
    common = os.path.commonpath([os.path.abspath(root) for root in roots])
    names = [Path(os.path.relpath(file, common)) for file in files]
    same = Counter(name.with_suffix("") for name in names)
    return [
        PhotoFile(
            file,
            name.as_posix(),
            (name if same[name.with_suffix("")] > 1 else name.with_suffix("")).as_posix(),
        )
        for file, name in zip(files.values(), names, strict=True)
    ]


def _in_folder(folder: Path, out: Path | None) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = [
            name
            for name in folders
            if name[0] != "." and name != MASKS and (here / name).resolve() != out
        ]
        yield from (here / name for name in files if name[0] != "." and _looks_like_photo(name))


def _match(pattern: str, out: Path | None) -> tuple[Path, list[Path]]:
    """What a glob starts from, and the photos that it matches."""
    parts = Path(pattern).parts
    root = Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
    # unless it looks for photos there
    apart = out is not None and not root.resolve().is_relative_to(out)
    found = [Path(file) for file in sorted(glob.glob(pattern, recursive=True))]
    photos = [file for file in found if _looks_like_photo(file.name) and file.is_file()]
    photos = [file for file in photos if MASKS not in file.relative_to(root).parts[:-1]]
    if apart and out is not None:
        photos = [file for file in photos if not file.resolve().is_relative_to(out)]
    return root, photos


def _looks_like_photo(name: str) -> bool:
    return Path(name).suffix.lower() in ENDINGS | HEIC | RAW


def _name_unread(files: Sequence[Path]) -> str:
    """The first of the files that are not read, how many they are, and what would read them."""
    names = ", ".join(file.name for file in files[:3]) + (", ..." if files[3:] else "")
    endings = {file.suffix.lower() for file in files}
    needs = [NEEDS_HEIF] if endings & HEIC else []
    needs += [NEEDS_CONVERSION] if endings & RAW else []
    look = "1 file looks like a photo and is"
    if len(files) > 1:
        look = f"{len(files)} files look like photos and are"
    return f"{look} not read: {names}; {'; '.join(needs)}"


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
