"""The command `export`, and its files in other libraries."""

import argparse
import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer

from clipseg_pl.cli.commands import export
from clipseg_pl.cli.model_options import add_model_options, load_segmenter
from clipseg_pl.convert import onnx_graphs
from clipseg_pl.convert.checkpoints import read_checkpoint
from clipseg_pl.convert.decoder_files import write_original
from clipseg_pl.convert.loading import load_model
from clipseg_pl.convert.to_hugging_face import write_hugging_face
from clipseg_pl.images import to_tensor
from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.weights.files import write_tensors
from clipseg_pl.weights.places import TOY_CHECKPOINT
from tests.command import arguments, results, run
from tests.models.tiny_clipseg import tiny_config, tiny_model

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
PROMPTS = ["a red dog", "the sofa left of a tvmonitor", "grass"]


def call(*args: object) -> tuple[int, str, str]:
    """Return the exit status, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            export.main([str(arg) for arg in args])
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
            err.write("" if isinstance(stop.code, int) else f"{stop.code}\n")
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def toy():
    segmenter = Segmenter.from_pretrained("toy")
    segmenter.model.cpu()
    return segmenter


@pytest.fixture(scope="module")
def toy_hf(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "toy_hf"
    status, output, _ = call("toy", "--to", "hf", "--out", folder)
    assert status == 0 and f"from_pretrained('{folder}')" in output
    return folder


@torch.inference_mode()
def logits(model, pixels: torch.Tensor, query_index=(0, 0, 0)) -> torch.Tensor:
    conditional = model.backbone.embed_text(PROMPTS)
    return model(pixels, conditional, torch.tensor(query_index))


def pictures(*shape: int) -> torch.Tensor:
    coarse = torch.rand(shape[0], 3, 4, 4)
    resized = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    return (resized * 255).byte()


# ---- round trips


def test_toy_model_to_hugging_face_and_back(toy, toy_hf, tmp_path, monkeypatch, miniature):
    file = tmp_path / "models" / "mine.ckpt"
    status, output, notes = call(toy_hf, "--to", "ckpt", "--out", file)
    assert status == 0 and not notes
    names = sorted(path.name for path in file.parent.iterdir())
    assert names == ["mine.ckpt", "mine_clip.json", "mine_clip.safetensors"]
    assert f"CLIPSEG_WEIGHTS={file.parent} python -m clipseg_pl segment" in output

    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(file.parent))
    back = Segmenter.from_pretrained(file)
    assert (back.threshold, back.image_size) == (toy.threshold, toy.image_size)
    pixels = pictures(1, 96, 80)
    assert torch.equal(logits(back.model.cpu(), pixels), logits(toy.model, pixels))

    run(
        *arguments("validate", miniature, tmp_path / "run", "--trainer.limit_val_batches=1"),
        f"--ckpt_path={file}",
    )
    assert results(tmp_path / "run")


def test_authors_decoder_to_a_checkpoint(toy, toy_hf, tmp_path):
    pth, file = tmp_path / "rd64.pth", tmp_path / "rd64.ckpt"
    assert call(toy_hf, "--to", "original", "--out", pth)[0] == 0
    raw = torch.load(pth, weights_only=True)
    torch.save({**raw, "reduce.weight": torch.zeros(1), "reduce.bias": torch.zeros(1)}, pth)
    status, _, notes = call(pth, "--to", "ckpt", "--out", file, "--backbone", "toy2")
    assert status == 0
    assert "1, 3, 4 are assumed" in notes and "dropped reduce.weight, red" in notes
    assert "published decoders were trained on a CLIP with QuickGELU" in notes
    content = read_checkpoint(file)
    assert content["hyper_parameters"]["backbone"]["init_args"]["name"] == "toy2"
    back = Segmenter.from_pretrained(file)
    state = toy.model.decoder.state_dict()
    assert all(torch.equal(v.cpu(), state[k]) for k, v in back.model.decoder.state_dict().items())
    status, _, notes = call(
        *(pth, "--to", "hf", "--out", tmp_path / "hf", "--backbone", "toy2", "--layers", 0, 2, 4)
    )
    assert status == 0 and "are assumed" not in notes
    assert load_model(tmp_path / "hf").model.decoder.layers == (4, 2, 0)


def test_segment_uses_the_settings_in_a_hugging_face_folder(toy_hf, toy):
    for file in (toy_hf, toy_hf / "model.safetensors"):
        parser = argparse.ArgumentParser()
        add_model_options(parser)
        options = parser.parse_args(["--checkpoint", str(file), "--absent-cut", "stored"])
        _, settings = load_segmenter(options)
        cut = read_checkpoint(TOY_CHECKPOINT)["absent_cut"]
        assert f"threshold   {toy.threshold:g} (stored in the checkpoint)" in settings
        assert f"absent cut  {cut:g} (stored in the checkpoint)" in settings


def test_settings_that_a_pth_cannot_store_are_printed(tmp_path):
    model = tiny_model(layers=(1, 4))
    model.backbone.mean.fill_(0.5)
    write_hugging_face(tmp_path, model, 80, 0.2)
    status, output, notes = call(tmp_path, "--to", "original", "--out", tmp_path / "x.pth")
    assert status == 0 and "extract_layers=[1, 4]" in output
    for words in ("--layers 1 4", "the threshold (0.2)", "image normalisation", "--backbone"):
        assert words in notes
    status, _, notes = call(tmp_path, "--to", "ckpt", "--out", tmp_path / "x.ckpt")
    assert status == 1 and "always normalised with mean [0.485, 0.456, 0.406]" in notes
    assert not list(tmp_path.glob("*.ckpt"))


def test_absent_cut_is_exported_or_printed(tmp_path, monkeypatch):
    trained = tmp_path / "trained.ckpt"
    content = torch.load(TOY_CHECKPOINT, weights_only=True)
    torch.save({**content, "absent_cut": 0.125}, trained)
    assert call(trained, "--to", "hf", "--out", tmp_path / "hf")[0] == 0
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["absent_cut"] == 0.125
    assert (
        Segmenter.from_pretrained(tmp_path / "hf", device="cpu", absent_cut="stored").absent_cut
        == 0.125
    )
    assert call(tmp_path / "hf", "--to", "ckpt", "--out", tmp_path / "back.ckpt")[0] == 0
    assert read_checkpoint(tmp_path / "back.ckpt")["absent_cut"] == 0.125
    status, _, notes = call(trained, "--to", "original", "--out", tmp_path / "x.pth")
    assert status == 0 and "do not store the absent cut (0.125)" in notes
    stored: dict = {}
    monkeypatch.setattr(onnx_graphs, "_graphs", lambda model: {"one": None})
    monkeypatch.setattr(
        onnx_graphs, "_write", lambda file, graph, metadata: stored.update(metadata)
    )
    assert call(trained, "--to", "onnx", "--out", tmp_path / "onnx")[0] == 0
    assert float(stored["absent_cut"]) == 0.125


def test_class_thresholds_are_exported_or_printed(tmp_path, monkeypatch):
    trained, thresholds = tmp_path / "trained.ckpt", {"crack": 0.25, "wall crack": 0.25}
    content = torch.load(TOY_CHECKPOINT, weights_only=True)
    torch.save({**content, "class_thresholds": thresholds}, trained)
    assert call(trained, "--to", "hf", "--out", tmp_path / "hf")[0] == 0
    back = Segmenter.from_pretrained(tmp_path / "hf", device="cpu")
    assert back.class_thresholds == thresholds
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "| thresholds of classes | crack: 0.25; wall crack: 0.25 |" in card
    assert call(tmp_path / "hf", "--to", "ckpt", "--out", tmp_path / "back.ckpt")[0] == 0
    assert read_checkpoint(tmp_path / "back.ckpt")["class_thresholds"] == thresholds
    status, _, notes = call(trained, "--to", "original", "--out", tmp_path / "x.pth")
    assert status == 0 and "do not store the thresholds of classes (2 phrases)" in notes
    stored: dict = {}
    monkeypatch.setattr(onnx_graphs, "_graphs", lambda model: {"one": None})
    monkeypatch.setattr(
        onnx_graphs, "_write", lambda file, graph, metadata: stored.update(metadata)
    )
    assert call(trained, "--to", "onnx", "--out", tmp_path / "onnx")[0] == 0
    assert json.loads(stored["class_thresholds"]) == thresholds


def test_checkpoint_needs_the_normalisation_of_its_backbone_name(tmp_path, monkeypatch):
    """A checkpoint stores the name of its backbone only, not the constants of a HF folder."""
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    constants = {"mean": [0.5] * 3, "std": [0.25] * 3}
    model = tiny_model(depth=10, layers=(3, 7, 9))
    config = {"model_cfg": tiny_config(depth=10), "preprocess_cfg": constants}
    (tmp_path / "half.json").write_text(json.dumps(config))
    write_tensors(tmp_path / "half.safetensors", model.backbone.clip.state_dict())
    write_original(tmp_path / "x.pth", model)
    args = ("--to", "ckpt", "--out", tmp_path / "x.ckpt", "--backbone", "half")
    assert call(tmp_path / "x.pth", *args, "--layers", 3, 7, 9)[0] == 0
    backbone = Segmenter.from_pretrained(tmp_path / "x.ckpt", device="cpu").model.backbone
    assert backbone.mean.unique().item() == 0.5 and backbone.std.unique().item() == 0.25
    (tmp_path / "hf").mkdir()
    write_hugging_face(tmp_path / "hf", model, 80, None)  # with ImageNet's constants
    status, _, notes = call(tmp_path / "hf", *args, "--overwrite")
    assert status == 1 and "always normalised with mean [0.5, 0.5, 0.5] and std [0.25" in notes
    assert "set image_mean and image_std in the source's preprocessor_config.json" in notes


# ---- ONNX


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """ONNX folder and sessions of the toy model."""
    folder = tmp_path_factory.mktemp("onnx") / "toy_onnx"
    status, output, notes = call("toy", "--to", "onnx", "--out", folder)
    assert status == 0 and "docs/export.md" in output and not notes
    names = ("text", "encoder", "decoder")
    return folder, {name: onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in names}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "query_index"),
    [
        ((1, 96, 96), (0, 0, 0)),
        ((2, 64, 64), (1, 0, 1)),  # the native size of CLIP's position embedding
        ((3, 48, 120), (0, 1, 2)),
    ],
)
def test_onnx_graphs_give_the_same_logits(toy, graphs, size, query_index):
    folder, sessions = graphs
    pixels = pictures(*size)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = np.array([encoded.ids for encoded in tokenizer.encode_batch(PROMPTS)])
    (conditional,) = sessions["text"].run(None, {"token_ids": ids})
    with torch.no_grad():
        expected = toy.model.backbone.embed_text(PROMPTS)
    np.testing.assert_allclose(conditional, expected, atol=1e-4)
    patches, cls = sessions["encoder"].run(None, {"images": pixels.numpy()})
    inputs = {"patches": patches, "cls": cls, "conditional": conditional}
    found = sessions["decoder"].run(None, {**inputs, "query_index": np.array(query_index)})[0]
    expected = logits(toy.model, pixels, query_index)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert expected.std() > 0.1
    one = {**inputs, "conditional": conditional[:1], "query_index": np.array(query_index[:1])}
    np.testing.assert_allclose(sessions["decoder"].run(None, one)[0], expected[:1], atol=1e-4)


@pytest.mark.slow
def test_onnx_metadata_contains_the_settings(toy, graphs):
    for session in graphs[1].values():
        known = session.get_modelmeta().custom_metadata_map
        assert int(known["image_size"]) == 96 and int(known["patch_size"]) == 8
        assert float(known["threshold"]) == toy.threshold


@pytest.mark.slow
def test_exported_tokenizer_gives_the_same_ids(toy, graphs):
    tokenizer = Tokenizer.from_file(str(graphs[0] / "tokenizer.json"))
    whole = toy.model.backbone.text_encoder.tokenizer.tokenizer  # CLIP's own
    texts = [
        *PROMPTS,
        "",
        "naïve  café's 2x4 \n!?",
        "日本",
        "word " * 50,
        "a cook\u2019s \u201cbig\u201d hat",
    ]
    for text in texts:
        assert tokenizer.encode(text).ids == whole(text)[0].tolist()


@pytest.mark.slow
def test_example_in_the_docs_runs(toy, graphs, tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    monkeypatch.chdir(graphs[0].parent)
    Image.fromarray(image).save(tmp_path / "photo.png")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if "import onnxruntime" in block]
    found: dict = {}
    exec(code.replace("photo.jpg", str(tmp_path / "photo.png")), found)
    with torch.inference_mode():
        conditional = toy.model.backbone.embed_text(found["prompts"])
        owner = torch.zeros(2, dtype=torch.long)
        expected = toy.model(to_tensor(image)[None], conditional, owner)
    np.testing.assert_allclose(found["logits"], expected, atol=1e-4)
    assert found["masks"].shape == (2, 1, 96, 96) and found["masks"].dtype == bool


# ---- user errors: one line, nothing written


def test_missing_packages_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    status, _, error = call("toy", "--to", "onnx", "--out", tmp_path / "onnx")
    assert status == 1
    assert error == "clipseg_pl: onnx is not installed: pip install -e '.[onnx]'\n"


def test_nothing_is_replaced_without_overwrite(toy_hf, tmp_path):
    out = tmp_path / "out"
    assert call(toy_hf, "--to", "hf", "--out", out)[0] == 0
    (out / "config.json").write_text("{}")
    status, _, error = call(toy_hf, "--to", "hf", "--out", out)
    assert status == 1 and error == f"clipseg_pl: {out} exists; --overwrite replaces it\n"
    assert (out / "config.json").read_text() == "{}"
    assert call(toy_hf, "--to", "hf", "--out", out, "--overwrite")[0] == 0
    assert load_model(out).image_size == 96
    (out / "processor_config.json").write_text('{"image_processor": {"size": 352}}')
    assert call(toy_hf, "--to", "hf", "--out", out, "--overwrite")[0] == 0
    assert load_model(out).image_size == 96  # the file of another model is gone
    status, _, error = call(out, "--to", "onnx", "--out", out, "--overwrite")
    assert status == 1 and f"{out} is the source of the export" in error
    (out / "diary.txt").write_text("mine")
    status, _, error = call(toy_hf, "--to", "hf", "--out", out, "--overwrite")
    assert (
        status == 1
        and "contains diary.txt, which is not from an export" in error
        and (out / "config.json").is_file()
    )
    (tmp_path / "x.pth").write_text("mine")
    status, _, error = call(toy_hf, "--to", "original", "--out", tmp_path / "x.pth")
    assert status == 1 and (tmp_path / "x.pth").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "x.pth"}


def test_existing_clip_files_matter_only_if_a_clip_is_written(toy_hf, tmp_path):
    assert call(toy_hf, "--to", "original", "--out", tmp_path / "x.pth")[0] == 0
    (tmp_path / "x_clip.safetensors").write_text("mine")
    to_ckpt = ("--to", "ckpt", "--out", tmp_path / "x.ckpt")
    status, _, error = call(toy_hf, *to_ckpt)
    assert (
        status == 1 and "x_clip.safetensors exists" in error and not (tmp_path / "x.ckpt").exists()
    )
    status, _, error = call(tmp_path / "x.pth", *to_ckpt, "--backbone", "toy2:banana")
    assert status == 1 and "toy2 is a custom CLIP without tags" in error
    assert call(tmp_path / "x.pth", *to_ckpt, "--backbone", "toy2")[0] == 0
    assert (tmp_path / "x_clip.safetensors").read_text() == "mine"


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["toy", "--to", "original", "--out", "x.pt"], 2, "--out <name>.pth"),
        (["toy", "--to", "ckpt", "--out", "x.ckpt"], 2, "already a checkpoint of this project"),
        (["toy", "--to", "hf", "--out", "x", "--backbone", "tiny"], 2, "stores its backbone"),
        (["toy", "--to", "hf", "--out", "."], 2, "--out needs a file or folder name"),
        (["nothing.pth", "--to", "hf", "--out", "x"], 1, "no checkpoint nothing.pth"),
        (["nothing.ckpt", "--to", "hf", "--out", "x"], 1, "no checkpoint nothing.ckpt"),
        (["nothing.ckpt", "--to", "hf", "--out", "corrupt.pth"], 1, "no checkpoint nothing.ckpt"),
        (["corrupt.pth", "--to", "hf", "--out", "x"], 1, "corrupt.pth: not a weights file"),
        (["toy", "--to", "hf", "--out", "corrupt.pth"], 1, "corrupt.pth is a file; a folder"),
        (["toy", "--to", "hf", "--out", "corrupt.pth/x"], 1, "corrupt.pth is a file; a folder"),
    ],
)
def test_user_errors_are_one_line(tmp_path, monkeypatch, args, status, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corrupt.pth").write_text("none")
    found, _, error = call(*args)
    assert found == status and message in error.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["corrupt.pth"]
