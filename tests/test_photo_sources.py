"""Photos and masks as bytes, file objects and URLs."""

import io
import socket

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from clipseg_pl import photo_files
from clipseg_pl.images import UnreadableImageError, load_photo, load_picture
from clipseg_pl.prompts.image_prompt import ImagePrompt
from clipseg_pl.prompts.masks import load_mask
from tests.http_server import Answer

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
MASK = np.zeros((6, 9), np.uint8)
MASK[2:4, 1:7] = 255


class Unseekable:
    """A file object that can only be read, as from a network."""

    def __init__(self, content):
        self.content = content

    def read(self):
        content, self.content = self.content, b""
        return content


def encoded(kind):
    """Return the content of an image file, and the pixels of the photo in it."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    upright = np.rot90(COLOURS, -1)
    if kind == "12 bits":
        deep = np.random.default_rng(1).integers(0, 1 << 12, (6, 9, 3), np.uint16)
        deep[0, 0] = 4095
        return cv2.imencode(".png", deep[..., ::-1])[1].tobytes(), deep >> 4
    if kind == "16-bit grey":
        deep = np.arange(54, dtype=np.uint16).reshape(6, 9) * 1200
        Image.fromarray(deep).save(file, "PNG")
        return file.getvalue(), np.dstack([deep >> 8] * 3)
    if kind == "HEIC":
        image = Image.fromarray(COLOURS).resize((64, 48))
        pillow_heif.from_pillow(image).save(file, quality=-1, exif=exif.tobytes())
        return file.getvalue(), None  # lossless, but not in RGB
    Image.fromarray(COLOURS).save(file, kind, exif=exif)
    return file.getvalue(), upright


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "12 bits", "16-bit grey", "HEIC"])
def test_bytes_file_objects_and_urls_equal_the_file(tmp_path, server, monkeypatch, kind):
    content, expected = encoded(kind)
    server.answers["/a/photo"] = Answer(content)
    (tmp_path / "photo").write_bytes(content)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    by_path, alpha = load_picture(tmp_path / "photo")
    assert alpha is None and (expected is None or np.array_equal(by_path, expected))
    with (tmp_path / "photo").open("rb") as stream:
        others = (content, io.BytesIO(content), stream, Unseekable(content))
        for photo in (*others, f"{server.url}/a/photo"):
            monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
            assert np.array_equal(load_photo(photo), by_path)


@pytest.mark.parametrize("loader", [load_photo, load_mask])
def test_file_objects_are_read_once_and_not_closed(loader):
    file = io.BytesIO(b"before")
    file.seek(0, io.SEEK_END)
    Image.fromarray(MASK).save(file, "BMP")
    file.seek(len(b"before"))  # the photo starts at the current position
    loaded = loader(file)
    assert np.array_equal((loaded if loaded.ndim == 2 else loaded[..., 0]) > 0, MASK > 0)
    assert not file.closed and file.read() == b""


def test_masks_may_be_bytes_file_objects_and_urls(server):
    file = io.BytesIO()
    Image.fromarray(MASK).save(file, "PNG")
    server.answers["/mask.png"] = Answer(file.getvalue())
    file.seek(0)
    for mask in (file.getvalue(), file, f"{server.url}/mask.png"):
        assert np.array_equal(load_mask(mask), MASK > 0)


def test_image_prompt_of_a_file_object_can_be_used_twice():
    image, mask = io.BytesIO(), io.BytesIO()
    Image.fromarray(COLOURS).save(image, "PNG")
    Image.fromarray(MASK).save(mask, "PNG")
    prompt = ImagePrompt(Unseekable(image.getvalue()), Unseekable(mask.getvalue()))
    expected = ImagePrompt(COLOURS, MASK).engineered(32)
    for _ in range(2):
        assert np.array_equal(prompt.engineered(32), expected)


def test_image_prompt_of_a_url_has_the_name_of_its_file(server):
    image, mask = io.BytesIO(), io.BytesIO()
    Image.fromarray(COLOURS).save(image, "PNG")
    Image.fromarray(MASK[:5]).save(mask, "PNG")
    server.answers |= {"/a%20cat.png": Answer(image.getvalue()), "/m": Answer(mask.getvalue())}
    url = f"{server.url}/a%20cat.png?size=1/2"
    assert str(ImagePrompt(url)) == "a cat"
    assert np.array_equal(ImagePrompt(url).load()[0], COLOURS)
    with pytest.raises(ValueError, match=f"{server.url}/m: the mask is 9 x 5 pixels"):
        ImagePrompt(url, f"{server.url}/m").load()


@pytest.mark.parametrize("kind", [b"no image", io.BytesIO(b"no image"), Unseekable(b"no image")])
@pytest.mark.parametrize(("loader", "what"), [(load_photo, "photo"), (load_mask, "mask")])
def test_content_that_is_not_an_image_raises_in_one_line(kind, loader, what):
    with pytest.raises(
        UnreadableImageError, match=rf"^the {what}: cannot be read as an image \([\w ]+\)$"
    ):
        loader(kind)


@pytest.mark.parametrize("loader", [load_photo, load_mask, ImagePrompt])
def test_text_file_raises(tmp_path, loader):
    Image.fromarray(COLOURS).save(tmp_path / "photo.png")
    with (tmp_path / "photo.png").open() as text:
        with pytest.raises(TypeError, match='must be binary: open it with the mode "rb"'):
            loader(text)


def test_raw_file_object_raises_and_its_preview_is_not_read(tmp_path, server):
    Image.fromarray(COLOURS).save(tmp_path / "photo.tif")
    (tmp_path / "photo.tif").rename(tmp_path / "photo.NEF")
    server.answers["/photo.NEF"] = Answer((tmp_path / "photo.NEF").read_bytes())
    with (tmp_path / "photo.NEF").open("rb") as stream:
        for photo in (stream, f"{server.url}/photo.NEF?size=full"):
            with pytest.raises(UnreadableImageError, match=r"photo.NEF.*: .*must be converted"):
                load_photo(photo)


PNG = encoded("PNG")[0]
TOO_LARGE = (1 << 20) + 1


def test_redirects_are_followed(server):
    server.answers |= {
        "/moved": Answer(status=301, headers={"Location": "/again"}),
        "/again": Answer(status=302, headers={"Location": f"{server.url}/a photo.png"}),
        "/a%20photo.png": Answer(PNG, with_length=False),
        "/%C3%A4.png": Answer(PNG),
    }
    photo = load_photo(f"{server.url.upper()}/moved")
    assert photo.shape == (9, 6, 3) and server.requests[1:] == ["/again", "/a%20photo.png"]
    assert np.array_equal(load_photo(f"{server.url}/ä.png?a=%20b c"), photo)
    assert server.requests[3:] == ["/%C3%A4.png?a=%20b%20c"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(status=404), "HTTP 404"),
        (Answer(status=503, body=b"busy"), "HTTP 503"),
        (Answer(status=302, headers={"Location": "/photo"}), "HTTP 302"),  # an endless loop
        (Answer(status=302, headers={"Location": "file:///etc/passwd"}), "HTTP 302"),
        (Answer(status=302, headers={"Location": "ftp://127.0.0.1/a"}), "unknown url type: ftp"),
        (Answer(headers={"Content-Length": str(TOO_LARGE)}, hangs=True), "larger than 1 MiB"),
        (Answer(bytes(TOO_LARGE), with_length=False), "larger than 1 MiB"),
        (Answer(bytes(TOO_LARGE)), "larger than 1 MiB"),
        (Answer(PNG, with_length=False, hangs=True), "timed out"),
        (Answer(PNG, headers={"Content-Length": "999"}, hangs=True), "timed out"),
        (
            Answer(PNG, headers={"Content-Length": "999"}),
            "the server closed the connection too early",
        ),
        (Answer(b"<html>"), r"cannot be read as an image \(cannot identify image file\)"),
        (Answer(PNG[:-30]), r"cannot be read as an image \(.*\)"),
        (
            Answer(b"5\r\nab", with_length=False, headers={"Transfer-Encoding": "chunked"}),
            r"cannot be downloaded \(IncompleteRead.*\)",
        ),
    ],
)
def test_failed_download_raises_in_one_line_with_the_url(server, monkeypatch, answer, problem):
    monkeypatch.setattr(photo_files, "MAX_DOWNLOAD", 1 << 20)
    if problem == "timed out":
        monkeypatch.setattr(photo_files, "TIMEOUT", 0.1)
    server.answers["/photo"] = answer
    url = f"{server.url}/photo"
    for loader in (load_photo, load_mask):
        with pytest.raises(UnreadableImageError, match=f"^{url}: {problem}$"):
            loader(url)


def test_download_of_the_maximum_size_is_accepted(server, monkeypatch):
    monkeypatch.setattr(photo_files, "MAX_DOWNLOAD", len(PNG))
    server.answers |= {"/1": Answer(PNG), "/2": Answer(PNG, with_length=False)}
    for page in (1, 2):
        assert load_photo(f"{server.url}/{page}").shape == (9, 6, 3)


def test_unreachable_server_raises(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:  # bound, but not listening
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.png"
        with pytest.raises(UnreadableImageError, match=f"^{url}: Connection refused$"):
            load_photo(url)
    for url in ("http://", "http://a:b/", "http://[::1/a.jpg"):
        with pytest.raises(UnreadableImageError) as error:
            load_photo(url)
        assert str(error.value).startswith(f"{url}: ") and "\n" not in str(error.value)
