"""Search and loading of ViT weights, and rejected files and names."""

import json

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from clipseg_pl.models.vit_backbone import build_vit
from tests.conftest import TINY_VIT

PLAIN = "vit_tiny_patch16_224"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty weights folder."""
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    return tmp_path


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Set weights that differ from the default random weights."""
    for value in module.parameters():
        value.normal_(1.0 if value.ndim == 1 else 0.0, 0.2)


@pytest.fixture
def state(folder) -> dict[str, torch.Tensor]:
    """Weights of "own" with a classifier, which differ from the default random weights."""
    (folder / "own_vit.json").write_text(json.dumps({**TINY_VIT, "num_classes": 5}))
    vit = VisionTransformer(**TINY_VIT, num_classes=5)
    randomise(vit)
    return vit.state_dict()


def same(vit: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    own = vit.state_dict()
    expected = {key for key in state if not key.startswith("head.")}
    return own.keys() == expected and all(torch.equal(own[key], state[key]) for key in own)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_of_a_custom_configuration_are_found(folder, state, suffix):
    file = folder / f"own_vit{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    assert same(build_vit("own", pretrained=True), state)


def test_weights_of_a_timm_model_are_found(folder):
    made = timm.create_model(PLAIN)
    randomise(made)
    for name in (PLAIN, f"{PLAIN}.mine"):
        save_file(made.state_dict(), folder / f"{name}.safetensors")
        assert same(build_vit(name, pretrained=True), made.state_dict())


def error_message(name: str, kind: type[Exception] = ValueError, pretrained: bool = True) -> str:
    with pytest.raises(kind) as error:
        build_vit(name, pretrained=pretrained)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_error_for_missing_weights_reports_the_folder(folder, state):
    assert str(folder) in error_message("own", FileNotFoundError)


@pytest.mark.parametrize("missing", ["norm.weight", "blocks.3.attn.qkv.bias"])
def test_weights_of_another_model_are_rejected(folder, state, missing):
    del state[missing]
    save_file(state, folder / "own_vit.safetensors")
    message = error_message("own")
    assert "own_vit.safetensors" in message and missing in message


@pytest.mark.parametrize(
    "name",
    ["resnet18", "deit3_small_patch16_224", "vit_tiny_r_s16_p8_224", "vit_medium_patch16_gap_240"],
)
def test_other_architectures_are_rejected(name):
    assert "plain ViT" in error_message(name, pretrained=False)


def test_unknown_names_are_rejected(folder):
    message = error_message("vit_unheard_of")
    assert "vit_unheard_of_vit.json" in message and str(folder) in message
    assert f"{PLAIN}.augreg_in21k" in error_message(f"{PLAIN}.unheard_of")


def test_older_toy_vit_is_rejected_unless_the_user_has_its_file(folder):
    assert "the ViT 'toy' belongs to an earlier version" in error_message("toy", pretrained=False)
    (folder / "toy_vit.json").write_text(json.dumps(TINY_VIT))
    assert build_vit("toy", pretrained=False).embed_dim == TINY_VIT["embed_dim"]


def test_missing_weights_are_downloaded_from_timms_repository(folder, monkeypatch):
    made, downloads = timm.create_model(PLAIN), []
    randomise(made)

    def download(repository, name):
        downloads.append((repository, name))
        save_file(made.state_dict(), folder / "downloaded.safetensors")
        return str(folder / "downloaded.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    built = build_vit(PLAIN, pretrained=True)
    assert same(built, made.state_dict())
    assert downloads == [(f"timm/{PLAIN}.augreg_in21k_ft_in1k", "model.safetensors")]


def test_error_for_failed_download_is_one_line(folder, monkeypatch):
    def fail(*_):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    message = error_message(PLAIN, FileNotFoundError)
    assert "ConnectionError" in message and str(folder) in message
    assert f"{PLAIN}.safetensors" in message
    build_vit(PLAIN, pretrained=False)
