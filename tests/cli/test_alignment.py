"""Table 2, measured on CLIP alone: the measurement and the command `alignment`."""

import json

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clipseg_pl.cli.commands import alignment
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.masked_attention import embed_masked
from clipseg_pl.prompts.visual import TABLE_2
from clipseg_pl.protocols.alignment import (
    LARGE,
    MASKINGS,
    ORIGINAL,
    PAPER,
    embed_modified,
    image_sizes,
    measure,
)
from datamodules.toy.writers.folder import build_folders
from datamodules.toy.writers.lvis import lvis_request


@pytest.fixture(scope="module")
def backbone():
    return CLIPBackbone("tiny", pretrained=False)


@pytest.fixture
def samples(backbone):
    """Five noise images at the size used for masked attention, with object masks and names."""
    rng, side = np.random.default_rng(0), image_sizes(backbone)[1]
    samples = []
    for number in range(5):
        image = rng.integers(0, 256, (side, side, 3), np.uint8)
        mask = np.zeros((side, side), bool)
        mask[number * 5 : 60, 20:50] = True
        samples.append((image, mask, [f"thing {i}" for i in range(number, 2 * number + 3)]))
    return samples


def as_batch(image):
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def test_every_value_of_table_2_has_a_row():
    rows = {*TABLE_2, *MASKINGS, LARGE}
    assert set(PAPER) <= rows and len(PAPER) == 15
    assert all(not MASKINGS[row].zero_logits for row in MASKINGS if row in PAPER)


def test_image_sizes_equal_the_papers():
    assert image_sizes(CLIPBackbone(pretrained=False)) == (224, 352)
    assert image_sizes(CLIPBackbone("tiny", pretrained=False)) == (64, 96)


def test_embeddings_match_the_methods_of_their_rows(backbone, samples):
    images, masks, _ = zip(*samples, strict=True)
    embedded = embed_modified(backbone, images, masks)
    image, mask = images[3], masks[3]

    def embed(modified):
        return backbone.embed_image(as_batch(cv2.resize(modified, (64, 64))))[0]

    expected = {
        ORIGINAL: embed(image),
        "blur": embed(TABLE_2["blur"](image, mask)),
        "crop": backbone.embed_image(as_batch(TABLE_2["crop"](image, mask, 64)))[0],
        LARGE: backbone.embed_image(as_batch(image))[0],
    }
    for row, masking in MASKINGS.items():
        expected[row] = embed_masked(
            backbone, as_batch(image), torch.from_numpy(mask)[None], masking
        )[0]
    for row, vector in expected.items():
        torch.testing.assert_close(embedded[row][3], vector, rtol=1e-3, atol=1e-3)


def test_probabilities_equal_zero_shot_classification(backbone, samples, monkeypatch):
    monkeypatch.setattr(
        "clipseg_pl.protocols.alignment._BATCH", 2
    )  # 5 samples: the last batch is smaller
    found = measure(backbone, iter(samples))
    assert all(values.shape == (5,) for values in found.values())
    scale = backbone.clip.logit_scale.exp()
    for number, (image, _, names) in enumerate(samples):
        vector = F.normalize(backbone.embed_image(as_batch(cv2.resize(image, (64, 64)))))
        texts = F.normalize(backbone.embed_text([f"a photo of a {name}" for name in names]))
        expected = (scale * vector @ texts.T).softmax(1)[0, 0]
        torch.testing.assert_close(found[ORIGINAL][number], expected, rtol=1e-3, atol=1e-3)


# ---- the command, on the toy world's CLIP


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("alignment")
    build_folders(root, lvis_request({"train": 40, "val": 40}, 0), progress=False)
    return root


def run(root, out, *more):
    alignment.main(["--root", str(root), "--backbone", "toy2", "--out", str(out), *more])
    return json.loads(out.read_text())


