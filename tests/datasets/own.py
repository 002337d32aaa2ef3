"""Writers of photos, masks and tables for tests."""

import csv
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 32)  # height, width


def rectangle(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


SQUARE, BAR = rectangle(4, 20, 4, 20), rectangle(0, 24, 24, 28)


def write_photo(file: Path, grey: int = 0, size: tuple[int, int] = SIZE) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (grey, grey, grey)).save(file)


def write_turned(file: Path, size: tuple[int, int] = SIZE) -> None:
    """Write a photo with the stored size `size` and an EXIF orientation of a quarter turn."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", size[::-1]).save(file, exif=exif)


def write_mask(file: Path, values: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8) * 255 if values.dtype == bool else values).save(file)


def write_grey_png(file: Path, values: np.ndarray, depth: int) -> None:
    """Write a greyscale PNG with 1, 2, 4 or 8 bits per pixel, which PIL cannot write."""
    bits = (values[..., None] >> np.arange(depth)[::-1]) & 1
    packed = np.packbits(bits.reshape(len(values), -1).astype(np.uint8), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    content = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def write_csv(file: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return file


def write_jsonl(file: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def write_photos(
    folder: Path, phrases: Sequence[Sequence[str]], name: str = "phrases.csv", grey: int = 0
) -> Path:
    """Write photo k in grey `grey` + k, and a row for each phrase; all masks are `SQUARE`."""
    rows = []
    write_mask(folder / "masks" / "square.png", SQUARE)
    for number, photo_phrases in enumerate(phrases):
        write_photo(folder / "images" / f"{number}.png", grey + number)
        for phrase in photo_phrases:
            row = {"image": f"images/{number}.png", "mask": "masks/square.png", "phrase": phrase}
            rows.append(row)
    return write_csv(folder / name, rows)
