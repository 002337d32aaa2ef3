"""`export --to hf --push`, with an imitation of huggingface.co."""

import json
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

from clipseg_pl.convert.loading import load_model
from clipseg_pl.convert.to_hugging_face import write_hugging_face
from tests.cli.test_export import call
from tests.hub import READ, WRITE
from tests.models.tiny_clipseg import logits, tiny_model

NAME = "me/drywall"
FILES = {
    *("README.md", "config.json", "merges.txt", "model.safetensors", "preprocessor_config.json"),
    *("special_tokens_map.json", "tokenizer_config.json", "vocab.json"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Folder of a tiny CLIPSeg."""
    folder = tmp_path_factory.mktemp("source")
    write_hugging_face(folder, tiny_model(), 80, 0.2)
    return folder


@pytest.fixture
def writer(monkeypatch) -> None:
    """Log in with an access token that may write."""
    monkeypatch.setenv("HF_TOKEN", WRITE)


def push(source: object, name: str = NAME, *more: object) -> tuple[int, str, str]:
    return call(source, "--to", "hf", "--push", name, *more)


def test_pushed_model_has_the_same_logits_in_transformers(hub, writer, source):
    status, output, _ = push(source)
    assert status == 0
    assert f"{hub.url}/{NAME}: README.md, config.json" in output
    assert f"CLIPSegForImageSegmentation.from_pretrained('{NAME}')" in output
    texts = ["a red dog", "grass"]
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    inputs = CLIPSegProcessor.from_pretrained(NAME)(
        text=texts, images=[Image.fromarray(noise)] * 2, padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        theirs = CLIPSegForImageSegmentation.from_pretrained(NAME)(**inputs).logits
    pixels = torch.from_numpy(noise).permute(2, 0, 1).expand(2, -1, -1, -1)
    ours = logits(load_model(source).model, pixels, texts)
    assert float((theirs - ours).abs().max() / ours.std()) <= 1e-5
    assert "model.safetensors" in hub.downloads()


def test_repository_is_created_private_and_updated_in_one_commit(hub, writer, source, tmp_path):
    assert push(source)[0] == 0
    repository = hub.repositories[NAME]
    assert repository.private and repository.files.keys() == {*FILES, ".gitattributes"}
    assert f'from_pretrained("{NAME}")' in repository.files["README.md"].decode()
    assert len(repository.commits) == 2  # the first one creates the repository
    hub.add(NAME, {**repository.files, "tokenizer.json": b"{}", "photo.jpg": b""})
    repository.private = False
    changed = tmp_path / "changed"
    changed.mkdir()
    write_hugging_face(changed, tiny_model(layers=(1, 4)), 80, 0.3)
    status, _, error = push(changed)
    assert status == 1 and f"clipseg_pl: {NAME} contains README.md; --overwrite replaces" in error
    assert len(repository.commits) == 3
    assert push(changed, NAME, "--overwrite")[0] == 0
    assert len(repository.commits) == 4 and not repository.private
    assert repository.files.keys() == {*FILES, ".gitattributes", "photo.jpg"}
    config = json.loads(repository.files["config.json"])
    assert config["extract_layers"] == [1, 4] and config["threshold"] == 0.3
    weights = (changed / "model.safetensors").read_bytes()
    assert repository.files["model.safetensors"] == weights


def test_out_keeps_the_pushed_folder(hub, writer, source, tmp_path):
    status, output, _ = push(source, NAME, "--out", tmp_path / "hf")
    assert status == 0 and f"{tmp_path / 'hf'}: README.md" in output and f"/{NAME}: " in output
    pushed = hub.repositories[NAME].files
    for file in (tmp_path / "hf").iterdir():
        assert file.read_bytes() == pushed[file.name]


@pytest.mark.parametrize(
    ("name", "token", "message"),
    [
        ("other/drywall", WRITE, "the access token has no write access to repositories of other"),
        (NAME, READ, "the access token has no write access to repositories of me"),
        (NAME, "hf_wrong", "the access token is invalid; log in with `hf auth login`, or set HF_"),
    ],
)
def test_upload_with_an_invalid_token_or_without_write_access_fails(
    hub, monkeypatch, source, name, token, message
):
    monkeypatch.setenv("HF_TOKEN", token)
    status, _, error = push(source, name)
    assert status == 1 and not hub.repositories
    assert error.startswith(f"clipseg_pl: the upload to {name} failed: {message}")
    assert error.count("\n") == 1


def test_failing_upload_is_reported_in_one_line(hub, writer, source):
    hub.down = True
    status, _, error = push(source)
    assert status == 1 and error.count("\n") == 1
    assert error.startswith(f"clipseg_pl: the upload to {NAME} failed: Server error '503")


def test_errors_before_the_export(hub, writer, monkeypatch, tmp_path):
    missing = tmp_path / "missing.ckpt"  # is not even looked for
    for name in ("drywall", "me/a/b", "me/dry wall", "me/-", f"me/{'x' * 97}", "me/"):
        status, _, error = push(missing, name)
        assert status == 1 and f"--push {name} is not the name of a repository: give OW" in error
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in push(missing)[2]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN")
    assert huggingface_hub.get_token() is None
    status, _, error = push(missing)
    assert status == 1 and error == (
        "clipseg_pl: --push needs an access token of huggingface.co: log in with `hf auth login`, "
        "or set HF_TOKEN\n"
    )
    assert not hub.requests


def test_push_needs_the_format_of_hugging_face(tmp_path):
    status, _, error = call("toy", "--to", "onnx", "--push", NAME)
    assert status == 2 and "--push needs --to hf, not onnx" in error
    status, _, error = call("toy", "--to", "hf")
    assert status == 2 and "--out is required without --push" in error
