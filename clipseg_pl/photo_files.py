"""Find photos in files, folders, globs and URLs; download them, and open their headers."""

import glob
import logging
import os
import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeGuard
from urllib.parse import quote, unquote, urlsplit

from PIL import Image, ImageFile, UnidentifiedImageError

log = logging.getLogger(__name__)

ENDINGS = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm")
) | {".tga", ".tif", ".tiff", ".webp"}
"""extensions of photos in folders and globs, case-insensitive"""
HEIC = frozenset((".heic", ".heif", ".hif"))
"""extensions of iPhone photos, which are read if pillow-heif is installed"""
RAW = frozenset(
    (".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".mrw", ".nef", ".nrw", ".orf")
) | {".pef", ".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f"}
"""extensions of camera raw files, which are not supported"""
NEEDS_HEIF = "HEIC needs pillow-heif: pip install pillow-heif"
NEEDS_CONVERSION = "camera raw files must be converted to JPEG, PNG or TIFF first"

MASKS = "masks"
"""default results folder of `segment`; subfolders of this name are not searched for photos"""


class PhotoFile(NamedTuple):
    """A photo, and its name in results."""

    source: Path | str
    """path of a file, or URL"""
    name: str
    """path relative to the common parent folder of all photos, for example `summer/beach.jpg`; for
    a URL the last segment of its path"""
    stem: str
    """`name` without its extension, which is kept if two photos differ only in the extension"""


def find_photos(given: Sequence[str], leave_out: Path | None = None) -> list[PhotoFile]:
    """List the photos in files, folders, globs and URLs, each photo once.

    Folders and globs yield only files with the extension of a photo. They skip hidden files and
    subfolders named `masks`, which contain the results of earlier runs. A warning lists files that
    look like photos but cannot be read, and how to make them readable.

    Args:
        given: paths of files, with any extension; paths of folders, which are searched
            recursively; globs, in which `**` matches any number of folders; or URLs, which are not
            downloaded yet.
        leave_out: a folder of results, which is not searched.

    Returns:
        Photos in the order of `given`, sorted by path within a folder or glob.

    Raises:
        FileNotFoundError: if a file does not exist, or a folder or glob contains no photo.
        ValueError: if one of the folders is `leave_out`.
    """
    out = None if leave_out is None else leave_out.expanduser().resolve()
    read = ENDINGS | (HEIC if find_spec("pillow_heif") else frozenset())
    roots: list[Path] = []
    files: dict[str, Path | str] = {}  # by absolute path or URL, to list each photo once
    for entry in given:
        if is_url(entry):
            files.setdefault(entry, entry)
            continue
        path = Path(entry).expanduser()
        if path.is_dir():
            if path.resolve() == out:
                raise ValueError(f"{path} contains the photos; write results to another folder")
            root, candidates = path, sorted(_in_folder(path, out))
            problem = f"{path}: contains no photos ({', '.join(sorted(ENDINGS))})"
        elif path.is_file():
            files.setdefault(os.path.abspath(path), path)
            roots.append(path.parent)
            continue
        elif glob.has_magic(entry):
            root, candidates = _match(str(path), out)
            problem = f"{entry}: matches no photos"
        else:
            raise FileNotFoundError(f"{path}: no such photo")
        found = [file for file in candidates if file.suffix.lower() in read]
        unread = [file for file in candidates if file.suffix.lower() not in read]
        if not found:
            raise FileNotFoundError(problem + (f"; {_unread_message(unread)}" if unread else ""))
        if unread:
            log.warning("%s: %s", entry, _unread_message(unread))
        roots.append(root)
        for file in found:
            files.setdefault(os.path.abspath(file), file)
    common = os.path.commonpath([os.path.abspath(root) for root in roots]) if roots else ""
    named: dict[str, Path] = {}
    for key in sorted(files, key=is_url):  # files first, because only the names of URLs can change
        name = first = Path(name_of_url(key) if is_url(key) else os.path.relpath(key, common))
        number = 1
        while is_url(key) and name in named.values():  # some servers name all photos alike
            number += 1
            name = first.with_stem(f"{first.stem}_{number}")
        named[key] = name
    names = [named[key] for key in files]
    same = Counter(name.with_suffix("") for name in names)
    return [
        PhotoFile(
            source,
            name.as_posix(),
            (name if same[name.with_suffix("")] > 1 else name.with_suffix("")).as_posix(),
        )
        for source, name in zip(files.values(), names, strict=True)
    ]


def is_url(photo: object) -> TypeGuard[str]:
    """Return whether a photo is given by an http or https URL."""
    return isinstance(photo, str) and photo.lower().startswith(("http://", "https://"))


def name_of_url(url: str) -> str:
    """Return the last segment of a URL's path as a file name; "photo" if there is none."""
    segment = unquote(urlsplit(url).path.rpartition("/")[2])
    return re.sub(r"[^\w .()+-]", "_", segment).strip(". ") or "photo"


MAX_DOWNLOAD = 64 << 20
"""maximum size of a download in bytes"""
TIMEOUT = 30.0
"""seconds without a byte after which a download fails"""


def download(url: str) -> bytes:
    """Download a photo. Redirects to other http and https URLs are followed.

    Raises:
        OSError: if the server cannot be reached, does not answer with status 200, sends nothing for
            30 seconds or more than 64 MiB. The message does not contain the URL.
    """
    # deferred because they take as long to import as the rest of this module
    from http.client import HTTPException
    from urllib import request
    from urllib.error import HTTPError, URLError

    opener = request.OpenerDirector()  # unlike `urlopen`, it does not open ftp, file and data URLs
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
        request.HTTPDefaultErrorHandler,
        request.UnknownHandler,
    ):
        opener.add_handler(handler())
    opener.addheaders = [
        ("User-Agent", "clipseg_pl")
    ]  # some servers reject urllib's default user agent
    try:
        with opener.open(quote(url, safe=string.punctuation), timeout=TIMEOUT) as response:
            stated = response.length or 0  # None without Content-Length
            content: bytes = response.read(MAX_DOWNLOAD + 1) if stated <= MAX_DOWNLOAD else b""
            if max(stated, len(content)) > MAX_DOWNLOAD:
                raise OSError(f"larger than {MAX_DOWNLOAD >> 20} MiB")
            if len(content) < stated:
                raise OSError("the server closed the connection too early")
            return content
    except HTTPError as error:
        error.close()
        raise OSError(f"HTTP {error.code}") from error
    except URLError as error:
        reason = error.reason
        raise OSError(getattr(reason, "strerror", None) or str(reason)) from error
    except (HTTPException, ValueError) as error:
        raise OSError(f"cannot be downloaded ({error})") from error


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
    """Return the folder before the first wildcard of a glob, and the matching photos."""
    parts = Path(pattern).parts
    root = Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
    # a glob that starts inside the results folder is meant to find photos there
    skip_results = out is not None and not root.resolve().is_relative_to(out)
    found = [Path(file) for file in sorted(glob.glob(pattern, recursive=True))]
    photos = [file for file in found if _looks_like_photo(file.name) and file.is_file()]
    photos = [file for file in photos if MASKS not in file.relative_to(root).parts[:-1]]
    if skip_results and out is not None:
        photos = [file for file in photos if not file.resolve().is_relative_to(out)]
    return root, photos


