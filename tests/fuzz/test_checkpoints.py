"""Files of weights and checkpoints of all origins, and what lies beside them."""

import io
import json
import pickle
import zipfile

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from clipseg_pl.loading import load_model
from clipseg_pl.models.checkpoints import read_checkpoint
from clipseg_pl.models.clip_weights import build_clip
from clipseg_pl.models.from_hugging_face import describe
from clipseg_pl.models.published import load_published
from clipseg_pl.models.weights import read_state_dict
from tests.conftest import TINY_CLIP
from tests.fuzz.contained import inputs, try_out
from tests.fuzz.mutated import ODD, changed, edited, json_files

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2).half()}


def torch_file(content: object, **options: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def torchscript() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))), stream)
    return stream.getvalue()


@st.composite
def repacked(draw, valid: bytes) -> bytes:
    """A zip whose entries are changed, renamed, left out or packed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(valid)) as old, zipfile.ZipFile(stream, "w") as new:
        for info in old.infolist():
            kind, content = draw(st.sampled_from(["keep"] * 6 + ["change", "drop"])), old.read(info)
            if kind != "drop":
                content = draw(changed(content)) if kind == "change" else content
                packing = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
                new.writestr(info.filename, content, packing)
    return stream.getvalue()


ZIPPED, OLD = torch_file(WEIGHTS), torch_file(WEIGHTS, _use_new_zipfile_serialization=False)
EXPANDED = torch_file({"w": torch.zeros(1).expand(10**6, 10**6)})
PICKLES = st.one_of(changed(pickle.dumps(WEIGHTS)), ODD.map(pickle.dumps))


@inputs
@pytest.mark.parametrize("kind", ["zip", "before 2020", "torchscript", "safetensors"])
def test_files_of_weights(tmp_path, inputs, kind):
    file = tmp_path / f"weights.{'safetensors' if kind == 'safetensors' else 'pt'}"
    script, plain = torchscript(), save(WEIGHTS)
    header = st.binary(min_size=8, max_size=8).map(lambda length: length + plain[8:])
    files = {
        "zip": changed(ZIPPED) | repacked(ZIPPED) | st.just(EXPANDED),
        "before 2020": changed(OLD) | PICKLES,
        "torchscript": changed(script) | repacked(script),
        "safetensors": changed(plain) | header,
    }

    def read(content):
        file.write_bytes(content)
        for tensor in read_state_dict(file).values():
            tensor.float().sum()

    try_out(read, files[kind], inputs, documented=ValueError)


@pytest.fixture(scope="module")
def ours(trained) -> dict:
    return torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)


@inputs
def test_bytes_of_checkpoints(tmp_path, inputs, ours):
    file = tmp_path / "own.ckpt"
    valid = torch_file({**ours, "optimizer_states": [], "state_dict": WEIGHTS})

    def read(content):
        file.write_bytes(content)
        read_checkpoint(file)

    try_out(read, changed(valid) | repacked(valid), inputs, documented=ValueError)


@inputs
def test_contents_of_checkpoints(tmp_path, inputs, ours):
    file = tmp_path / "own.ckpt"
    said = {key: value for key, value in ours.items() if key != "state_dict"}
    said = {key: said[key] for key in said if key not in ("optimizer_states", "lr_schedulers")}

    def read(content):
        try:
            torch.save({**content, "state_dict": ours["state_dict"]}, file)
        except OverflowError:  # a number too large for torch's pickles
            return
        loaded = load_model(file)
        assert 0 <= loaded.threshold <= 1 and 0 <= loaded.absent_cut <= 1 <= loaded.image_size

    try_out(read, edited(said), inputs)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder, sizes = tmp_path_factory.mktemp("published"), {"hidden_size": 16}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 16}
    config = CLIPSegConfig(
        text_config={**sizes, "num_hidden_layers": 2},
        vision_config={**sizes, "num_hidden_layers": 4, "image_size": 32, "patch_size": 16},
        projection_dim=10,
        extract_layers=[0, 1, 3],
        reduce_dim=8,
        decoder_num_attention_heads=2,
    )
    (folder / "model.safetensors").write_bytes(
        save(CLIPSegForImageSegmentation(config).state_dict())
    )
    config.save_pretrained(folder)
    return folder


@inputs
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_what_hugging_faces_folders_say(tmp_path, inputs, published, name):
    said = {
        "config.json": json.loads((published / "config.json").read_text()),
        "preprocessor_config.json": {
            "size": {"height": 352, "width": 352},
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "do_rescale": True,
            "rescale_factor": 1 / 255,
        },
    }
    for file in published.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())

    def read(content):
        (tmp_path / name).write_bytes(content)
        describe(tmp_path)
        load_published(tmp_path)

    try_out(read, json_files(said[name]), inputs)


@inputs
@pytest.mark.parametrize("name", ["fuzzed.json", "fuzzed_vocabulary.json"])
def test_configurations_of_clip(tmp_path, monkeypatch, inputs, name):
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    small = {**TINY_CLIP, "text_cfg": {**TINY_CLIP["text_cfg"], "vocab_size": 10}}
    (tmp_path / "fuzzed.json").write_text(json.dumps(small))
    valid = small if name == "fuzzed.json" else [0, 5, 320, 49406, 49407]

    def read(content):
        (tmp_path / name).write_bytes(content)
        from clipseg_pl.models.clip_backbone import CLIPBackbone

        CLIPBackbone("fuzzed", pretrained=False)

    assert build_clip("fuzzed", tag="", pretrained=False)
    try_out(read, json_files(valid), inputs)
