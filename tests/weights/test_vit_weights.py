"""Where the ViT's weights come from, and what is refused."""

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
    """A weights folder with nothing in it."""
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    return tmp_path


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Other weights than the fixed random ones."""
    for value in module.parameters():
        value.normal_(1.0 if value.ndim == 1 else 0.0, 0.2)


@pytest.fixture
def state(folder) -> dict[str, torch.Tensor]:
    """Weights of "own", with a classifier, other than the fixed random ones."""
    (folder / "own_vit.json").write_text(json.dumps({**TINY_VIT, "num_classes": 5}))
    vit = VisionTransformer(**TINY_VIT, num_classes=5)
    randomise(vit)
    return vit.state_dict()


def same(vit: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    own = vit.state_dict()
    kept = {key for key in state if not key.startswith("head.")}
    return own.keys() == kept and all(torch.equal(own[key], state[key]) for key in kept)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_beside_a_configuration_are_found(folder, state, suffix):
    file = folder / f"own_vit{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    assert same(build_vit("own", pretrained=True), state)


def test_a_file_named_after_timms_weights_is_found(folder):
    made = timm.create_model(PLAIN)
    randomise(made)
    for name in (PLAIN, f"{PLAIN}.mine"):
        save_file(made.state_dict(), folder / f"{name}.safetensors")
        assert same(build_vit(name, pretrained=True), made.state_dict())


def refusal(name: str, kind: type[Exception] = ValueError, pretrained: bool = True) -> str:
    with pytest.raises(kind) as error:
        build_vit(name, pretrained=pretrained)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_weights_say_where_they_belong(folder, state):
    assert str(folder) in refusal("own", FileNotFoundError)


@pytest.mark.parametrize("lost", ["norm.weight", "blocks.3.attn.qkv.bias"])
def test_weights_of_another_model_are_refused(folder, state, lost):
    del state[lost]
    save_file(state, folder / "own_vit.safetensors")
    said = refusal("own")
    assert "own_vit.safetensors" in said and lost in said


@pytest.mark.parametrize(
    "name",
    ["resnet18", "deit3_small_patch16_224", "vit_tiny_r_s16_p8_224", "vit_medium_patch16_gap_240"],
)
def test_other_models_are_refused(name):
    assert "plain ViT" in refusal(name, pretrained=False)


def test_unknown_names_are_refused(folder):
    said = refusal("vit_unheard_of")
    assert "vit_unheard_of_vit.json" in said and str(folder) in said
    assert f"{PLAIN}.augreg_in21k" in refusal(f"{PLAIN}.unheard_of")


def test_what_is_not_on_disk_is_downloaded_from_timms_repository(folder, monkeypatch):
    made, asked = timm.create_model(PLAIN), []
    randomise(made)

    def download(repository, name):
        asked.append((repository, name))
        save_file(made.state_dict(), folder / "downloaded.safetensors")
        return str(folder / "downloaded.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    built = build_vit(PLAIN, pretrained=True)
    assert same(built, made.state_dict())
    assert asked == [(f"timm/{PLAIN}.augreg_in21k_ft_in1k", "model.safetensors")]


def test_a_download_that_fails_is_one_line(folder, monkeypatch):
    def fail(*_):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    said = refusal(PLAIN, FileNotFoundError)
    assert "ConnectionError" in said and f"{PLAIN}.safetensors" in said and str(folder) in said
    build_vit(PLAIN, pretrained=False)
