"""The command `demo`: the callbacks, and the page in a browser."""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Timer

import numpy as np
import pytest
from PIL import Image

from clipseg_pl.cli.commands import demo
from clipseg_pl.demo import session
from clipseg_pl.demo.session import Result, write_masks, write_table
from clipseg_pl.inference.overlay import COLOURS
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.prompts.image_prompt import Blend, ImagePrompt
from datamodules.toy.scenes.kinds import PASCAL_KINDS
from datamodules.toy.scenes.scene import draw_scene
from tests.http_server import Answer

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SUPPORT, QUERY = (  # the support image and the first scene of the page
    draw_scene(np.random.default_rng(seed), (360, 480), count=3, kinds=PASCAL_KINDS)
    for seed in (171, 67)
)


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.from_pretrained("toy")


@pytest.fixture
def loading(tmp_path):
    """Callbacks of a page whose model is not loaded yet."""
    pytest.importorskip("gradio", reason="gradio is not installed: the demo extra")
    from clipseg_pl.demo.callbacks import Callbacks

    return Callbacks(Future(), "<toy>", tmp_path)


@pytest.fixture
def callbacks(loading, segmenter):
    loading.model.set_result(segmenter)
    return loading


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(QUERY.image).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def mask_of(scene, variant):
    return next(thing.mask for thing in scene.things if thing.variant == variant)


def editor(mask, opacity=153):
    """Build the editor's value: the support image below a translucent stroke."""
    layer = np.zeros((*mask.shape, 4), np.uint8)
    layer[mask] = (213, 94, 0, opacity)
    opaque = np.full((*mask.shape, 1), 255, np.uint8)
    return {"background": np.concatenate([SUPPORT.image, opaque], 2), "layers": [layer]}


def test_phrases_are_split_at_commas_semicolons_and_lines():
    assert session.split_phrases(" a dog,  grass\nsky ;, a  dog,\n") == ["a dog", "grass", "sky"]


def test_text_and_example_are_separate_prompts():
    example = ImagePrompt(SUPPORT.image)
    assert session.list_prompts("a, b", None, "c", 0.5) == ["a", "b"]
    assert session.list_prompts("a", example, " ", 0.5) == ["a", example]
    assert session.list_prompts("", example, "c", 0.2) == [Blend("c", example, 0.2)]


def test_painted_area_becomes_the_example():
    boat = mask_of(SUPPORT, "boat")
    image, mask = session.read_example(editor(boat)).load()
    assert (image == SUPPORT.image).all() and (mask == boat).all()
    for nothing in (editor(boat, opacity=0), editor(boat) | {"layers": []}):
        with pytest.raises(ValueError, match="Paint over the object"):
            session.read_example(nothing)
    empty = np.full((360, 480, 4), 255, np.uint8)
    for nothing in (
        None,
        editor(boat) | {"background": None},
        editor(boat) | {"background": empty},
    ):
        with pytest.raises(ValueError, match="image to paint on first"):
            session.read_example(nothing)


def test_canvas_margins_are_not_part_of_the_example():
    boat = mask_of(SUPPORT, "boat")
    painted = editor(boat)
    margins = ((0, 0), (50, 70), (0, 0))
    wide = {
        "background": np.pad(painted["background"], margins),
        "layers": [np.pad(painted["layers"][0], margins, constant_values=255)],
    }
    image, mask = session.read_example(wide).load()
    assert (image == SUPPORT.image).all() and (mask == boat).all()


