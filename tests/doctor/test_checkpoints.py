"""Findings of `doctor` for checkpoints of every kind, and for other files."""

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
    """Contents of a checkpoint after three training steps on the tiny random CLIP."""
    return torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)


@pytest.fixture(autouse=True)
def empty_hub(tmp_path, monkeypatch):
    """Hide OpenAI's weights, which may be in this machine's cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def findings_of(file):
    return {finding.subject: finding for finding in check_checkpoint(file)}


def test_fit_checkpoint_is_described_and_loaded(trained, content):
    found = findings_of(trained / "checkpoints" / "best.ckpt")
    assert {finding.state for finding in found.values()} == {"ok"}
    assert (
        f"step {content['global_step']} of `fit`: D = 64, simple head, layers 3, 7, 9"
        in found["decoder"].message
    )
    threshold, cut = content["threshold"], content["absent_cut"]
    assert found["settings"].message == (
        f"stored threshold {threshold:g}; absent cut {cut:g}; image size 64 px; no held-out "
        "classes or words"
    )
    assert "CLIPBackbone tiny, not pretrained" in found["backbone"].message
    message = "loads with its backbone; tapped layers: 3, 7, 9 of 12"
    assert found["loading"].message == message


def test_toy_checkpoint_is_found_by_name():
    found = findings_of(Path("toy"))
    assert {finding.state for finding in found.values()} == {"ok"}
    assert "threshold 0.28" in found["settings"].message and "toy" in found["backbone"].message


def test_excluded_words_are_reported(content, tmp_path):
    torch.save({**content, "excluded": ["cow", "motorbike"]}, tmp_path / "new.ckpt")
    assert (
        "trained without: cow, motorbike" in findings_of(tmp_path / "new.ckpt")["settings"].message
    )


def test_missing_backbone_weights_are_reported(content, tmp_path):
    options = content["hyper_parameters"]["backbone"]["init_args"]
    options |= {"name": "ViT-B-16-quickgelu", "tag": "openai", "pretrained": True}
    torch.save(content, tmp_path / "new.ckpt")
    found = findings_of(tmp_path / "new.ckpt")
    assert found["backbone"].state == "missing" and "huggingface.co" in found["backbone"].message
    assert found["decoder"].state == "ok" and "loading" not in found


def test_both_encoders_of_vitseg_are_checked(content, tmp_path):
    backbone = {"class_path": "clipseg_pl.models.vit_backbone.ViTBackbone", "init_args": {}}
    content["hyper_parameters"]["backbone"] = backbone
    torch.save(content, tmp_path / "new.ckpt")
    found = [f for f in check_checkpoint(tmp_path / "new.ckpt") if f.subject == "backbone"]
    assert [finding.message.split(":")[0] for finding in found] == [
        "vit_base_patch16_384",
        "ViT-B-16-quickgelu openai",
    ]


def test_decoder_that_does_not_match_its_settings_is_wrong(content, tmp_path):
    content["hyper_parameters"]["decoder"]["init_args"]["dim"] = 32
    torch.save(content, tmp_path / "new.ckpt")
    loading = findings_of(tmp_path / "new.ckpt")["loading"]
    assert loading.state == "wrong" and "\n" not in loading.message


def test_deconv_decoder_is_described(content, tmp_path):
    decoder = DeconvDecoder(CLIPBackbone("tiny", pretrained=False).shape, dim=16, layer=5)
    content["hyper_parameters"]["decoder"] = {
        "class_path": "clipseg_pl.models.deconv_decoder.DeconvDecoder",
        "init_args": {"dim": 16, "layer": 5},
    }
    content["layers"], state = [5], decoder.state_dict()
    content["state_dict"] = {f"model.decoder.{key}": value for key, value in state.items()}
    torch.save(content, tmp_path / "new.ckpt")
    found = findings_of(tmp_path / "new.ckpt")
    assert found["decoder"].message.startswith("DeconvDecoder, step ")
    assert (
        "D = 16, simple head, layers 5" in found["decoder"].message
        and found["loading"].state == "ok"
    )


def test_checkpoint_without_backbone_settings_is_wrong(content, tmp_path):
    content["hyper_parameters"] = {"min_lr": 1e-4}
    torch.save(content, tmp_path / "python.ckpt")
    finding = findings_of(tmp_path / "python.ckpt")["backbone"]
    assert finding.state == "wrong" and "not written by `clipseg_pl fit`" in finding.message


@pytest.mark.parametrize("head", ["simple", "refined"])
def test_authors_decoder_is_recognised(tmp_path, head):
    state = FiLMDecoder(VIT_B16, dim=16, head=head).state_dict()
    torch.save(as_authors(state), tmp_path / "rd16.pth")
    found = findings_of(tmp_path / "rd16.pth")
    assert (
        f"authors' decoder: D = 16, {head} head, layers not stored (assumed: 3, 7, 9 of 12 blocks"
        in found["decoder"].message
    )
    assert found["backbone"].state == "missing" and "openai" in found["backbone"].message
    torch.save(state, tmp_path / "bare.pt")
    assert findings_of(tmp_path / "bare.pt")["decoder"].message.startswith("bare decoder: D = 16")


def test_hugging_face_folder_includes_clip(tmp_path):
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
        found = findings_of(place)
        assert found["decoder"].message.startswith("Hugging Face CLIPSeg: D = 8, simple head")
        assert found["decoder"].message.endswith("layers 0, 1, 3")
        assert found["backbone"].message == "CLIP weights included in the file"
        assert found["loading"].message.endswith("tapped layers: 0, 1, 3 of 4")
    (tmp_path / "config.json").unlink()
    (finding,) = check_checkpoint(tmp_path)
    assert finding.state == "missing" and f"no {tmp_path / 'config.json'}" in finding.message


def test_clip_weights_without_decoder_are_wrong(tmp_path):
    clip = CLIPBackbone("tiny", pretrained=False).clip
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    finding = findings_of(tmp_path / "clip.pt")["file"]
    assert finding.state == "wrong" and "CLIP weights but no decoder" in finding.message
    assert "CLIPSEG_WEIGHTS" in finding.message


@pytest.mark.parametrize("name", ["a.ckpt", "a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 50])
def test_garbage_is_wrong_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (finding,) = check_checkpoint(tmp_path / name)
    assert finding.state == "wrong" and str(tmp_path / name) in finding.message
    assert "\n" not in finding.message


def test_truncated_checkpoint_is_wrong(trained, tmp_path):
    whole = (trained / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (finding,) = check_checkpoint(tmp_path / "cut.ckpt")
    assert finding.state == "wrong" and "cut.ckpt: not a checkpoint" in finding.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hyper_parameters": [1]}, "unexpected content (AttributeError"),
        ({"state_dict": [1]}, "unexpected content (AttributeError"),
        ({"state_dict": {}}, "contains no CLIPSeg decoder"),
        (
            {"state_dict": {"model.decoder.head.weight": torch.ones(2)}},
            "contains no CLIPSeg decoder",
        ),
        ({"hyper_parameters": {"decoder": "x"}}, "unexpected content (AttributeError"),
        ({"hyper_parameters": {"backbone": "x"}}, "description 'x': expected class_path"),
        (
            {"hyper_parameters": {"backbone": {"class_path": 3}}},
            "expected class_path and init_args",
        ),
        (
            {"hyper_parameters": {"backbone": {"class_path": "a.B", "init_args": [1]}}},
            "expected class_path and init_args",
        ),
    ],
)
def test_damaged_contents_are_wrong_in_one_line(content, tmp_path, change, message):
    torch.save({**content, **change}, tmp_path / "new.ckpt")
    wrong = [
        finding for finding in check_checkpoint(tmp_path / "new.ckpt") if finding.state == "wrong"
    ]
    assert len(wrong) == 1 and message in wrong[0].message and "\n" not in wrong[0].message


def test_missing_file_and_empty_folder_are_missing(tmp_path):
    (finding,) = check_checkpoint(tmp_path / "none.ckpt")
    assert finding.state == "missing" and "no checkpoint" in finding.message
    (finding,) = check_checkpoint(tmp_path)
    assert finding.state == "missing" and "config.json" in finding.message
