"""Formats of photos that need more than Pillow, or are not read at all."""

import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import BmpImagePlugin, Image

from clipseg_pl import photo_formats
from clipseg_pl.images import UnreadableImageError, image_size, load_photo, read_image

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
HEIC = b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1"


@pytest.mark.parametrize("name", ["photo.heic", "renamed.jpg"])
def test_heic_without_its_reader_says_what_to_install(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    file = tmp_path / name
    file.write_bytes(HEIC + bytes(100))
    for reader in (load_photo, read_image):
        with pytest.raises(UnreadableImageError, match="pip install pillow-heif") as refused:
            reader(file)
        assert str(file) in str(refused.value) and "\n" not in str(refused.value)
    assert image_size(file) is None


def test_heic_is_read_by_pillow_heif_where_it_is_installed(tmp_path, monkeypatch):
    """A stand-in registers itself as the library does, for a bitmap behind the header of HEIC."""

    class Stub(BmpImagePlugin.BmpImageFile):
        format = "HEIF"

        def _open(self):
            self.fp.seek(len(HEIC))
            super()._open()

    library = ModuleType("pillow_heif")
    library.register_heif_opener = lambda: Image.register_open(
        "HEIF", Stub, lambda start: start[4:8] == b"ftyp"
    )
    monkeypatch.setitem(sys.modules, "pillow_heif", library)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    Image.fromarray(COLOURS).save(tmp_path / "photo.bmp")
    bitmap = bytearray((tmp_path / "photo.bmp").read_bytes())
    bitmap[10] += len(HEIC)  # where its pixels begin
    (tmp_path / "photo.heic").write_bytes(HEIC + bitmap)
    try:
        assert image_size(tmp_path / "photo.heic") == (6, 9)
        assert np.array_equal(load_photo(tmp_path / "photo.heic"), COLOURS)
    finally:
        Image.OPEN.pop("HEIF", None)
        Image.ID.remove("HEIF")


def test_a_photo_of_an_iphone(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth = Image.fromarray(COLOURS).resize((64, 48))
    smooth.save(tmp_path / "photo.heic", quality=95, exif=exif.tobytes())
    read = load_photo(tmp_path / "photo.heic")
    assert read.shape == (64, 48, 3)
    assert np.abs(read - np.rot90(np.asarray(smooth), -1).astype(float)).mean() < 25
    assert image_size(tmp_path / "photo.heic", upright=True) == (64, 48)


def test_avif_without_its_reader_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(photo_formats, "FORMATS", ["JPEG", "PNG"])
    (tmp_path / "photo.avif").write_bytes(b"\0\0\0\x14ftypavif\0\0\0\0mif1")
    with pytest.raises(UnreadableImageError, match=r"AVIF needs Pillow 11\.3 or later"):
        load_photo(tmp_path / "photo.avif")


def test_raw_data_of_a_camera_is_not_read_as_the_preview_in_it(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "photo.tif")
    (tmp_path / "photo.tif").rename(tmp_path / "photo.NEF")  # a TIFF, too
    with pytest.raises(UnreadableImageError, match=r"photo.NEF: .*must be converted to JPEG, PNG"):
        load_photo(tmp_path / "photo.NEF")
