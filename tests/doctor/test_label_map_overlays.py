"""`doctor` checks the label maps of a config overlay."""

import json
import shutil

import pytest
from PIL import Image

from clipseg_pl.cli.commands import doctor
from tests.command import EXPERIMENTS

ADE = EXPERIMENTS / "benchmarks" / "ade20k_150.yaml"


@pytest.fixture
def root(miniature, tmp_path):
    shutil.copytree(miniature / "ADEChallengeData2016", tmp_path / "ADEChallengeData2016")
    return tmp_path


def check(root, capsys, file=ADE):
    status = 0
    try:
        doctor.main([str(file), "--root", str(root)])
    except SystemExit as stopped:
        status = stopped.code
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    return {line[1]: (line[0], line[2]) for line in lines[1:] if len(line) == 3}, status


def test_toy_label_maps_are_ok(root, capsys):
    found, status = check(root, capsys)
    assert status == 0 and {state for state, _ in found.values()} == {"ok"}
    message = found["validation"][1]
    assert message.startswith("40 photos (toy world); 17 of 150 classes are in the label maps; in")
    assert found["training"][1].startswith("40 photos; ")


def test_published_number_is_compared_and_training_data_are_optional(root, capsys):
    (root / "ADEChallengeData2016" / "toy_world.json").unlink()
    shutil.rmtree(root / "ADEChallengeData2016" / "annotations" / "training")
    found, status = check(root, capsys)
    assert status == 0
    state, message = found["validation"]
    assert state == "note" and message.startswith("40 photos (published: 2,000 photos); ")
    state, message = found["training"]
    assert state == "note" and message.startswith("not found; only training needs it (the training")


def test_training_photos_of_pascal_context_are_optional(miniature, tmp_path, capsys):
    folder = tmp_path / "VOCdevkit"
    shutil.copytree(miniature / "VOCdevkit", folder)
    file = folder / "VOC2010" / "trainval_merged.json"
    content = json.loads(file.read_text())
    content["images"] = [image for image in content["images"] if image["phase"] == "val"]
    kept = {image["image_id"] for image in content["images"]}
    content["annos_segmentation"] = [
        one for one in content["annos_segmentation"] if one["image_id"] in kept
    ]
    file.write_text(json.dumps(content))
    found, status = check(tmp_path, capsys, ADE.with_name("pascal_context_59.yaml"))
    assert status == 0 and found["val"][0] == "ok" and found["train"][0] == "note"
    assert "no photo of the split 'train'; splits: val" in found["train"][1]


def test_unusable_label_maps_are_wrong_and_missing_ones_are_missing(root, capsys, tmp_path):
    file = next((root / "ADEChallengeData2016/annotations/validation").iterdir())
    Image.open(file).convert("RGB").save(file)
    found, status = check(root, capsys)
    assert found["validation"][0] == "wrong" and "not colours" in found["validation"][1]
    assert "cannot be used: " in status
    found, status = check(tmp_path / "nowhere", capsys)
    assert found["validation"][0] == "missing" and "cannot be used: " in status
