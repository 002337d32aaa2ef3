"""What `doctor` says of checkpoints of every kind, and of files that are none."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from clipseg_pl.doctor.checkpoints import check_checkpoint
from clipseg_pl.models.backbone import BackboneShape
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.models.deconv_decoder import DeconvDecoder
from tests.convert.test_checkpoints import as_authors

VIT_B16 = BackboneShape(768, 512, 16, 12)


@pytest.fixture
def content(trained):
    """Of a checkpoint of three steps on the tiny CLIP, untrained."""
    return torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)


@pytest.fixture(autouse=True)
def empty_hub(tmp_path, monkeypatch):
    """No weights of OpenAI's, whatever this machine has."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def look(file):
    return {finding.thing: finding for finding in check_checkpoint(file)}


def test_one_of_fit_is_described_and_loaded(trained, content):
    found = look(trained / "checkpoints" / "best.ckpt")
    assert {finding.state for finding in found.values()} == {"ok"}
    assert (
        f"at step {content['global_step']} of `fit`: D = 64, simple head, layers 3, 7, 9"
        in found["decoder"].says
    )
    kept = f"threshold {content['threshold']:g} kept, absent cut {content['absent_cut']:g}; 64 px"
    assert kept in found["settings"].says
    assert "no class or word left out" in found["settings"].says
    assert "CLIPBackbone tiny, untrained" in found["backbone"].says
    assert found["loading"].says == "fits its backbone, taps 3, 7, 9 of its 12 blocks"


def test_the_packages_own_is_known_by_its_name():
    found = look(Path("toy"))
    assert {finding.state for finding in found.values()} == {"ok"}
    assert "threshold 0.24" in found["settings"].says and "toy" in found["backbone"].says


def test_what_training_left_out_is_said(content, tmp_path):
    torch.save({**content, "excluded": ["cow", "motorbike"]}, tmp_path / "new.ckpt")
    assert "trained without cow, motorbike" in look(tmp_path / "new.ckpt")["settings"].says


def test_a_backbone_that_is_nowhere_is_missing(content, tmp_path):
    given = content["hyper_parameters"]["backbone"]["init_args"]
    given |= {"name": "ViT-B-16-quickgelu", "tag": "openai", "pretrained": True}
    torch.save(content, tmp_path / "new.ckpt")
    found = look(tmp_path / "new.ckpt")
    assert found["backbone"].state == "missing" and "huggingface.co" in found["backbone"].says
    assert found["decoder"].state == "ok" and "loading" not in found


def test_the_encoders_of_vitseg_are_looked_for(content, tmp_path):
    given = {"class_path": "clipseg_pl.models.vit_backbone.ViTBackbone", "init_args": {}}
    content["hyper_parameters"]["backbone"] = given
    torch.save(content, tmp_path / "new.ckpt")
    found = [f for f in check_checkpoint(tmp_path / "new.ckpt") if f.thing == "backbone"]
    assert [finding.says.split(":")[0] for finding in found] == [
        "vit_base_patch16_384",
        "ViT-B-16-quickgelu openai",
    ]


def test_a_decoder_that_does_not_fit_its_description_is_found(content, tmp_path):
    content["hyper_parameters"]["decoder"]["init_args"]["dim"] = 32
    torch.save(content, tmp_path / "new.ckpt")
    loading = look(tmp_path / "new.ckpt")["loading"]
    assert loading.state == "wrong" and "\n" not in loading.says


def test_a_deconv_decoder_is_described(content, tmp_path):
    decoder = DeconvDecoder(CLIPBackbone("tiny", pretrained=False).shape, dim=16, layer=5)
    content["hyper_parameters"]["decoder"] = {
        "class_path": "clipseg_pl.models.deconv_decoder.DeconvDecoder",
        "init_args": {"dim": 16, "layer": 5},
    }
    content["layers"], state = [5], decoder.state_dict()
    content["state_dict"] = {f"model.decoder.{key}": value for key, value in state.items()}
    torch.save(content, tmp_path / "new.ckpt")
    found = look(tmp_path / "new.ckpt")
    assert found["decoder"].says.startswith("DeconvDecoder at step ")
    assert (
        "D = 16, simple head, layers 5" in found["decoder"].says and found["loading"].state == "ok"
    )


def test_one_composed_in_python_is_refused(content, tmp_path):
    content["hyper_parameters"] = {"min_lr": 1e-4}
    torch.save(content, tmp_path / "python.ckpt")
    finding = look(tmp_path / "python.ckpt")["backbone"]
    assert finding.state == "wrong" and "not named" in finding.says


