"""Search and loading of CLIP's weights, and rejected files and names."""

import json
import pickle

import huggingface_hub
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.weights.clip import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    _check_activation,
    build_clip,
    find_config,
    find_normalisation,
    plain_names,
    usable_tags,
)
from clipseg_pl.weights.files import read_state_dict
from tests.conftest import TINY_CLIP

OTHERS = [
    "RN50",
    "coca_ViT-B-32",
    "ViT-B-16-SigLIP",
    "convnext_base",
    "roberta-ViT-B-32",
    "ViT-L-14-CLIPA",
    "ViT-H-14-worldwide",
]


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A weights folder with the configuration "own" and without weights."""
    (tmp_path / "own.json").write_text(json.dumps(TINY_CLIP))
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def state(folder) -> dict[str, torch.Tensor]:
    """Weights that differ from the default random weights."""
    made = build_clip("own", tag="", pretrained=False).state_dict()
    return {key: value + 0.5 for key, value in made.items()}


def same(clip, state) -> bool:
    own = clip.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[key], state[key]) for key in own)


def one_line(error) -> str:
    """Return the error message and check that it is one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- random weights


def test_random_weights_do_not_depend_on_the_seed(folder):
    torch.manual_seed(1)
    first = build_clip("own", tag="openai", pretrained=False)
    torch.manual_seed(2)
    second = build_clip("own", tag="other", pretrained=False)
    assert same(first, second.state_dict())


def test_random_weights_do_not_change_the_global_random_state(folder, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)  # would reseed dropout
    before = torch.get_rng_state()
    CLIPBackbone(name="own", pretrained=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert not seeded


# ---- files


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
def test_weights_of_a_custom_configuration_are_found(folder, state, suffix):
    file = folder / f"own{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    assert same(build_clip("own", tag="openai", pretrained=True), state)


def test_training_checkpoint_of_open_clip_is_loaded(folder, state):
    distributed = {f"module.{key}": value for key, value in state.items()}
    torch.save({"epoch": 3, "state_dict": distributed}, folder / "own.pt")
    assert same(build_clip("own", tag="openai", pretrained=True), state)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_torchscript_archives_are_rejected_with_a_hint(folder):
    torch.jit.script(torch.nn.Linear(2, 3)).save(str(folder / "archive.pt"))
    with pytest.raises(ValueError, match=r"archive\.pt: not a weights file.*docs/backbones\.md"):
        read_state_dict(folder / "archive.pt")


def test_weights_of_an_open_clip_model_are_found_with_their_tag(folder, state, monkeypatch):
    config = folder / "configuration.json"
    config.write_text(json.dumps(TINY_CLIP))
    monkeypatch.setattr("clipseg_pl.weights.clip.config_file", lambda name: config)
    save_file(state, folder / "RN-tiny-quickgelu-mine.safetensors")
    assert same(build_clip("RN-tiny-quickgelu", tag="mine", pretrained=True), state)


def test_malicious_pickle_is_rejected(folder):
    file, trace = folder / "own.pt", folder / "trace"
    for write in (torch.save, lambda content, to: to.write_bytes(pickle.dumps(content))):
        write({"weight": Bomb(trace)}, file)
        with pytest.raises(ValueError, match=r"own\.pt") as error:
            build_clip("own", tag="openai", pretrained=True)
        one_line(error)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 50])
def test_error_reports_corrupt_file(folder, suffix, content):
    file = folder / f"own{suffix}"
    file.write_bytes(content)
    with pytest.raises(ValueError) as error:
        build_clip("own", tag="openai", pretrained=True)
    assert str(file) in one_line(error)


def test_error_reports_truncated_file(folder, state):
    for suffix, write in ((".safetensors", save_file), (".pt", torch.save)):
        file = folder / f"cut{suffix}"
        write(state, file)
        file.write_bytes(file.read_bytes()[:-1000])
        with pytest.raises(ValueError, match=f"cut{suffix}"):
            read_state_dict(file)


