"""The imitation of huggingface.co answers huggingface_hub as the real one does."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub import READ, Request

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 400}
NAME = "owner/name"


def test_files_of_a_branch_a_tag_and_a_commit(hub):
    first = hub.add(NAME, {**FILES, "config.json": b"old"}, tag="v1")
    second = hub.add(NAME, FILES)
    contents = {
        revision: Path(hf_hub_download(NAME, "config.json", revision=revision)).read_bytes()
        for revision in ("main", "v1", first, second)
    }
    assert contents == {"main": b"{}", "v1": b"old", first: b"old", second: b"{}"}
    info = HfApi().model_info(NAME, revision="v1", files_metadata=True)
    assert info.sha == first
    assert {file.rfilename: file.size for file in info.siblings} == {
        "config.json": 3,
        "model.safetensors": 102_400,
    }


def test_snapshot_has_the_wanted_files(hub, tmp_path):
    sha = hub.add(NAME, FILES | {"README.md": b"text"})
    folder = Path(snapshot_download(NAME, allow_patterns=["*.json", "*.safetensors"]))
    assert folder.is_relative_to(tmp_path) and folder.name == sha
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == FILES
    assert sorted(hub.downloads()) == sorted(FILES)
    hub.requests.clear()
    assert hf_hub_download(NAME, "config.json", revision=sha) and not hub.requests


def test_broken_download_is_resumed(hub):
    hub.add(NAME, FILES)
    hub.break_after = 1000
    file = hf_hub_download(NAME, "model.safetensors")
    assert Path(file).read_bytes() == FILES["model.safetensors"]
    path = f"/{NAME}/resolve/main/model.safetensors"
    assert hub.requests[1:] == [
        Request("GET", path, None, 200),
        Request("GET", path, "bytes=1000-", 206),
    ]


def test_errors(hub):
    hub.add(NAME, FILES)
    hub.add("me/private", FILES, private=True)
    hub.add("owner/gated", FILES, gated=True)
    with pytest.raises(RepositoryNotFoundError, match="401"):
        hf_hub_download("owner/unknown", "config.json")
    with pytest.raises(RepositoryNotFoundError, match="404"):
        hf_hub_download("owner/unknown", "config.json", token=READ)
    with pytest.raises(RepositoryNotFoundError, match="Invalid username or password"):
        hf_hub_download("me/private", "config.json")
    assert hf_hub_download("me/private", "config.json", token=READ)
    with pytest.raises(GatedRepoError):
        hf_hub_download("owner/gated", "config.json", token=READ)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(NAME, "config.json", revision="v2")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(NAME, "vocab.json")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(token="hf_wrong").model_info(NAME)
