"""Findings of `doctor` for weights on this machine, without downloads."""

import json

import huggingface_hub.constants
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from clipseg_pl.doctor.weights import check_clip, find_clip_weights, find_vit_weights
from clipseg_pl.models import vit_backbone
from clipseg_pl.weights import clip as clip_weights
from tests.conftest import TINY_CLIP, TINY_VIT

PAPERS = "ViT-B-16-quickgelu"
REPOSITORIES = {
    PAPERS: "models--timm--vit_base_patch16_clip_224.openai",
    "vit_base_patch16_384": "models--timm--vit_base_patch16_384.augreg_in21k_ft_in1k",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty weights folder, with an empty Hugging Face cache."""
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def downloaded(folder, name, file):
    """Write a file to the Hugging Face cache, as a download would."""
    repository = folder.parent / "hub" / REPOSITORIES[name]
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("f00")
    (repository / "snapshots" / "f00").mkdir(parents=True)
    place = repository / "snapshots" / "f00" / file
    place.write_bytes(b"weights")
    return place


def test_packaged_weights_are_found(folder):
    found = {finding.subject: finding for finding in check_clip(folder, False)}
    assert found["toy2"].state == "ok" and found["toy2"].message.endswith("toy2.safetensors")
    assert found["CLIPSEG_WEIGHTS"].message == f"{folder} contains nothing"


def test_missing_weights_are_reported_with_their_source(folder):
    finding = find_clip_weights(PAPERS, "openai")
    assert finding.state == "missing"
    assert "https://huggingface.co/timm/vit_base_patch16_clip_224.openai" in finding.message
    assert f"{PAPERS}-openai.safetensors" in finding.message
    finding = find_vit_weights("vit_base_patch16_384")
    assert finding.state == "missing" and "vit_base_patch16_384.safetensors" in finding.message


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_open_clip_cache_is_searched_like_open_clip_does(folder, file):
    place = downloaded(folder, PAPERS, file)
    assert clip_weights.weights_on_disk(PAPERS, "openai") == place
    assert open_clip.download_pretrained(open_clip.get_pretrained_cfg(PAPERS, "openai")) == str(
        place
    )
    assert find_clip_weights(PAPERS, "openai").state == "wrong"  # not valid weights


def test_timm_cache_is_searched(folder):
    place = downloaded(folder, "vit_base_patch16_384", "model.safetensors")
    assert vit_backbone.weights_on_disk("vit_base_patch16_384") == place


def test_custom_weights_are_found_and_loaded(folder):
    (folder / "own.json").write_text(json.dumps(TINY_CLIP))
    (folder / "own_vit.json").write_text(json.dumps(TINY_VIT))
    for finding in (find_clip_weights("own", "openai"), find_vit_weights("own")):
        assert finding.state == "wrong" and "no weights beside it" in finding.message
    clip = clip_weights.build_clip("own", tag="", pretrained=False)
    save_file(clip.state_dict(), folder / "own.safetensors")
    vit = vit_backbone.build_vit("own", pretrained=False)
    torch.save(vit.state_dict(), folder / "own_vit.pt")
    assert find_clip_weights("own", "openai") == ("ok", "own openai", f"{folder}/own.safetensors")
    assert find_vit_weights("own") == ("ok", "own", f"{folder}/own_vit.pt")


@pytest.mark.parametrize(
    ("name", "tag", "message"),
    [
        ("nothing", "openai", "unknown CLIP 'nothing'"),
        (PAPERS, "nothing", "no weights 'nothing'"),
        ("ViT-B-16", "openai", "the activation differs"),
        ("RN50", "openai", "not a plain ViT"),
    ],
)
def test_invalid_clip_name_is_wrong(folder, name, tag, message):
    finding = find_clip_weights(name, tag)
    assert finding.state == "wrong" and message in finding.message


def test_invalid_vit_name_is_wrong(folder):
    finding = find_vit_weights("vit_base_patch16_384.nothing")
    assert finding.state == "wrong" and "timm has no weights" in finding.message


def test_missing_weights_folder_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path / "gone"))
    first = next(iter(check_clip(tmp_path, False)))
    assert first.state == "wrong" and "is not a folder" in first.message