def _looks_like_photo(name: str) -> bool:
    return Path(name).suffix.lower() in ENDINGS | HEIC | RAW


def _unread_message(files: Sequence[Path]) -> str:
    """Return a message with the number and first names of unreadable photos, and a remedy."""
    names = ", ".join(file.name for file in files[:3]) + (", ..." if files[3:] else "")
    endings = {file.suffix.lower() for file in files}
    needs = [NEEDS_HEIF] if endings & HEIC else []
    needs += [NEEDS_CONVERSION] if endings & RAW else []
    count = "1 file looks like a photo"
    if len(files) > 1:
        count = f"{len(files)} files look like photos"
    return f"{count} but cannot be read: {names}; {'; '.join(needs)}"


Image.init()  # registers the available formats; PIL 10 has no AVIF
_KNOWN = {"AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"}
FORMATS = sorted(_KNOWN.intersection(Image.OPEN))
"""photo formats to read. Others are excluded, above all EPS, for which PIL runs Ghostscript"""
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}


def open_header(source: Path | BinaryIO) -> ImageFile.ImageFile:
    """Open an image in one of `FORMATS`, or in HEIC if pillow-heif is installed.

    Args:
        source: path of a file, or a binary stream that can seek. A stream is not closed.

    Raises:
        ValueError: for raw files, and for HEIC without pillow-heif. The message says what to do.
        Exception: of various types, if the file is not an image.
    """
    if Path(getattr(source, "name", "")).suffix.lower() in RAW:
        raise ValueError(NEEDS_CONVERSION)  # PIL would read only the small preview
    try:
        return Image.open(source, formats=FORMATS)
    except UnidentifiedImageError:
        if _brands(source) & _HEIC_BRANDS:
            _register_heic()
            return Image.open(source, formats=["HEIF"])
        raise UnidentifiedImageError("cannot identify image file") from None


def _brands(source: Path | BinaryIO) -> set[bytes]:
    """Return the brands in the header of a HEIC or AVIF file; empty for other files."""
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as stream:
        stream.seek(0)
        start = stream.read(64)
    if start[4:8] != b"ftyp":
        return set()
    brands = start[8 : int.from_bytes(start[:4], "big")]
    return {brands[first : first + 4] for first in range(0, len(brands), 4)}


def _register_heic() -> None:
    """Register pillow-heif as PIL's reader of HEIC.

    Raises:
        ValueError: if pillow-heif is not installed.
    """
    if "HEIF" not in Image.OPEN:
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise ValueError(NEEDS_HEIF) from error
        register_heif_opener()
