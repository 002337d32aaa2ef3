"""Photo formats that need more than Pillow, or that are not supported."""

import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from clipseg_pl.images import UnreadableImageError, image_size, load_photo, read_image
from clipseg_pl.prompts.masks import load_mask

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
HEIC = b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1"


@pytest.mark.parametrize("name", ["photo.heic", "renamed.jpg"])
def test_heic_without_pillow_heif_raises_with_the_remedy(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    file = tmp_path / name
    file.write_bytes(HEIC + bytes(100))
    for reader in (load_photo, read_image):
        with pytest.raises(UnreadableImageError, match="pip install pillow-heif") as error:
            reader(file)
        assert str(file) in str(error.value) and "\n" not in str(error.value)
    assert image_size(file) is None


def test_heic_photo_with_exif_orientation_is_read(tmp_path, monkeypatch):
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    rows, columns = np.mgrid[:48, :64]
    smooth = np.stack([rows * 5, columns * 4, rows + columns], 2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "photo.heic", quality=95, exif=exif.tobytes())
    for number, brand in enumerate((b"heic", b"mif1")):  # both are common
        content = bytearray((tmp_path / "photo.heic").read_bytes())
        content[8:12] = brand
        (tmp_path / f"{number}.jpg").write_bytes(content)
        monkeypatch.delitem(Image.OPEN, "HEIF")
        read = load_photo(tmp_path / f"{number}.jpg")
        assert np.abs(read - np.rot90(smooth, -1).astype(float)).mean() < 2
        assert image_size(tmp_path / f"{number}.jpg", upright=True) == (64, 48)


@pytest.mark.parametrize(
    "name", ["photo.jpg", "photo.png", "photo.tif", "photo.webp", "photo.avif"]
)
@pytest.mark.parametrize("reader", [load_photo, read_image, image_size, load_mask])
def test_file_is_opened_once(tmp_path, monkeypatch, name, reader):
    Image.new("RGB", (9, 6), "white").save(tmp_path / name)
    opened, really_open = [], open

    def counting(file, *args, **options):
        opened.append(Path(file).name)
        return really_open(file, *args, **options)

    monkeypatch.setattr("builtins.open", counting)
    monkeypatch.setattr(Path, "open", counting)
    assert reader(tmp_path / name) is not None
    assert opened == [name]


def test_raw_file_raises_and_its_preview_is_not_read(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "photo.tif")
    (tmp_path / "photo.tif").rename(tmp_path / "photo.NEF")  # NEF is based on TIFF
    with pytest.raises(UnreadableImageError, match=r"photo.NEF: .*must be converted to JPEG, PNG"):
        load_photo(tmp_path / "photo.NEF")