@pytest.mark.parametrize("name", ["../own", "/etc/own", "..", "hf-hub:a/b", "local-dir:a"])
def test_paths_and_urls_are_rejected_as_names(folder, name):
    inner = folder / "inner"
    inner.mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("CLIPSEG_WEIGHTS", str(inner))
        with pytest.raises(ValueError, match="unknown CLIP"):
            find_config(name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"embed_dim": None}, "not a valid CLIP configuration"),
        ({"vision_cfg": None}, "not a plain ViT"),
    ],
)
def test_invalid_configurations_are_rejected(folder, change, reason):
    (folder / "own.json").write_text(json.dumps({**TINY_CLIP, **change}))
    with pytest.raises(ValueError, match=reason):
        build_clip("own", tag="", pretrained=False)


def test_files_without_named_tensors_are_rejected(folder):
    file = folder / "own.pt"
    torch.save({"weight": "words"}, file)
    with pytest.raises(ValueError, match="must contain named tensors only"):
        read_state_dict(file)


def test_weights_of_another_model_are_rejected(folder, state):
    file = folder / "own.safetensors"
    save_file({"visual.conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError) as error:
        build_clip("own", tag="openai", pretrained=True)
    assert str(file) in one_line(error)


def test_error_for_missing_weights_reports_the_folder(folder):
    with pytest.raises(FileNotFoundError) as error:
        build_clip("own", tag="openai", pretrained=True)
    assert str(folder) in one_line(error)


def test_error_for_failed_download_suggests_a_file(folder, monkeypatch):
    def fail(*_):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(FileNotFoundError) as error:
        build_clip("ViT-B-16-quickgelu", tag="openai", pretrained=True)
    message = one_line(error)
    assert "ViT-B-16-quickgelu-openai.safetensors" in message and str(folder) in message


# ---- names


@pytest.mark.parametrize("local", [False, True])
def test_weights_of_another_activation_are_rejected(folder, monkeypatch, local):
    if local:  # a weights file does not store its activation
        save_file({"a": torch.zeros(1)}, folder / "ViT-B-16-openai.safetensors")
    with pytest.raises(ValueError, match="belong to ViT-B-16-quickgelu") as error:
        build_clip("ViT-B-16", tag="openai", pretrained=True)
    one_line(error)


def test_weights_of_exact_gelu_are_rejected_for_a_quickgelu_name(folder, monkeypatch):
    save_file({"a": torch.zeros(1)}, folder / "ViT-B-16-quickgelu-laion2b_s34b_b88k.safetensors")
    with pytest.raises(ValueError, match=r"'laion2b_s34b_b88k' belong to ViT-B-16:") as error:
        build_clip("ViT-B-16-quickgelu", tag="laion2b_s34b_b88k", pretrained=True)
    one_line(error)


def test_error_for_unknown_tag_lists_known_tags(folder, monkeypatch):
    with pytest.raises(ValueError, match=r"no weights 'opeani'.*openai"):
        build_clip("ViT-B-16-quickgelu", tag="opeani", pretrained=True)


def test_unknown_name_is_rejected_in_one_line(folder):
    with pytest.raises(ValueError, match="unknown CLIP 'ViT-Z-99'") as error:
        find_config("ViT-Z-99")
    assert str(folder) in one_line(error)


def test_older_toy_clip_is_rejected_unless_the_user_has_its_file(folder):
    with pytest.raises(ValueError, match="the CLIP 'toy' belongs to an earlier version") as error:
        find_config("toy")
    assert "use 'toy2', and train decoders of 'toy' again" in one_line(error)
    (folder / "toy.json").write_text(json.dumps(TINY_CLIP))
    assert find_config("toy") == TINY_CLIP


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_are_rejected(name):
    """Includes two models with average pooling and another tokenizer."""
    with pytest.raises(ValueError, match="not a plain ViT"):
        find_config(name)


def test_configuration_of_transformers_is_rejected(folder):
    (folder / "own.json").write_text(json.dumps({"model_type": "clip", "vision_config": {}}))
    with pytest.raises(ValueError, match="own is not a plain ViT"):
        find_config("own")


def test_other_pooling_is_rejected(folder):
    vision = {**TINY_CLIP["vision_cfg"], "pool_type": "avg"}
    (folder / "own.json").write_text(json.dumps({**TINY_CLIP, "vision_cfg": vision}))
    with pytest.raises(ValueError, match="not a plain ViT"):
        find_config("own")


@pytest.mark.parametrize(("name", "near"), [("ViT-L/14", "ViT-L-14,"), ("vit-b-32", "ViT-B-32,")])
def test_error_for_unknown_name_suggests_similar_names(folder, name, near):
    with pytest.raises(ValueError, match=near):
        find_config(name)


def test_usable_tags_have_the_activation_of_the_name():
    assert {"openai", "metaclip_400m", "dfn2b"} <= {*usable_tags("ViT-B-16-quickgelu")}
    plain = usable_tags("ViT-B-16")
    assert "laion2b_s34b_b88k" in plain and "openai" not in plain and "dfn2b" not in plain
    assert usable_tags("ViT-M-16-alt") == []


@pytest.mark.parametrize("name", plain_names())
def test_usable_tags_pass_the_activation_check_and_others_fail(name):
    published = set(open_clip.list_pretrained_tags_by_model(name))
    usable = set(usable_tags(name))
    for tag in usable:
        _check_activation(name, tag, bool(find_config(name).get("quick_gelu")))
    for tag in published - usable:
        with pytest.raises(ValueError, match="the activation differs"):
            _check_activation(name, tag, bool(find_config(name).get("quick_gelu")))


# ---- normalisation


def test_weights_trained_with_openais_constants_use_imagenets():
    for tag in ("openai", "metaclip_fullcc"):
        assert find_normalisation("ViT-L-14-quickgelu", tag) == (IMAGENET_MEAN, IMAGENET_STD)
    assert find_normalisation("toy2", "openai") == (IMAGENET_MEAN, IMAGENET_STD)


def test_weights_trained_with_other_constants_use_these():
    half = (0.5, 0.5, 0.5)
    assert find_normalisation("ViT-L-14", "laion2b_s32b_b82k") == (half, half)
    assert find_normalisation("ViT-L-14", "laion400m_e32") == (IMAGENET_MEAN, IMAGENET_STD)


def test_constants_in_a_hugging_face_configuration_are_used(folder, state):
    constants = {"mean": [0.5, 0.25, 0.5], "std": [0.5, 0.5, 0.25]}
    config = {"model_cfg": TINY_CLIP, "preprocess_cfg": constants}
    (folder / "own.json").write_text(json.dumps(config))
    save_file(state, folder / "own.safetensors")
    backbone = CLIPBackbone(name="own")
    assert same(backbone.clip, state)
    white = torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    assert backbone.normalise(white)[0, :, 0, 0].tolist() == [1.0, 1.5, 2.0]


# ---- pruned vocabulary


def test_pruned_vocabulary_gives_equal_embeddings(folder):
    full = CLIPBackbone(name="own", pretrained=False)
    words = ["a red dog", "grass"]
    kept = sorted({0} | set(full.text_encoder.tokenizer(words).flatten().tolist()))
    text = {**TINY_CLIP["text_cfg"], "vocab_size": len(kept)}
    (folder / "pruned.json").write_text(json.dumps({**TINY_CLIP, "text_cfg": text}))
    (folder / "pruned_vocabulary.json").write_text(json.dumps(kept))
    state = full.clip.state_dict()
    state["token_embedding.weight"] = state["token_embedding.weight"][kept]
    save_file(state, folder / "pruned.safetensors")
    pruned = CLIPBackbone(name="pruned")
    assert len(pruned.clip.token_embedding.weight) < 10
    torch.testing.assert_close(pruned.embed_text(words), full.embed_text(words))
    pruned.embed_text(["a word that was never seen"])
