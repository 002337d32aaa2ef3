"""Strict loading of decoders from every source, and errors for decoders that do not fit."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from clipseg_pl.convert.checkpoints import load_decoder
from clipseg_pl.convert.key_map import clip_state, decoder_state
from clipseg_pl.models.backbone import BackboneShape
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.weights.files import read_state_dict

VIT_B16 = BackboneShape(width=768, embed_dim=512, patch_size=16, depth=12)
SMALL = BackboneShape(width=12, embed_dim=10, patch_size=16, depth=12)
AUTHORS = {
    "film_scale": "film_mul",
    "film_shift": "film_add",
    "projections": "reduces",
    "head": "trans_conv",
}


def decoder(**changes) -> FiLMDecoder:
    sizes = {"dim": 8, "heads": 2, "feedforward": 2048}  # as in published files
    return FiLMDecoder(changes.pop("shape", SMALL), **{**sizes, **changes})


def as_authors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights to the authors' names and add their unused layer."""
    renamed = {"reduce.weight": torch.randn(8, 12), "reduce.bias": torch.randn(8)}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        renamed[f"{AUTHORS.get(part, part)}.{rest}"] = value
    return renamed


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def error_message(target: FiLMDecoder, file: Path) -> str:
    """Return the error of loading a file, and check that the decoder has not changed."""
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_decoder(target, file, read_state_dict(file))
    assert equal(target.state_dict(), before)
    message = str(error.value)
    assert "\n" not in message and str(file) in message
    return message


# ---- sources


@pytest.mark.parametrize("head", ["simple", "refined"])
def test_file_of_the_authors_is_loaded(tmp_path, head):
    source, target = decoder(head=head), decoder(head=head)
    torch.save(as_authors(source.state_dict()), tmp_path / "rd8.pth")
    load_decoder(target, tmp_path / "rd8.pth", read_state_dict(tmp_path / "rd8.pth"))
    assert equal(target.state_dict(), source.state_dict())


def test_decoder_is_extracted_from_a_full_model_of_the_authors(tmp_path):
    source = decoder()
    clip = {"clip_model.visual.proj": torch.zeros(2), "model.class_embedding": torch.zeros(2)}
    assert equal(decoder_state({**clip, **as_authors(source.state_dict())}), source.state_dict())


@pytest.mark.parametrize("head", ["simple", "refined"])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_hugging_face_file_is_loaded(tmp_path, head, file):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = CLIPSegConfig(
        text_config={**sizes, "num_hidden_layers": 2, "vocab_size": 50},
        vision_config={**sizes, "num_hidden_layers": 4, "image_size": 32, "patch_size": 16},
        projection_dim=10,
        extract_layers=[0, 1, 3],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        use_complex_transposed_convolution=head == "refined",
    )
    theirs = CLIPSegForImageSegmentation(config).state_dict()
    path = tmp_path / file
    save_file(theirs, path) if path.suffix == ".safetensors" else torch.save(theirs, path)
    target = decoder(head=head, shape=BackboneShape(16, 10, 16, 4), layers=[0, 1, 3])
    load_decoder(target, path, read_state_dict(path))
    for part, ours in (("q", slice(0, 8)), ("k", slice(8, 16)), ("v", slice(16, 24))):
        expected = theirs[f"decoder.layers.2.self_attn.{part}_proj.weight"]
        assert torch.equal(target.blocks[2].self_attn.in_proj_weight[ours], expected)
    assert torch.equal(target.film_scale.weight, theirs["decoder.film_mul.weight"])
    assert torch.equal(target.film_shift.bias, theirs["decoder.film_add.bias"])
    assert torch.equal(target.projections[1].weight, theirs["decoder.reduces.1.weight"])


def test_square_text_projection_of_hugging_face_is_transposed():
    weight = torch.randn(4, 4)
    renamed = clip_state({"clip.text_projection.weight": weight, "decoder.x": weight})
    assert renamed.keys() == {"text_projection"}
    assert torch.equal(renamed["text_projection"], weight.T)