@pytest.mark.parametrize("head", ["simple", "refined"])
def test_the_authors_are_told_by_their_names(tmp_path, head):
    state = FiLMDecoder(VIT_B16, dim=16, head=head).state_dict()
    torch.save(as_authors(state), tmp_path / "rd16.pth")
    found = look(tmp_path / "rd16.pth")
    assert (
        f"authors' file: D = 16, {head} head, layers not said: 3, 7, 9 of 12 are taken, by depth"
        in found["decoder"].says
    )
    assert found["backbone"].state == "missing" and "openai" in found["backbone"].says
    torch.save(state, tmp_path / "bare.pt")
    assert look(tmp_path / "bare.pt")["decoder"].says.startswith("bare decoder: D = 16")


def test_hugging_faces_folder_brings_its_own_clip(tmp_path):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = CLIPSegConfig(
        text_config={**sizes, "num_hidden_layers": 2},
        vision_config={**sizes, "num_hidden_layers": 4, "image_size": 32, "patch_size": 16},
        projection_dim=10,
        extract_layers=[0, 1, 3],
        reduce_dim=8,
        decoder_num_attention_heads=2,
    )
    state = CLIPSegForImageSegmentation(config).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    config.save_pretrained(tmp_path)
    for place in (tmp_path, tmp_path / "model.safetensors"):
        found = look(place)
        assert found["decoder"].says.startswith("Hugging Face's CLIPSeg: D = 8, simple head")
        assert found["decoder"].says.endswith("layers 0, 1, 3")
        assert found["backbone"].says == "the CLIP in the file"
        assert found["loading"].says.endswith("taps 0, 1, 3 of its 4 blocks")
    (tmp_path / "config.json").unlink()
    (finding,) = check_checkpoint(tmp_path)
    assert finding.state == "missing" and f"no {tmp_path / 'config.json'}" in finding.says


def test_weights_of_a_clip_are_no_decoder(tmp_path):
    clip = CLIPBackbone("tiny", pretrained=False).clip
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    finding = look(tmp_path / "clip.pt")["file"]
    assert finding.state == "wrong" and "weights of a CLIP, no decoder" in finding.says
    assert "CLIPSEG_WEIGHTS" in finding.says


@pytest.mark.parametrize("name", ["a.ckpt", "a.pth", "a.safetensors"])
@pytest.mark.parametrize("held", [b"", b"garbage" * 50])
def test_what_is_no_checkpoint_is_one_line(tmp_path, name, held):
    (tmp_path / name).write_bytes(held)
    (finding,) = check_checkpoint(tmp_path / name)
    assert finding.state == "wrong" and str(tmp_path / name) in finding.says
    assert "\n" not in finding.says


def test_the_beginning_of_a_checkpoint_is_none(trained, tmp_path):
    whole = (trained / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (finding,) = check_checkpoint(tmp_path / "cut.ckpt")
    assert finding.state == "wrong" and "cut.ckpt: not a checkpoint" in finding.says


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"hyper_parameters": [1]}, "cannot be understood (AttributeError"),
        ({"state_dict": [1]}, "cannot be understood (AttributeError"),
        ({"state_dict": {}}, "holds no CLIPSeg decoder"),
        ({"state_dict": {"model.decoder.head.weight": torch.ones(2)}}, "holds no CLIPSeg decoder"),
        ({"hyper_parameters": {"decoder": "x"}}, "cannot be understood (AttributeError"),
        ({"hyper_parameters": {"backbone": "x"}}, "described as 'x', no class"),
        ({"hyper_parameters": {"backbone": {"class_path": 3}}}, "no class and its options"),
        (
            {"hyper_parameters": {"backbone": {"class_path": "a.B", "init_args": [1]}}},
            "no class and its options",
        ),
    ],
)
def test_damaged_contents_are_one_line(content, tmp_path, change, answer):
    torch.save({**content, **change}, tmp_path / "new.ckpt")
    wrong = [
        finding for finding in check_checkpoint(tmp_path / "new.ckpt") if finding.state == "wrong"
    ]
    assert len(wrong) == 1 and answer in wrong[0].says and "\n" not in wrong[0].says


def test_no_file_and_an_empty_folder(tmp_path):
    (finding,) = check_checkpoint(tmp_path / "none.ckpt")
    assert finding.state == "missing" and "no checkpoint" in finding.says
    (finding,) = check_checkpoint(tmp_path)
    assert finding.state == "missing" and "config.json" in finding.says
