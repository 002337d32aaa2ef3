"""Responses of the `demo` page to hostile requests."""

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.demo.test_demo import serving
from tests.http_server import Answer

pytestmark = pytest.mark.slow

httpx = pytest.importorskip("httpx", reason="gradio is not installed: the demo extra")
SECRET = (200, 30, 30)
NO_PHOTO = "Upload a photo and describe what to segment."


@pytest.fixture(scope="module")
def url():
    with serving() as (address, _):
        yield address


@pytest.fixture(scope="module")
def functions(url):
    """Ids of the page's functions by name, the first one of each name."""
    calls = httpx.get(f"{url}config").json()["dependencies"]
    return {call["api_name"]: call["id"] for call in reversed(calls)}


@pytest.fixture
def call(url, functions, request):
    """Call functions of the page within one session; return the last message and all messages.

    The model is loaded.
    """
    session = request.node.name[-20:]

    def call_function(name, *data):
        body = {"data": data, "fn_index": functions[name], "session_hash": session}
        httpx.post(f"{url}gradio_api/queue/join", json=body).raise_for_status()
        messages = []
        address = f"{url}gradio_api/queue/data?session_hash={session}"
        with httpx.stream("GET", address, timeout=60) as stream:
            for line in stream.iter_lines():
                messages.append(line)
                if "process_completed" in line:
                    return json.loads(line.removeprefix("data:")), "\n".join(messages)
        raise AssertionError(messages)

    call_function("wait")
    return call_function


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret.png"
    Image.new("RGB", (64, 48), SECRET).save(file)
    return file


def test_page_listens_on_localhost_only(url):
    port = urlsplit(url).port
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    lines += [line for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    cells = [line.split() for line in lines]
    listening = [local for _, local, _, state, *_ in cells if state == "0A"]
    own = [local.split(":")[0] for local in listening if int(local.split(":")[1], 16) == port]
    assert own == [socket.inet_aton("127.0.0.1")[::-1].hex().upper()]


MARKED = {"meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("mark", [{}, MARKED, {"url": "x", "orig_name": "a.png"}])
def test_files_outside_the_uploads_are_not_opened(call, secret, mark):
    upload = {"path": str(secret), **mark}
    call("encode", upload)
    call("segment", None, "car", None, "", 0.5, "")
    done, _ = call("draw", None, None, 0.5, 0.0, [], 0, 0)
    assert done["success"] and done["output"]["data"][0] is None
    assert done["output"]["data"][1] == NO_PHOTO
    done, messages = call(
        "use_example", {"background": upload, "layers": [upload], "composite": None}
    )
    assert not done["success"] and "secret" not in messages


@pytest.mark.parametrize("path", ["", "../scene_0.png", "/etc/passwd", "a\0b", None, 5, ["a"]])
def test_invalid_paths_are_rejected_without_revealing_the_machine(call, path):
    done, messages = call("encode", {"path": path})
    for word in ("Traceback", 'File "', "site-packages", "/etc/passwd"):
        assert word not in messages
    assert done["output"].get("data", [None]) == [None]


@pytest.mark.parametrize("mark", [{}, MARKED])
def test_urls_are_not_downloaded(call, server, secret, mark):
    server.answers["/a.png"] = Answer(secret.read_bytes())
    file = f"{server.url}/a.png"
    for upload in ({"path": file, **mark}, {"path": "a.png", "url": file, **mark}):
        call("encode", upload)
        call("use_example", {"background": upload, "layers": [upload], "composite": None})
    assert server.requests == []


def test_uploads_are_accepted(call, secret, url):
    with secret.open("rb") as stream:
        (path,) = httpx.post(f"{url}gradio_api/upload", files={"files": stream}).json()
    call("encode", {"path": path, **MARKED})
    call("segment", None, "car", None, "", 0.5, "")
    done, _ = call("draw", None, None, 0.5, 1.0, [], 0, 0)
    overlay = httpx.get(f"{url}gradio_api/file={done['output']['data'][0]['path']}").content
    (overlay_file := secret.with_suffix(".jpg")).write_bytes(overlay)
    assert np.abs(np.asarray(Image.open(overlay_file))[5, 5].astype(int) - SECRET).max() < 5


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
def test_no_route_serves_other_files(url, secret, route):
    response = httpx.get(url + route.format(file=secret))
    assert response.status_code in (400, 403, 404, 405)
    assert b"PNG" not in response.content and "Traceback" not in response.text


def test_upload_size_is_limited(url):
    large = {"files": ("large.png", bytes((64 << 20) + 1))}
    response = httpx.post(f"{url}gradio_api/upload", files=large, timeout=60)
    assert response.status_code == 413 and "Traceback" not in response.text


def test_internal_errors_do_not_reveal_a_traceback(call, url, secret):
    with secret.open("rb") as stream:
        (path,) = httpx.post(f"{url}gradio_api/upload", files={"files": stream}).json()
    call("encode", {"path": path, **MARKED})
    for phrases, weight in ((7, 0.5), ("car", "heavy"), (["a"], None), ("a" * 10**6, 0.5)):
        _, messages = call("segment", None, phrases, None, "", weight, "")
        for word in ("Traceback", "site-packages", '.py"'):
            assert word not in messages
    call("segment", None, "car", None, "", 0.5, "")
    for options, grow, feather in (([["x"]], 0, 0), ([], 1e9, 0), ([], 0, -1), ([], "wide", 0)):
        done, messages = call("draw", None, None, 0.5, 0.0, options, grow, feather)
        assert not done["success"]
        for word in ("Traceback", "site-packages", '.py"'):
            assert word not in messages