def test_own_checkpoint_and_bare_decoder_are_loaded(tmp_path):
    source = decoder()
    own = {f"model.decoder.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": own, "epoch": 3, "hyper_parameters": {"a": 1}}, tmp_path / "own.ckpt")
    torch.save(source.state_dict(), tmp_path / "bare.pt")
    for name in ("own.ckpt", "bare.pt"):
        target = decoder()
        load_decoder(target, tmp_path / name, read_state_dict(tmp_path / name))
        assert equal(target.state_dict(), source.state_dict())


# ---- rejected files


@pytest.mark.parametrize(
    ("saved", "target", "reason"),
    [
        ({"head": "refined"}, {}, "the file has the refined head, the model the simple one"),
        ({}, {"head": "refined"}, "the model has the refined head, the file the simple one"),
        ({"dim": 16}, {}, "D is 16 in the file and 8 in the model"),
        ({"layers": [3]}, {}, "the file has 1 decoder blocks, but the model taps 3 layers"),
        (
            {"shape": BackboneShape(24, 10, 16, 12)},
            {},
            "backbone width is 24 in the file and 12 in the model",
        ),
        ({"shape": BackboneShape(12, 20, 16, 12)}, {}, "C is 20 in the file and 10 in the model"),
        (
            {"shape": BackboneShape(12, 10, 32, 12)},
            {},
            r"head.weight has shape \(8, 1, 32, 32\) in the",
        ),
        (
            {"feedforward": 64},
            {},
            r"linear1.weight has shape \(64, 8\) in the file and \(2048, 8\)",
        ),
    ],
)
def test_error_reports_the_mismatch(tmp_path, saved, target, reason):
    torch.save(as_authors(decoder(**saved).state_dict()), tmp_path / "other.pth")
    assert re.search(reason, error_message(decoder(**target), tmp_path / "other.pth"))


def test_error_reports_missing_and_unexpected_keys(tmp_path):
    state = as_authors(decoder().state_dict())
    del state["film_mul.bias"]
    torch.save({**state, "extra.weight": torch.zeros(1)}, tmp_path / "odd.pth")
    message = error_message(decoder(), tmp_path / "odd.pth")
    assert "film_scale.bias" in message and "extra.weight" in message


@pytest.mark.parametrize("name", ["odd.pth", "odd.safetensors"])
def test_error_reports_corrupt_file(tmp_path, name):
    for content in (b"", b"garbage" * 50):
        (tmp_path / name).write_bytes(content)
        error_message(decoder(), tmp_path / name)


def test_error_reports_file_without_decoder(tmp_path):
    torch.save({"visual.proj": torch.zeros(2)}, tmp_path / "clip.pt")
    assert "contains no CLIPSeg decoder" in error_message(decoder(), tmp_path / "clip.pt")


# ---- the published rd16


def rd16(**changes) -> FiLMDecoder:
    return FiLMDecoder(VIT_B16, **{"dim": 16, **changes})


def test_published_rd16_is_loaded(real_data):
    file = real_data / "weights" / "rd16-uni.pth"
    target = rd16()
    load_decoder(target, file, read_state_dict(file))
    raw = torch.load(file, map_location="cpu", weights_only=True)
    assert torch.equal(target.film_scale.weight, raw["film_mul.weight"])
    assert torch.equal(target.head.weight, raw["trans_conv.weight"])
    assert torch.equal(target.blocks[2].norm2.bias, raw["blocks.2.norm2.bias"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"head": "refined"}, "the model has the refined head, the file the simple one"),
        ({"dim": 64}, "D is 16 in the file and 64 in the model"),
        ({"layers": [3, 9]}, "the file has 3 decoder blocks, but the model taps 2 layers"),
    ],
)
def test_published_rd16_is_rejected_for_other_decoders(real_data, changes, reason):
    assert reason in error_message(rd16(**changes), real_data / "weights" / "rd16-uni.pth")
