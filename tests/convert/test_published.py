"""Loading of published models: settings, assumptions, warnings and errors."""

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
    """A folder in Hugging Face's format, written by this project."""
    folder = tmp_path_factory.mktemp("hugging_face")
    write_hugging_face(folder, tiny_model(), 80, None)
    return folder


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy of `written` that tests can change."""
    for file in written.iterdir():
        (tmp_path / file.name).hardlink_to(file)
    return tmp_path


def change(file: Path, **values) -> None:
    content = json.loads(file.read_text())
    file.unlink()  # a link
    file.write_text(json.dumps(content | values))


def published_warnings(recorded) -> list[str]:
    messages = [str(w.message) for w in recorded if w.category is PublishedWarning]
    assert not any("\n" in message for message in messages)
    return messages


def pictures() -> torch.Tensor:
    return (torch.rand(2, 3, 64, 64) * 255).byte()


def theirs_of(**sizes) -> CLIPSegForImageSegmentation:
    """Build a CLIPSeg of transformers, with a ViT of patch size 14 and width 24."""
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


def test_folder_written_by_transformers_gives_the_same_logits(tmp_path):
    """Both count blocks from 0: hidden_states[i + 1] is the output of block i."""
    theirs = theirs_of(extract_layers=[1, 5], decoder_num_attention_heads=2)
    theirs.save_pretrained(tmp_path)
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        published = load_model(tmp_path)
    assert not published_warnings(recorded)
    model = published.model
    assert model.decoder.layers == (5, 1) and not model.backbone.quick_gelu
    images = (torch.rand(2, 3, 70, 70) * 255).byte()
    conditional = model.backbone.embed_text(TEXTS)
    with torch.inference_mode():
        expected = theirs(
            pixel_values=model.backbone.normalise(images), conditional_embeddings=conditional
        ).logits
    actual = logits(model, images, TEXTS)
    assert float((actual - expected).abs().max() / expected.std()) <= 1e-5
    assert published.image_size == 352 and published.threshold is None


def with_names_of_2022(state: dict) -> dict:
    """Rename weights as in files of 2022: prefix `clipseg.` and buffers of positions."""
    renamed = {
        "clipseg." + key.removeprefix("clip.") if key.startswith("clip.") else key: value
        for key, value in state.items()
    }
    for tower in ("text", "vision"):
        renamed[f"clipseg.{tower}_model.embeddings.position_ids"] = torch.arange(10)[None]
    return renamed


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_clip_in_a_file_of_2022_is_used(tmp_path, name):
    theirs = theirs_of(extract_layers=[1, 5], decoder_num_attention_heads=2)
    theirs.save_pretrained(tmp_path)
    state = with_names_of_2022(theirs.state_dict())
    (tmp_path / "model.safetensors").unlink()
    save = save_file if name == "model.safetensors" else torch.save
    save(state, tmp_path / name)
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        model = load_model(tmp_path).model
    assert not published_warnings(recorded)
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
def test_warning_lists_ignored_weights(folder, read):
    file = folder / "model.safetensors"
    state = load_file(file)
    extra = {f"model.adapter.{number}.weight": torch.zeros(2) for number in range(5)}
    file.unlink()  # a link
    save_file(state | extra, file)
    with pytest.warns(PublishedWarning) as recorded:
        read(folder)
    (message,) = published_warnings(recorded)
    count = len(state) + 5
    names = ", ".join(f"model.adapter.{number}.weight" for number in range(3))
    assert message.endswith(f"5 of its {count} weights are ignored: {names} and 2 more")
    assert str(folder) in message


def test_start_from_warns_if_the_clip_in_the_file_differs(folder):
    model = tiny_model()
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        start_from(model, folder / "model.safetensors")
    assert not published_warnings(recorded)
    model.backbone.clip.visual.proj.mul_(2)
    with pytest.warns(PublishedWarning, match="differs from the backbone"):
        start_from(model, folder / "model.safetensors")


def test_weights_of_another_backbone_are_rejected(tmp_path):
    model = tiny_model()
    state = {f"model.decoder.{key}": value for key, value in model.decoder.state_dict().items()}
    content = torch.load(TOY_CHECKPOINT, weights_only=True)
    content["layers"] = sorted(model.decoder.layers)
    content["state_dict"] = state | {"model.backbone.image_head.weight": torch.zeros(2)}
    torch.save(content, tmp_path / "vit.ckpt")
    with pytest.raises(
        ValueError, match=r"vit.ckpt: the model's backbone has no weights image_head"
    ):
        start_from(model, tmp_path / "vit.ckpt")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_config_in_the_same_folder_is_used(folder, name):
    model = load_model(folder).model
    if name != "model.safetensors":
        torch.save(load_file(folder / "model.safetensors"), folder / name)
        (folder / "model.safetensors").unlink()
    images = pictures()
    for path in (folder / name, folder):
        again = load_model(path).model
        assert torch.equal(logits(again, images, TEXTS), logits(model, images, TEXTS))


def test_layers_of_an_authors_file_can_be_set(tmp_path):
    file, model = tmp_path / "rd8.pth", tiny_model(layers=(0, 2, 3))
    backbone = model.backbone
    write_original(file, model)
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        published = load_model(file, backbone, layers=[0, 2, 3])
    assert not published_warnings(recorded)
    assert published.model.decoder.layers == (3, 2, 0)
    images = pictures()
    assert torch.equal(logits(published.model, images, TEXTS), logits(model, images, TEXTS))
    with pytest.raises(ValueError, match="the file has 3 decoder blocks, but the model taps 2"):
        load_model(file, backbone, layers=[0, 2])


def test_warning_reports_assumed_layers(tmp_path):
    file, model = tmp_path / "rd8.pth", tiny_model(layers=(0, 1, 2), depth=24)
    write_original(file, model)
    with pytest.warns(
        PublishedWarning, match=r"does not store the tapped layers.* 7, 15, 19 are assumed"
    ):
        assert load_model(file, model.backbone).model.decoder.layers == (19, 15, 7)


def test_layers_of_a_folder_cannot_be_set(folder):
    with pytest.raises(ValueError, match=r"config.json sets \[0, 2, 3\]"):
        load_model(folder, layers=[0, 1, 2])


def test_warning_reports_another_activation(folder, tmp_path):
    with pytest.warns(PublishedWarning) as recorded:
        load_model(folder, tiny_backbone(quick_gelu=False))
    message = published_warnings(recorded)[0]
    assert "trained on a CLIP with QuickGELU, but the backbone has the exact GELU" in message
    write_original(tmp_path / "rd8.pth", tiny_model())
    with pytest.warns(PublishedWarning, match="published decoders were trained on a CLIP with Qu"):
        load_model(tmp_path / "rd8.pth", tiny_backbone(quick_gelu=False), layers=[0, 2, 3])


def test_warning_reports_another_clip(folder):
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        load_model(folder, tiny_model().backbone)  # equal random weights
    assert not published_warnings(recorded)
    other = tiny_model().backbone
    other.clip.visual.proj.mul_(2)
    with pytest.warns(PublishedWarning, match="differs from the backbone"):
        load_model(folder, other)


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_constants_of_the_preprocessor_are_used_with_a_warning(folder, file):
    """transformers 5 stores them in processor_config.json, which takes precedence."""
    constants = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    if file == "processor_config.json":
        (folder / file).write_text(json.dumps({"image_processor": constants}))
    else:
        change(folder / file, **constants)
    with pytest.warns(PublishedWarning, match="with the preprocessor's mean.*not with ImageNet's"):
        backbone = load_model(folder).model.backbone
    image = torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    assert torch.allclose(backbone.normalise(image), torch.tensor(2.0))


def test_default_preprocessor_is_the_papers(folder):
    (folder / "preprocessor_config.json").unlink()
    published = load_model(folder)
    assert published.image_size == 352
    assert torch.allclose(published.model.backbone.mean.flatten(), torch.tensor(IMAGENET_MEAN))
    assert torch.allclose(published.model.backbone.std.flatten(), torch.tensor(IMAGENET_STD))


@pytest.mark.parametrize(
    ("size", "expected"),
    [(224, 224), ({"height": 96, "width": 96}, 96), ({"shortest_edge": 64}, 64)],
)
def test_image_sizes_of_all_versions_are_read(folder, size, expected):
    change(folder / "preprocessor_config.json", size=size)
    assert load_model(folder).image_size == expected


def test_vision_config_dict_takes_precedence(folder):
    """The published configs of 2022 have `vision_config_dict`."""
    config = json.loads((folder / "config.json").read_text())
    vision = config["vision_config"]
    change(
        folder / "config.json",
        vision_config={**vision, "patch_size": 32},
        vision_config_dict={"patch_size": 16},
        text_config_dict=None,
    )
    assert load_model(folder).model.backbone.shape.patch_size == 16


# ---- rejected files: one line with the file name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "clip"}, "model_type is 'clip', not 'clipseg'"),
        ({"extract_layers": [3, 2, 0]}, "must be in ascending order"),
        ({"extract_layers": [0, 2, 9]}, r"layers \[0, 2, 9\] must be"),
        ({"conditional_layer": 1}, "conditional_layer must be 0, not 1"),
        ({"text_config": {"vocab_size": 30}}, "vocab_size 30 and eos_token_id 49407 are not"),
        ({"vision_config": {"hidden_act": "gelu"}}, "hidden_act"),
        ({"text_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps"),
        ({"decoder_num_attention_heads": 3}, "dim 8 must be divisible by its heads 3"),
        (
            {"vision_config": {"num_hidden_layers": 4, "hidden_size": 24}},
            "its CLIP does not fit the configuration",
        ),
    ],
)
def test_unsupported_settings_are_rejected(folder, changes, reason):
    change(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=reason) as error:
        load_model(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_rescaling_to_minus_1_to_1_is_rejected(folder):
    change(folder / "preprocessor_config.json", rescale_factor=1 / 127.5)
    with pytest.raises(ValueError, match=r"does not scale pixels to \[0, 1\]"):
        load_model(folder)


def test_error_reports_missing_and_corrupt_files(folder, tmp_path):
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
def test_checkpoint_with_another_suffix_is_rejected(tmp_path, suffix):
    file = tmp_path / f"best{suffix}"
    shutil.copy(TOY_CHECKPOINT, file)
    with pytest.raises(
        ValueError, match=r"this is a checkpoint of `fit`\. Rename it to \.ckpt"
    ) as error:
        load_model(file)
    assert str(file) in str(error.value)


def test_clip_of_other_sizes_needs_its_config(folder):
    save_file(load_file(folder / "model.safetensors"), folder / "alone.safetensors")
    with pytest.raises(
        ValueError, match=r"its CLIP does not fit the configuration: .*Put its config.json into"
    ) as error:
        load_model(folder / "alone.safetensors")
    reason = str(error.value).removeprefix(str(folder))
    assert re.search(r'key\(s\) in state_dict: "[^"]+" and \d+ more\.', reason)
    assert len(reason) < 250


def test_disabled_rescaling_is_rejected(folder):
    change(folder / "preprocessor_config.json", rescale_factor=1.0)
    with pytest.raises(ValueError, match=r"does not scale pixels to \[0, 1\]"):
        load_model(folder)