def test_only_large_photos_are_shrunk(segmenter, photo, tmp_path):
    assert (session.encode(segmenter, photo).pixels == QUERY.image).all()
    Image.new("RGB", (3000, 1500)).save(tmp_path / "large.png")
    large = session.encode(segmenter, tmp_path / "large.png")
    assert large.pixels.shape == (session.LONGEST_SIDE // 2, session.LONGEST_SIDE, 3)
    assert large.encoded.size == large.pixels.shape[:2]


def test_photo_is_encoded_once_and_sliders_do_not_run_the_model(callbacks, segmenter, photo):
    model, calls = segmenter.model, []
    visual = model.backbone.clip.visual.conv1
    hooks = [
        visual.register_forward_hook(lambda *_: calls.append("encode")),
        model.decoder.register_forward_hook(lambda *_: calls.append("decode")),
    ]
    encoded = callbacks.encode({"path": str(photo)})
    callbacks.segment(encoded, "cat", None, "", 0.5, "")
    result = callbacks.segment(encoded, "car, grass", None, "", 0.5, "cat")
    for threshold in (0.1, 0.5, 0.9):
        callbacks.draw(encoded, result, threshold, 0.0, ["Merge the masks"], 3, 3)
    for hook in hooks:
        hook.remove()
    assert calls == ["encode", "decode", "decode"]


def test_page_shows_the_result_of_the_segmenter(callbacks, segmenter, photo):
    example = ImagePrompt(SUPPORT.image, mask=mask_of(SUPPORT, "boat"))
    expected = segmenter(photo, ["car", Blend("boat", example, 0.3)])
    encoded = callbacks.encode({"path": str(photo)})
    painted = callbacks.use_example(editor(mask_of(SUPPORT, "boat")))
    result = callbacks.segment(encoded, "car", painted, "boat", 0.3, "")
    assert np.allclose(result.shown.probability, expected.probability, atol=1e-5)
    threshold = segmenter.threshold
    picture, table, masks = callbacks.draw(encoded, result, threshold, 0.0, [], 0, 0)
    tinted = (np.asarray(picture) != QUERY.image).any(2)
    assert (tinted == expected.masks.any(0)).mean() > 0.999  # tinting may leave a pixel unchanged
    assert "car" in table and "boat + image prompt" in table
    with zipfile.ZipFile(masks) as archive:
        names = ["1_car.png", "2_boat_image_prompt.png"]
        assert archive.namelist() == [*names, "overlay.jpg"]
        for name, mask in zip(names, result.shown.masks, strict=True):
            assert (np.asarray(Image.open(archive.open(name))) == 255 * mask).all()


@pytest.fixture
def segmentation():
    """Segmentation with two prompts; the second covers a quarter of 4 x 4 pixels."""
    probability = np.zeros((2, 4, 4), np.float32)
    probability[1, :2, :2] = 0.6
    return Segmentation(("<b>", "sky"), probability, np.array([0.04, 0.6], np.float32), 0.5, 0.0)


def test_table_lists_colour_presence_and_area(segmentation):
    table = write_table(segmentation.prompts, segmentation.presence, segmentation.masks)
    first, second = table.split("<tr>")[2:]
    assert "&lt;b&gt;" in first and "4%" in first and "not found" in first
    assert "sky" in second and "60%" in second and "25.0%" in second
    for row, colour in zip((first, second), COLOURS, strict=False):
        assert "#{:02x}{:02x}{:02x}".format(*colour) in row


def test_prompts_below_the_minimum_presence_are_not_found(callbacks, segmentation):
    photo = session.PagePhoto(np.zeros((4, 4, 3), np.uint8), None)
    result = Result(*segmentation.split(2))
    for cut, found in ((0.5, 1), (0.7, 0)):
        picture, table, _ = callbacks.draw(photo, result, 0.5, cut, [], 0, 0)
        assert table.count("not found") == 2 - found
        assert np.asarray(picture).any() == bool(found)


def test_moved_slider_replaces_the_thresholds_of_classes(callbacks, segmenter):
    probability, thresholds = np.full((1, 4, 4), 0.5, np.float32), np.float32([0.6])
    shown = Segmentation(("crack",), probability, np.ones(1, np.float32), thresholds, 0.0)
    photo, result = session.PagePhoto(np.zeros((4, 4, 3), np.uint8), None), Result(*shown.split(1))
    for threshold, found in ((segmenter.threshold, False), (0.49, True), (0.51, False)):
        _, table, _ = callbacks.draw(photo, result, threshold, 0.0, [], 0, 0)
        assert ("not found" not in table) == found


@pytest.fixture
def edited(callbacks):
    """Function that edits the mask [1111, 1111, 0000, 0000] minus the mask [1000, 0000, ...].

    It returns the name, the coverage, and the image in the zip file of each mask.
    """
    probability = np.zeros((3, 4, 4), np.float32)
    probability[0, :2, :2] = probability[1, :2, 2:] = probability[2, 0, 0] = 0.9
    everywhere = Segmentation(("a", "b", "c"), probability, np.ones(3, np.float32), 0.5, 0.0)
    photo = session.PagePhoto(np.full((4, 4, 3), 7, np.uint8), None)

    def edit(options, grow=0, feather=0):
        result = Result(*everywhere.split(2))
        _, table, masks = callbacks.draw(photo, result, 0.5, 0.0, options, grow, feather)
        rows = re.findall(r"</i>(.*?)</td>.*?>([^<>]*)</td></tr>", table)
        with zipfile.ZipFile(masks) as archive:
            files = archive.namelist()[:-1]  # the last is the overlay
            images = [np.asarray(Image.open(archive.open(file))) for file in files]
        return [(*row, image) for row, image in zip(rows, images, strict=True)]

    return edit


def test_edits_change_the_masks_the_table_and_the_download(edited):
    (a, covers, mask), (b, *_) = edited([])
    assert (a, b, covers) == ("a", "b", "18.8%")
    assert (mask // 255).tolist() == [[0, 1, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]
    ((name, covers, mask),) = edited(["Merge the masks"], grow=1)
    assert (name, covers) == ("a, b", "68.8%")
    assert (mask // 255).tolist() == [[0, 1, 1, 1], [1] * 4, [1] * 4, [0] * 4]
    ((name, covers, mask),) = edited(["Merge the masks", "Invert"])
    assert (name, covers) == ("all but a, b", "56.2%")
    assert (mask // 255).tolist() == [[1, 0, 0, 0], [0] * 4, [1] * 4, [1] * 4]
    ((_, covers, mask),) = edited(["Merge the masks", "Invert"], feather=1)
    assert covers == "56.2%" and mask[1:, 1:].tolist() == [[64] * 3, [191] * 3, [255] * 3]


def test_cutout_has_the_mask_as_its_alpha_channel(edited):
    (*_, cutout), _ = edited(["Cutouts instead of masks"])
    assert (cutout[..., :3] == 7).all()
    assert (cutout[..., 3] // 255).tolist() == [[0, 1, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]


def test_minus_prompts_are_subtracted(callbacks, segmenter, photo):
    encoded = callbacks.encode({"path": str(photo)})
    result = callbacks.segment(encoded, "grass, road", None, "", 0.5, "car, chair")
    expected = segmenter(photo, ["grass", "road", "car", "chair"])
    assert result.shown.prompts == ("grass", "road") and result.minus.prompts == ("car", "chair")
    assert np.allclose(result.minus.probability, expected.probability[2:], atol=1e-5)


def test_photo_waits_for_the_model(loading, segmenter, photo):
    assert loading.encode({"path": str(photo)}) is None
    _, hint, _ = loading.draw(None, None, 0.5, 0.0, [], 0, 0)
    assert hint.startswith("The model is still loading")
    loading.model.set_result(segmenter)
    status, *thresholds = loading.wait()
    dtype = str(segmenter.dtype).removeprefix("torch.")
    assert status == f"Model: <b>&lt;toy&gt;</b>, on {segmenter.device} in {dtype}"
    values = [threshold["value"] for threshold in thresholds]
    assert values == [segmenter.threshold, segmenter.absent_cut]
    assert loading.encode({"path": str(photo)}) is not None


def test_page_shows_why_the_model_could_not_be_loaded(loading, photo):
    loading.model.set_exception(ValueError("a <b>.pth: no model"))
    status, *_ = loading.wait()
    assert status == "<b>The model could not be loaded:</b> a &lt;b&gt;.pth: no model"
    assert loading.encode({"path": str(photo)}) is None
    _, hint, _ = loading.draw(None, None, 0.5, 0.0, [], 0, 0)
    assert hint == "The model could not be loaded."


def test_similar_prompts_have_different_mask_files(tmp_path):
    mask = np.zeros((4, 4), np.uint8)
    file = write_masks(("sky", "Sky!"), (mask, mask), Image.new("RGB", (4, 4)), tmp_path)
    assert zipfile.ZipFile(file).namelist() == ["1_sky.png", "2_sky.png", "overlay.jpg"]


def test_user_errors_are_shown_on_the_page(callbacks, photo, tmp_path):
    gradio = pytest.importorskip("gradio")
    encoded = callbacks.encode({"path": str(photo)})
    for prompts, minus in (("a,b,c,d,e,f,g,h", ""), ("a", "a,b,c,d,e,f,g,h")):
        with pytest.raises(gradio.Error, match=r"At most 7 prompts at a time; there are 8"):
            callbacks.segment(encoded, prompts, None, "", 0.5, minus)
    with pytest.raises(gradio.Error, match="Nothing is painted"):
        callbacks.use_example(editor(np.zeros((360, 480), bool)))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    with pytest.warns(UserWarning, match=r"^broken.jpg: cannot be read as an image") as caught:
        assert callbacks.encode({"path": str(tmp_path / "broken.jpg")}) is None
    assert str(tmp_path) not in str(caught[0].message)
    with pytest.warns(UserWarning, match="only the first 22 tokens"):
        callbacks.segment(encoded, "cat " * 100, None, "", 0.5, "")


def test_page_does_not_download_urls(callbacks, photo, server):
    server.answers["/photo.png"] = Answer(photo.read_bytes())
    for path in (f"{server.url}/photo.png", f"{photo.parent}/{server.url}/photo.png"):
        with pytest.warns(UserWarning):
            assert callbacks.encode({"path": path, "url": path}) is None
    assert server.requests == []


def test_page_requests_a_photo_and_a_prompt(callbacks, photo):
    assert callbacks.encode(None) is None
    assert callbacks.segment(None, "cat", None, "", 0.5, "") is None
    hint = "Upload a photo and describe what to segment."
    assert callbacks.draw(None, None, 0.5, 0.0, [], 0, 0) == (None, hint, None)
    encoded = callbacks.encode({"path": str(photo)})
    assert callbacks.segment(encoded, " , ", None, "", 0.5, "car") is None
    hint = "Describe what to segment, or paint over an example."
    assert callbacks.draw(encoded, None, 0.5, 0.0, [], 0, 0) == (None, hint, None)


def test_user_errors_are_one_line(monkeypatch, capsys):
    pytest.importorskip("gradio", reason="gradio is not installed: the demo extra")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=f"clipseg_pl: .*port.*{port}"):
            demo.main(["--port", str(port)])
    with pytest.raises(SystemExit) as exited:
        demo.main(["--port", "70000"])
    assert exited.value.code == 2 and "[1, 65535]" in capsys.readouterr().err
    for name in ("nowhere.ckpt", "runs/nowhere.ckpt", "nowhere"):
        with pytest.raises(SystemExit, match=f"clipseg_pl: no checkpoint {name}"):
            demo.main(["--checkpoint", name])
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"gradio is not installed: pip install -e '.\[demo\]'"):
        demo.main([])


def test_failed_download_is_printed_on_one_line(capsys):
    model = Future()
    demo._load("owner/nothing", model)
    assert isinstance(model.exception(), FileNotFoundError)
    assert capsys.readouterr().err == f"clipseg_pl: {model.exception()}\n"
    assert "HF_HUB_OFFLINE is set" in str(model.exception())


def free_port():
    with socket.socket() as test:
        test.bind(("127.0.0.1", 0))
        return test.getsockname()[1]


@pytest.fixture
def chromium():
    """Playwright driver of the browser."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as playwright:
        yield playwright.chromium


@contextmanager
def serving(**environment):
    """Serve the page from a subprocess and yield its address and the output that follows."""
    pytest.importorskip("gradio", reason="gradio is not installed: the demo extra")
    port = free_port()
    command = [sys.executable, "-m", "clipseg_pl", "demo", "--port", str(port)]
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = Timer(180, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
        assert "open http" in line, line + process.stdout.read()
        yield f"http://127.0.0.1:{port}/", process.stdout
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        watchdog.cancel()


@pytest.fixture
def visit(chromium):
    """Function that opens a page in a browser that may connect to its own server only."""
    browser = chromium.launch(executable_path=CHROMIUM)

    def visit_page(url, width=1280, height=900):
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(30_000)
        page.blocked, page.failed = [], []
        page.on("pageerror", lambda error: page.failed.append(error))

        def guard(route):
            if route.request.url.startswith(url):
                return route.continue_()
            page.blocked.append(route.request.url)
            return route.abort()

        page.route("**/*", guard)
        page.goto(url)
        return page

    yield visit_page
    browser.close()


@pytest.fixture
def page(visit):
    """The page with the toy model."""
    with serving() as (url, _):
        yield visit(url)


class Shown:
    """The overlay and the table in the browser."""

    def __init__(self, page):
        self.page = page
        page.wait_for_selector("#result img")
        self.source = self.read()

    def read(self):
        return self.page.get_attribute("#result img", "src")

    def pixels(self):
        return np.asarray(Image.open(io.BytesIO(self.page.request.get(self.source).body())))

    def covers(self):
        """Covered area of each prompt in percent, 0 if it was not found."""
        rows = self.page.locator("#table tr").all_inner_texts()[1:]
        cells = [[cell.strip() for cell in row.split("\t")] for row in rows]
        return {row[0]: float(row[2].rstrip("%").replace("not found", "0")) for row in cells}

    def changes(self):
        """Wait for a new overlay; return whether its pixels differ."""
        before = self.pixels()
        self.page.wait_for_function(
            "before => document.querySelector('#result img')?.getAttribute('src') !== before",
            arg=self.source,
        )
        self.page.wait_for_timeout(200)  # until the table is updated as well
        self.source = self.read()
        return before.shape != self.pixels().shape or bool((before != self.pixels()).any())


def paint(page, mask):
    """Paint a mask on the support image with the mouse, row by row."""
    page.locator("#leave").scroll_into_view_if_needed()
    canvas = page.locator("#support canvas").first.bounding_box()
    height, width = mask.shape
    zoom = float(page.locator("#support").inner_text().split("%")[0].split()[-1]) / 100
    scale = zoom * 640 / width  # the canvas has 640 x 480 pixels
    left = canvas["x"] + (canvas["width"] - width * scale) / 2
    top = canvas["y"] + (canvas["height"] - height * scale) / 2
    inset, rows = (
        8,
        np.flatnonzero(mask.any(1)),
    )  # a third of the brush radius of 12 crosses the edge
    for row in range(rows[0] + inset, rows[-1], 2 * inset):
        inside = np.flatnonzero(mask[row])
        for run in np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1):
            if len(run) < 2 * inset:
                continue
            y = top + row * scale
            page.mouse.move(left + (run[0] + inset) * scale, y)
            page.mouse.down()
            page.mouse.move(left + (run[-1] - inset) * scale, y, steps=2)
            page.mouse.up()


@pytest.mark.slow
def test_page_in_a_browser(page, tmp_path):
    result = Shown(page)
    page.screenshot(path=tmp_path / "1_opened.png")
    assert set(result.covers()) == {"car", "road", "wall", "aeroplane"}
    assert result.covers()["car"] > 0 and result.covers()["aeroplane"] == 0

    page.locator("#scenes button").nth(1).click()
    assert result.changes() and "cat" in result.covers()
    page.screenshot(path=tmp_path / "2_another_scene.png")

    page.locator("#scenes button").nth(0).click()
    assert result.changes()
    page.fill("#words textarea", "road, car, wall, table")
    page.press("#words textarea", "Enter")
    assert result.changes() and list(result.covers()) == ["road", "car", "wall", "table"]

    before = result.covers()
    least = page.input_value("#least-presence input[type=range]")
    page.fill("#threshold input[type=range]", "0.5")
    assert result.changes() and 0 < result.covers()["car"] < before["car"]
    page.click("#threshold button")  # resets it to the model's threshold
    assert result.changes() and result.covers() == before
    page.fill("#least-presence input[type=range]", "1")
    assert result.changes() and not any(result.covers().values())
    page.fill("#least-presence input[type=range]", least)
    assert result.changes() and result.covers() == before

    page.locator("#show button").first.click()
    page.wait_for_selector("#support canvas")
    page.wait_for_timeout(1500)  # until it is rendered
    page.click("#use")
    page.wait_for_selector("text=Nothing is painted. Paint over the object in the example.")
    page.click(".toast-close")
    paint(page, mask_of(SUPPORT, "boat"))
    page.click("#use")
    assert result.changes() and result.covers()["image prompt"] > 0
    page.wait_for_timeout(500)  # until the progress indicator is gone
    page.screenshot(path=tmp_path / "3_painted.png")
    with page.expect_download() as download:
        page.click("#download")
    with zipfile.ZipFile(download.value.path()) as archive:
        found = np.asarray(Image.open(archive.open("5_image_prompt.png"))) > 0
    boat = mask_of(QUERY, "boat")
    assert (found & boat).sum() / (found | boat).sum() > 0.6

    page.click("#leave")
    assert result.changes() and "image prompt" not in result.covers()

    page.set_viewport_size({"width": 390, "height": 844})
    before = result.covers()
    page.locator("#edits button").first.click()
    page.fill("#minus input, #minus textarea", "chair")
    page.click("#minus button")
    assert result.changes() and result.covers()["road"] < before["road"]
    page.fill("#grow input[type=range]", "-5")
    assert result.changes() and result.covers()["road"] < before["road"]
    page.click("#options >> text=Merge the masks")
    assert result.changes() and list(result.covers()) == ["road, car, wall, table"]
    page.click("#options >> text=Invert")
    assert result.changes() and list(result.covers()) == ["all but road, car, wall, table"]
    (covers,) = result.covers().values()
    page.click("#options >> text=Cutouts instead of masks")
    page.fill("#feather input[type=range]", "0")
    page.wait_for_timeout(1000)
    with page.expect_download() as download:
        page.click("#download")
    with zipfile.ZipFile(download.value.path()) as archive:
        cutout = np.asarray(Image.open(archive.open("1_all_but_road_car_wall_table.png")))
    assert (cutout[..., :3] == QUERY.image).all()
    assert (cutout[..., 3] > 0).mean() * 100 == pytest.approx(covers, abs=0.1)
    page.screenshot(path=tmp_path / "4_phone.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert not page.blocked and not page.failed


class Gate(dict):
    """Repositories of an imitation hub that answers requests when `opened` is set."""

    opened = None

    def get(self, name):
        self.opened.wait(60)
        return super().get(name)


@pytest.mark.slow
def test_model_is_downloaded_while_the_page_is_open(visit, hub, hub_clipseg, photo):
    hub.repositories = Gate()
    hub.repositories.opened = opened = Event()
    hub.add("owner/name", hub_clipseg)
    try:
        with serving(CLIPSEG_CHECKPOINT="owner/name") as (url, _):
            page = visit(url, 390, 844)
            page.wait_for_selector("#status >> text=Downloading owner/name ...")
            assert page.locator("#scenes").count() == 0
            page.wait_for_selector("#table >> text=Upload a photo and describe what to segment.")
            page.set_input_files("#photo input[type=file]", photo)
            page.wait_for_selector("#table >> text=The model is still loading.")
            page.fill("#words textarea", "a dog")
            opened.set()
            page.wait_for_selector("#status >> text=/owner.name, on cpu in/")
            assert list(Shown(page).covers()) == ["a dog"]
            assert not page.blocked and not page.failed
    finally:
        opened.set()


@pytest.mark.slow
def test_page_shows_that_the_download_failed(visit, tmp_path):
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "CLIPSEG_CHECKPOINT": "a/b"}
    with serving(**offline) as (url, output):
        line = output.readline()
        assert (
            line.startswith("clipseg_pl: no checkpoint a/b: ") and "HF_HUB_OFFLINE is set" in line
        )
        page = visit(url, 390, 844)
        page.wait_for_selector("#status >> text=The model could not be loaded: no checkpoint a/b")
        page.wait_for_selector("#table >> text=The model could not be loaded.")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
