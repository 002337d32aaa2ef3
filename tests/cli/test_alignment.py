"""Table 2 on a CLIP alone: what is measured, and the verb."""

import json
import subprocess
import sys

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
    """Five images of noise of the size that masking works at, objects and names."""
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


def test_every_cell_of_table_2_has_a_row():
    rows = {*TABLE_2, *MASKINGS, LARGE}
    assert set(PAPER) <= rows and len(PAPER) == 15
    assert all(not MASKINGS[row].zero_logits for row in MASKINGS if row in PAPER)


def test_sizes_are_the_papers_for_the_papers_clip():
    assert image_sizes(CLIPBackbone(pretrained=False)) == (224, 352)
    assert image_sizes(CLIPBackbone("tiny", pretrained=False)) == (64, 96)


def test_rows_are_what_their_names_say(backbone, samples):
    images, masks, _ = zip(*samples, strict=True)
    embedded = embed_modified(backbone, images, masks)
    image, mask = images[3], masks[3]

    def shown(modified):
        return backbone.embed_image(as_batch(cv2.resize(modified, (64, 64))))[0]

    wanted = {
        ORIGINAL: shown(image),
        "blur": shown(TABLE_2["blur"](image, mask)),
        "crop": backbone.embed_image(as_batch(TABLE_2["crop"](image, mask, 64)))[0],
        LARGE: backbone.embed_image(as_batch(image))[0],
    }
    for row, masking in MASKINGS.items():
        wanted[row] = embed_masked(
            backbone, as_batch(image), torch.from_numpy(mask)[None], masking
        )[0]
    for row, vector in wanted.items():
        torch.testing.assert_close(embedded[row][3], vector, rtol=1e-3, atol=1e-3)


def test_probabilities_are_those_of_zero_shot_classification(backbone, samples, monkeypatch):
    monkeypatch.setattr(
        "clipseg_pl.protocols.alignment._BATCH", 2
    )  # of five: the last batch is smaller
    found = measure(backbone, iter(samples))
    assert all(values.shape == (5,) for values in found.values())
    scale = backbone.clip.logit_scale.exp()
    for number, (image, _, names) in enumerate(samples):
        vector = F.normalize(backbone.embed_image(as_batch(cv2.resize(image, (64, 64)))))
        texts = F.normalize(backbone.embed_text([f"a photo of a {name}" for name in names]))
        wanted = (scale * vector @ texts.T).softmax(1)[0, 0]
        torch.testing.assert_close(found[ORIGINAL][number], wanted, rtol=1e-3, atol=1e-3)


# ---- the verb, on the toy world's CLIP


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("alignment")
    build_folders(root, lvis_request({"train": 40, "val": 40}, 0), progress=False)
    return root


def run(root, out, *more):
    alignment.main(["--root", str(root), "--backbone", "toy", "--out", str(out), *more])
    return json.loads(out.read_text())


def test_the_verb_measures_every_row(root, tmp_path, capsys):
    out = tmp_path / "new" / "alignment.json"
    found = run(root, out)
    said = capsys.readouterr().out
    rows = {*TABLE_2, *MASKINGS, LARGE}
    assert {key.split("/")[1] for key in found["metrics"]} == {*rows, ORIGINAL}
    assert all(-100 <= found["metrics"][f"alignment/{row}/mean"] <= 100 for row in rows)
    assert all(found["metrics"][f"alignment/{row}/standard_error"] > 0 for row in rows)
    assert 0 < found["metrics"][f"alignment/{ORIGINAL}/probability"] < 1
    count = found["dataset_sizes"]["samples"]
    assert count + sum(found["dataset_skipped"].values()) == found["dataset_sizes"]["objects"]
    assert f"has {count} objects that qualify, not 1600" in said and f"results: {out}" in said
    crop = found["metrics"]["alignment/crop/mean"]
    assert [row for row in said.splitlines() if f"{crop:.2f}" in row and "13.60" in row]
    provenance = {"commit", "dirty", "versions", "device", "seconds", "config", "config_hash"}
    assert provenance <= set(found)


def test_the_toy_world_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(alignment, "TOY_SCENES", {"train": 20, "val": 20})
    alignment.main(["--out", str(tmp_path / "new.json"), "--samples", "2"])
    config = json.loads((tmp_path / "new.json").read_text())["config"]
    assert config["root"] == config["backbone"]["name"] == "toy"


@pytest.mark.slow
def test_the_seed_decides_what_is_drawn(root, tmp_path, capsys):
    files = [tmp_path / f"{number}.json" for number in range(3)]
    first, again, other = (
        run(root, file, "--samples", "3", "--seed", seed)
        for file, seed in zip(files, ("4", "4", "5"), strict=True)
    )
    assert first["dataset_sizes"]["samples"] == 3
    assert first["metrics"] == again["metrics"] != other["metrics"]
    assert first["config_hash"] == again["config_hash"] != other["config_hash"]
    assert "that qualify" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (["--root", "nowhere"], "looked in nowhere/LVIS; found nothing"),
        (["--backbone", "toys"], "unknown CLIP 'toys'"),
        (["--out", "here.json"], "here.json exists"),
        (["--out", "here.json/new.json"], "here.json is a file: results need a folder"),
    ],
)
def test_what_a_user_can_mend_is_one_line(root, tmp_path, monkeypatch, change, answer):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.json").write_text("mine")
    given = {"--root": str(root), "--backbone": "toy", "--out": "new.json"}
    given |= dict([change])
    with pytest.raises(SystemExit) as stopped:
        alignment.main([part for pair in given.items() for part in pair])
    assert answer in str(stopped.value) and "\n" not in str(stopped.value)
    assert [file.name for file in tmp_path.iterdir()] == ["here.json"]
    assert (tmp_path / "here.json").read_text() == "mine"


@pytest.mark.parametrize("change", [["--samples", "1"], ["--seed", "-1"]])
def test_bad_numbers_are_refused(change, capsys):
    with pytest.raises(SystemExit):
        alignment.main(change)
    assert "--samples is 2 or more, --seed 0 or more" in capsys.readouterr().err


def test_too_few_objects_are_said(tmp_path):
    build_folders(tmp_path, lvis_request({"train": 0, "val": 1}, 0), progress=False)
    with pytest.raises(SystemExit, match="two are needed"):
        run(tmp_path, tmp_path / "new.json")


@pytest.mark.slow
def test_help_is_light():
    code = (
        "import sys; sys.argv[1:] = ['alignment', '--help']\n"
        "from clipseg_pl.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'rich' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "example: python -m clipseg_pl alignment --root" in " ".join(done.stdout.split())
