"""What the page of `demo` answers to requests that no browser of its own would send."""

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.demo.test_demo import serving

pytestmark = pytest.mark.slow

httpx = pytest.importorskip("httpx", reason="gradio is not installed: the demo extra")
SECRET = (200, 30, 30)


@pytest.fixture(scope="module")
def url():
    with serving() as address:
        yield address


@pytest.fixture(scope="module")
def verbs(url):
    """Numbers of the page's functions: the first of each name."""
    calls = httpx.get(f"{url}config").json()["dependencies"]
    return {call["api_name"]: call["id"] for call in reversed(calls)}


@pytest.fixture
def ask(url, verbs, request):
    """Call a function of the page, as one visitor; returns all that is answered."""
    visitor = request.node.name[-20:]

    def call(verb, *data):
        given = {"data": data, "fn_index": verbs[verb], "session_hash": visitor}
        httpx.post(f"{url}gradio_api/queue/join", json=given).raise_for_status()
        answers = []
        where = f"{url}gradio_api/queue/data?session_hash={visitor}"
        with httpx.stream("GET", where, timeout=60) as stream:
            for line in stream.iter_lines():
                answers.append(line)
                if "process_completed" in line:
                    return json.loads(line.removeprefix("data:")), "\n".join(answers)
        raise AssertionError(answers)

    return call


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret.png"
    Image.new("RGB", (64, 48), SECRET).save(file)
    return file


def test_the_page_is_for_this_machine_alone(url):
    port = urlsplit(url).port
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    lines += [line for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    cells = [line.split() for line in lines]
    listening = [here for _, here, _, state, *_ in cells if state == "0A"]
    own = [here.split(":")[0] for here in listening if int(here.split(":")[1], 16) == port]
    assert own == [socket.inet_aton("127.0.0.1")[::-1].hex().upper()]


MARKED = {"meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("mark", [{}, MARKED, {"url": "x", "orig_name": "a.png"}])
def test_no_file_of_the_machine_is_opened(ask, secret, mark):
    upload = {"path": str(secret), **mark}
    ask("see", upload)
    ask("ask", None, "car", None, "", 0.5)
    done, _ = ask("draw", None, None, 0.5, 0.0)
    assert done["success"] and done["output"]["data"][0] is None
    assert done["output"]["data"][1] == "Choose a photo first."
    done, said = ask("show", {"background": upload, "layers": [upload], "composite": None})
    assert not done["success"] and "secret" not in said


@pytest.mark.parametrize("named", ["", "../scene_0.png", "/etc/passwd", "a\0b", None, 5, ["a"]])
def test_what_is_no_upload_is_no_photo_and_errors_say_nothing_of_the_machine(ask, named):
    done, said = ask("see", {"path": named})
    for word in ("Traceback", 'File "', "site-packages", "/etc/passwd"):
        assert word not in said
    answer = done["output"].get("data", [None])
    assert answer == [None]


def test_an_upload_is_a_photo(ask, secret, url):
    with secret.open("rb") as stream:
        (path,) = httpx.post(f"{url}gradio_api/upload", files={"files": stream}).json()
    ask("see", {"path": path, **MARKED})
    ask("ask", None, "car", None, "", 0.5)
    done, _ = ask("draw", None, None, 0.5, 1.0)
    shown = httpx.get(f"{url}gradio_api/file={done['output']['data'][0]['path']}").content
    (path_of_answer := secret.with_suffix(".jpg")).write_bytes(shown)
    assert np.abs(np.asarray(Image.open(path_of_answer))[5, 5].astype(int) - SECRET).max() < 5


@pytest.mark.parametrize(
    "route",
    [
        "gradio_api/file={file}",
        "file={file}",
        "gradio_api/file=../../../../../../..{file}",
        "gradio_api/file%3D{file}",
        "static/../../../../../../../..{file}",
        "assets/..%2f..%2f..%2f..%2f..{file}",
        "gradio_api/proxy=http://127.0.0.1:1/",
        "gradio_api/proxy=file://{file}",
    ],
)
def test_no_route_gives_a_file(url, secret, route):
    answer = httpx.get(url + route.format(file=secret))
    assert answer.status_code in (400, 403, 404, 405)
    assert b"PNG" not in answer.content and "Traceback" not in answer.text


def test_uploads_have_a_limit(url):
    large = {"files": ("large.png", bytes((64 << 20) + 1))}
    answer = httpx.post(f"{url}gradio_api/upload", files=large, timeout=60)
    assert answer.status_code == 413 and "Traceback" not in answer.text


def test_an_error_inside_is_answered_without_its_trace(ask, url, secret):
    with secret.open("rb") as stream:
        (path,) = httpx.post(f"{url}gradio_api/upload", files={"files": stream}).json()
    ask("see", {"path": path, **MARKED})
    for words, weight in ((7, 0.5), ("car", "heavy"), (["a"], None), ("a" * 10**6, 0.5)):
        _, said = ask("ask", None, words, None, "", weight)
        assert "Traceback" not in said and "site-packages" not in said and '.py"' not in said
