"""What was trained elsewhere is read with its sizes; what is assumed is said."""

import json
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from clipseg_pl.convert.checkpoints import PublishedWarning
from clipseg_pl.convert.decoder_files import write_original
from clipseg_pl.convert.loading import load_model, start_from
from clipseg_pl.convert.to_hugging_face import write_hugging_face
from clipseg_pl.weights.clip import IMAGENET_MEAN, IMAGENET_STD
from clipseg_pl.weights.places import TOY_CHECKPOINT
from tests.models.tiny_clipseg import logits, tiny_backbone, tiny_model

TEXTS = ["a dog", "grass"]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A folder of ours."""
    folder = tmp_path_factory.mktemp("hugging_face")
    write_hugging_face(folder, tiny_model(), 80, None)
    return folder


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy of it, to be changed."""
    for file in written.iterdir():
        (tmp_path / file.name).hardlink_to(file)
    return tmp_path


def change(file: Path, **values) -> None:
    content = json.loads(file.read_text())
    file.unlink()  # a link
    file.write_text(json.dumps(content | values))


def said(recorded) -> list[str]:
    messages = [str(w.message) for w in recorded if w.category is PublishedWarning]
    assert not any("\n" in message for message in messages)
    return messages


def pictures() -> torch.Tensor:
    return (torch.rand(2, 3, 64, 64) * 255).byte()


