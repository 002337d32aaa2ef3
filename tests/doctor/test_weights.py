"""Whether weights are on this machine, asked without a download."""

import json

import huggingface_hub.constants
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from clipseg_pl.doctor.weights import check_clip, clip_weights_found, vit_weights_found
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
    """A weights folder, and a cache of Hugging Face, with nothing in them."""
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def downloaded(folder, name, file):
    """Lay a file where the hub's client would."""
    repository = folder.parent / "hub" / REPOSITORIES[name]
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("f00")
    (repository / "snapshots" / "f00").mkdir(parents=True)
    place = repository / "snapshots" / "f00" / file
    place.write_bytes(b"weights")
    return place


def test_what_comes_with_the_package_is_there(folder):
    found = {finding.thing: finding for finding in check_clip(folder, False)}
    assert found["toy"].state == "ok" and found["toy"].says.endswith("toy.safetensors")
    assert found["CLIPSEG_WEIGHTS"].says == f"{folder} holds nothing"


def test_what_is_nowhere_says_where_to_get_it(folder):
    finding = clip_weights_found(PAPERS, "openai")
    assert finding.state == "missing"
    assert "https://huggingface.co/timm/vit_base_patch16_clip_224.openai" in finding.says
    assert f"{PAPERS}-openai.safetensors" in finding.says
    finding = vit_weights_found("vit_base_patch16_384")
    assert finding.state == "missing" and "vit_base_patch16_384.safetensors" in finding.says


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_open_clips_cache_is_searched_as_open_clip_does(folder, file):
    place = downloaded(folder, PAPERS, file)
    assert clip_weights.weights_on_disk(PAPERS, "openai") == place
    assert open_clip.download_pretrained(open_clip.get_pretrained_cfg(PAPERS, "openai")) == str(
        place
    )
    assert clip_weights_found(PAPERS, "openai").state == "wrong"  # b"weights" are none


def test_timms_cache_is_searched(folder):
    place = downloaded(folder, "vit_base_patch16_384", "model.safetensors")
    assert vit_backbone.weights_on_disk("vit_base_patch16_384") == place


def test_files_of_ones_own_are_found_and_tried(folder):
    (folder / "own.json").write_text(json.dumps(TINY_CLIP))
    (folder / "own_vit.json").write_text(json.dumps(TINY_VIT))
    for finding in (clip_weights_found("own", "openai"), vit_weights_found("own")):
        assert finding.state == "wrong" and "no weights beside it" in finding.says
    clip = clip_weights.build_clip("own", tag="", pretrained=False)
    save_file(clip.state_dict(), folder / "own.safetensors")
    vit = vit_backbone.build_vit("own", pretrained=False)
    torch.save(vit.state_dict(), folder / "own_vit.pt")
    assert clip_weights_found("own", "openai") == ("ok", "own openai", f"{folder}/own.safetensors")
    assert vit_weights_found("own") == ("ok", "own", f"{folder}/own_vit.pt")


@pytest.mark.parametrize(
    ("name", "tag", "answer"),
    [
        ("nothing", "openai", "unknown CLIP 'nothing'"),
        (PAPERS, "nothing", "no weights 'nothing'"),
        ("ViT-B-16", "openai", "the activation differs"),
        ("RN50", "openai", "not a plain ViT"),
    ],
)
def test_names_that_cannot_be_are_told(folder, name, tag, answer):
    finding = clip_weights_found(name, tag)
    assert finding.state == "wrong" and answer in finding.says


def test_a_name_that_timm_does_not_know_is_told(folder):
    finding = vit_weights_found("vit_base_patch16_384.nothing")
    assert finding.state == "wrong" and "timm knows no weights" in finding.says


def test_a_folder_that_is_none_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path / "gone"))
    first = next(iter(check_clip(tmp_path, False)))
    assert first.state == "wrong" and "is no folder" in first.says