def test_command_measures_every_row(root, tmp_path, capsys):
    out = tmp_path / "new" / "alignment.json"
    found = run(root, out)
    output = capsys.readouterr().out
    rows = {*TABLE_2, *MASKINGS, LARGE}
    assert {key.split("/")[1] for key in found["metrics"]} == {*rows, ORIGINAL}
    assert all(-100 <= found["metrics"][f"alignment/{row}/mean"] <= 100 for row in rows)
    assert all(found["metrics"][f"alignment/{row}/standard_error"] > 0 for row in rows)
    assert 0 < found["metrics"][f"alignment/{ORIGINAL}/probability"] < 1
    count = found["dataset_sizes"]["samples"]
    assert count + sum(found["dataset_skipped"].values()) == found["dataset_sizes"]["objects"]
    assert f"has only {count} suitable objects, not 1600" in output and f"results: {out}" in output
    crop = found["metrics"]["alignment/crop/mean"]
    assert [row for row in output.splitlines() if f"{crop:.2f}" in row and "13.60" in row]
    provenance = {"commit", "dirty", "versions", "device", "seconds", "config", "config_hash"}
    assert provenance <= set(found)


def test_toy_world_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(alignment, "TOY_SCENES", {"train": 20, "val": 20})
    alignment.main(["--out", str(tmp_path / "new.json"), "--samples", "2"])
    config = json.loads((tmp_path / "new.json").read_text())["config"]
    assert (config["root"], config["backbone"]["name"]) == ("toy", "toy2")
    alignment.main(["--out", str(tmp_path / "one.json"), "--samples", "2", "--seed", "1"])
    folders = sorted(tmp_path.glob("*/alignment_*"))
    assert [folder.name for folder in folders] == ["alignment_0", "alignment_1"]
    first, second = (next(folder.glob("LVIS/val2017/*1.jpg")) for folder in folders)
    assert first.name == second.name and first.read_bytes() != second.read_bytes()


@pytest.mark.slow
def test_seed_determines_the_sample(root, tmp_path, capsys):
    files = [tmp_path / f"{number}.json" for number in range(3)]
    first, again, other = (
        run(root, file, "--samples", "3", "--seed", seed)
        for file, seed in zip(files, ("4", "4", "5"), strict=True)
    )
    assert first["dataset_sizes"]["samples"] == 3
    assert first["metrics"] == again["metrics"] != other["metrics"]
    assert first["config_hash"] == again["config_hash"] != other["config_hash"]
    assert "suitable objects" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--root", "nowhere"], "in nowhere/LVIS: found nothing"),
        (["--backbone", "toys"], "unknown CLIP 'toys'"),
        (["--out", "here.json"], "here.json exists"),
        (["--out", "here.json/new.json"], "here.json is a file; a folder is needed"),
    ],
)
def test_user_errors_are_one_line(root, tmp_path, monkeypatch, option, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.json").write_text("mine")
    options = {"--root": str(root), "--backbone": "toy2", "--out": "new.json"}
    options |= dict([option])
    with pytest.raises(SystemExit) as exited:
        alignment.main([part for pair in options.items() for part in pair])
    assert message in str(exited.value) and "\n" not in str(exited.value)
    assert [file.name for file in tmp_path.iterdir()] == ["here.json"]
    assert (tmp_path / "here.json").read_text() == "mine"


@pytest.mark.parametrize("option", [["--samples", "1"], ["--seed", "-1"]])
def test_numbers_out_of_range_are_rejected(option, capsys):
    with pytest.raises(SystemExit):
        alignment.main(option)
    assert "--samples must be at least 2, and --seed at least 0" in capsys.readouterr().err


def test_dataset_with_too_few_objects_is_rejected(tmp_path):
    build_folders(tmp_path, lvis_request({"train": 0, "val": 1}, 0), progress=False)
    with pytest.raises(SystemExit, match="at least two are needed"):
        run(tmp_path, tmp_path / "new.json")