def theirs_of(**sizes) -> CLIPSegForImageSegmentation:
    """Of transformers' own making, with a ViT of patch 14 and 24 wide."""
    common = {"intermediate_size": 40, "hidden_act": "gelu"}
    config = CLIPSegConfig(
        text_config={**common, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
        vision_config={
            **common,
            "hidden_size": 24,
            "num_hidden_layers": 6,
            "num_attention_heads": 3,
            "image_size": 42,
            "patch_size": 14,
        },
        projection_dim=20,
        reduce_dim=8,
        decoder_intermediate_size=12,
        **sizes,
    )
    return CLIPSegForImageSegmentation(config).eval()


def test_a_folder_of_transformers_making(tmp_path):
    """hidden_states[i + 1] is what block i gives: both count the blocks from 0."""
    theirs = theirs_of(extract_layers=[1, 5], decoder_num_attention_heads=2)
    theirs.save_pretrained(tmp_path)
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        published = load_model(tmp_path)
    assert not said(recorded)
    model = published.model
    assert model.decoder.layers == (5, 1) and not model.backbone.quick_gelu
    images = (torch.rand(2, 3, 70, 70) * 255).byte()
    conditional = model.backbone.embed_text(TEXTS)
    with torch.inference_mode():
        expected = theirs(
            pixel_values=model.backbone.normalise(images), conditional_embeddings=conditional
        ).logits
    found = logits(model, images, TEXTS)
    assert float((found - expected).abs().max() / expected.std()) <= 1e-5
    assert published.image_size == 352 and published.threshold is None


def in_the_layout_of_2022(state: dict) -> dict:
    """The first conversions had CLIP under `clipseg.`, and buffers of positions in it."""
    renamed = {
        "clipseg." + key.removeprefix("clip.") if key.startswith("clip.") else key: value
        for key, value in state.items()
    }
    for tower in ("text", "vision"):
        renamed[f"clipseg.{tower}_model.embeddings.position_ids"] = torch.arange(10)[None]
    return renamed


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_the_clip_in_a_file_of_2022_is_used(tmp_path, name):
    theirs = theirs_of(extract_layers=[1, 5], decoder_num_attention_heads=2)
    theirs.save_pretrained(tmp_path)
    state = in_the_layout_of_2022(theirs.state_dict())
    (tmp_path / "model.safetensors").unlink()
    save = save_file if name == "model.safetensors" else torch.save
    save(state, tmp_path / name)
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        model = load_model(tmp_path).model
    assert not said(recorded)
    images = (torch.rand(2, 3, 70, 70) * 255).byte()
    conditional = model.backbone.embed_text(TEXTS)
    with torch.inference_mode():
        pixels = model.backbone.normalise(images)
        expected = theirs(pixel_values=pixels, conditional_embeddings=conditional).logits
    assert float((logits(model, images, TEXTS) - expected).abs().max() / expected.std()) <= 1e-5


def read_folder(folder: Path) -> None:
    load_model(folder)


def start_training(folder: Path) -> None:
    start_from(tiny_model(), folder / "model.safetensors")


@pytest.mark.parametrize("read", [read_folder, start_training])
def test_weights_that_nothing_reads_are_named(folder, read):
    file = folder / "model.safetensors"
    state = load_file(file)
    extra = {f"model.adapter.{number}.weight": torch.zeros(2) for number in range(5)}
    file.unlink()  # a link
    save_file(state | extra, file)
    with pytest.warns(PublishedWarning) as recorded:
        read(folder)
    (message,) = said(recorded)
    of = len(state) + 5
    names = ", ".join(f"model.adapter.{number}.weight" for number in range(3))
    assert message.endswith(f"5 of its {of} weights are not read: {names} and 2 more")
    assert str(folder) in message


def test_the_clip_in_a_file_is_compared_with_that_of_the_model_that_starts_from_it(folder):
    model = tiny_model()
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        start_from(model, folder / "model.safetensors")
    assert not said(recorded)
    model.backbone.clip.visual.proj.mul_(2)
    with pytest.warns(PublishedWarning, match="is another one than the backbone"):
        start_from(model, folder / "model.safetensors")


def test_weights_of_another_backbone_are_refused(tmp_path):
    model = tiny_model()
    state = {f"model.decoder.{key}": value for key, value in model.decoder.state_dict().items()}
    content = torch.load(TOY_CHECKPOINT, weights_only=True)
    content["state_dict"] = state | {"model.backbone.image_head.weight": torch.zeros(2)}
    torch.save(content, tmp_path / "vit.ckpt")
    with pytest.raises(ValueError, match=r"vit.ckpt: the model's backbone has no image_head.weigh"):
        start_from(model, tmp_path / "vit.ckpt")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_is_read_with_the_config_beside_it(folder, name):
    model = load_model(folder).model
    if name != "model.safetensors":
        torch.save(load_file(folder / "model.safetensors"), folder / name)
        (folder / "model.safetensors").unlink()
    images = pictures()
    for path in (folder / name, folder):
        again = load_model(path).model
        assert torch.equal(logits(again, images, TEXTS), logits(model, images, TEXTS))


def test_layers_of_an_authors_file_are_assumed_or_given(tmp_path):
    file, model = tmp_path / "rd8.pth", tiny_model(layers=(0, 2, 3))
    backbone = model.backbone
    write_original(file, model.decoder)
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        published = load_model(file, backbone, layers=[0, 2, 3])
    assert not said(recorded)
    assert published.model.decoder.layers == (3, 2, 0)
    images = pictures()
    assert torch.equal(logits(published.model, images, TEXTS), logits(model, images, TEXTS))
    with pytest.raises(ValueError, match="the file has 3 decoder blocks, the model taps 2"):
        load_model(file, backbone, layers=[0, 2])


def test_assumed_layers_are_said(tmp_path):
    file, model = tmp_path / "rd8.pth", tiny_model(layers=(0, 1, 2), depth=24)
    write_original(file, model.decoder)
    with pytest.warns(PublishedWarning, match=r"does not say which blocks.*: 7, 15, 19 are taken"):
        assert load_model(file, model.backbone).model.decoder.layers == (19, 15, 7)


def test_a_folder_says_its_own_layers(folder):
    with pytest.raises(ValueError, match=r"config.json says its layers, \[0, 2, 3\]"):
        load_model(folder, layers=[0, 1, 2])


def test_another_activation_is_said(folder, tmp_path):
    with pytest.warns(PublishedWarning) as recorded:
        load_model(folder, tiny_backbone(quick_gelu=False))
    assert "trained on a CLIP with QuickGELU, the backbone has the exact GELU" in said(recorded)[0]
    write_original(tmp_path / "rd8.pth", tiny_model().decoder)
    with pytest.warns(PublishedWarning, match="published decoders were trained on a CLIP with Qu"):
        load_model(tmp_path / "rd8.pth", tiny_backbone(quick_gelu=False), layers=[0, 2, 3])


def test_another_clip_is_said(folder):
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        load_model(folder, tiny_model().backbone)  # the same one, drawn again
    assert not said(recorded)
    other = tiny_model().backbone
    other.clip.visual.proj.mul_(2)
    with pytest.warns(PublishedWarning, match="is another one than the backbone"):
        load_model(folder, other)


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_constants_of_the_preprocessor_are_taken_over_and_said(folder, file):
    """transformers 5 keeps them in processor_config.json, which it asks first."""
    constants = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    if file == "processor_config.json":
        (folder / file).write_text(json.dumps({"image_processor": constants}))
    else:
        change(folder / file, **constants)
    with pytest.warns(PublishedWarning, match="by its preprocessor's mean.*not by ImageNet's"):
        backbone = load_model(folder).model.backbone
    image = torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    assert torch.allclose(backbone.normalise(image), torch.tensor(2.0))


def test_without_a_preprocessor_images_are_as_in_training(folder):
    (folder / "preprocessor_config.json").unlink()
    published = load_model(folder)
    assert published.image_size == 352
    assert torch.allclose(published.model.backbone.mean.flatten(), torch.tensor(IMAGENET_MEAN))
    assert torch.allclose(published.model.backbone.std.flatten(), torch.tensor(IMAGENET_STD))


@pytest.mark.parametrize(
    ("size", "expected"),
    [(224, 224), ({"height": 96, "width": 96}, 96), ({"shortest_edge": 64}, 64)],
)
def test_sizes_of_all_versions_are_read(folder, size, expected):
    change(folder / "preprocessor_config.json", size=size)
    assert load_model(folder).image_size == expected


def test_sizes_that_old_files_keep_a_second_time(folder):
    """The published configs of 2022 have `vision_config_dict`, which counts."""
    config = json.loads((folder / "config.json").read_text())
    whole = config["vision_config"]
    change(
        folder / "config.json",
        vision_config={**whole, "patch_size": 32},
        vision_config_dict={"patch_size": 16},
        text_config_dict=None,
    )
    assert load_model(folder).model.backbone.shape.patch_size == 16


# ---- refusals: one line that names the file


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "clip"}, "describes 'clip', not 'clipseg'"),
        ({"extract_layers": [3, 2, 0]}, "do not rise"),
        ({"extract_layers": [0, 2, 9]}, r"layers \[0, 2, 9\] must be"),
        ({"conditional_layer": 1}, "conditional_layer is 1"),
        ({"text_config": {"vocab_size": 30}}, "its 30 tokens are not CLIP's 49408"),
        ({"vision_config": {"hidden_act": "gelu"}}, "hidden_act"),
        ({"text_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps"),
        ({"decoder_num_attention_heads": 3}, "the 3 heads do not divide"),
        ({"vision_config": {"num_hidden_layers": 4, "hidden_size": 24}}, "its CLIP is another"),
    ],
)
def test_what_is_unknown_is_refused(folder, changes, reason):
    change(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=reason) as error:
        load_model(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_pixels_that_are_not_brought_to_0_to_1_are_refused(folder):
    change(folder / "preprocessor_config.json", rescale_factor=1 / 127.5)
    with pytest.raises(ValueError, match="does not bring pixels to 0 to 1"):
        load_model(folder)


def test_missing_and_broken_files_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*nothing"):
        load_model(tmp_path / "nothing")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*config.json"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json: not JSON"):
        load_model(folder)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_checkpoint_under_another_name_is_refused(tmp_path, suffix):
    file = tmp_path / f"best{suffix}"
    shutil.copy(TOY_CHECKPOINT, file)
    with pytest.raises(ValueError, match=r"a checkpoint of `fit`: rename it to \.ckpt") as error:
        load_model(file)
    assert str(file) in str(error.value)


def test_a_clip_of_other_sizes_needs_its_config(folder):
    save_file(load_file(folder / "model.safetensors"), folder / "alone.safetensors")
    with pytest.raises(
        ValueError, match=r"its CLIP is another one: .*put its config.json beside"
    ) as error:
        load_model(folder / "alone.safetensors")
    reason = str(error.value).removeprefix(str(folder))
    assert re.search(r'key\(s\) in state_dict: "[^"]+" and \d+ more;', reason)
    assert len(reason) < 250


def test_pixels_of_another_range_are_refused(folder):
    change(folder / "preprocessor_config.json", rescale_factor=1.0)
    with pytest.raises(ValueError, match="does not bring pixels to 0 to 1"):
        load_model(folder)
