"""The whole toy world under one root, by hand and by itself."""

import json

import pytest

from clipseg_pl.commands import toy
from datamodules.phrasecut import PhraseCutDataModule
from datamodules.toy import world
from datamodules.toy.writers.phrasecut import draw_phrasecut


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy") / "data"
    toy.main(["--root", str(root), "--scenes", "3", "--seed", "5"])
    return root


def test_the_verb_writes_all_datasets_and_says_what_next(root, capsys):
    toy.main(["--root", str(root), "--scenes", "3", "--seed", "5"])  # again: nothing is drawn
    told = capsys.readouterr().out
    for name in ("VGPhraseCut_v0", "VOC2012", "COCO2014", "LVIS"):
        assert (root / name / "toy_world.json").is_file() and name in told
    assert f"--data.init_args.root {root}" in told


def test_a_datamodule_reads_it(root):
    data = PhraseCutDataModule(str(root), image_size=64, batch_size=2, num_workers=0)
    data.setup("fit")
    assert data.sizes()["train"] >= 3 and data.sizes()["val"] >= 20
    tasks = json.loads((root / "VGPhraseCut_v0" / "refer_train.json").read_text())
    assert data.sizes()["train"] == len(tasks) and not any(data.skipped.values())


def test_another_world_is_refused_in_one_line(root):
    with pytest.raises(SystemExit) as stopped:
        toy.main(["--root", str(root), "--scenes", "4", "--seed", "5"])
    assert "Give another root" in str(stopped.value) and "\n" not in str(stopped.value)


@pytest.mark.parametrize("option", ["--scenes=0", "--seed=-1"])
def test_numbers_that_mean_nothing_are_refused(option, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        toy.main(["--root", str(tmp_path / "data"), option])
    assert "clipseg_pl: " in str(stopped.value) and not (tmp_path / "data").exists()


def test_help_teaches(capsys):
    with pytest.raises(SystemExit, match="0"):
        toy.main(["--help"])
    told = capsys.readouterr().out
    assert "example: python -m clipseg_pl toy" in told and "PhraseCut" in told


def test_root_toy_is_written_on_first_use(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    monkeypatch.setattr("datamodules.base.write_toy_world", lambda root: asked.append(root))
    monkeypatch.setattr(PhraseCutDataModule, "setup", lambda *_: None)
    PhraseCutDataModule("toy").prepare_data()
    assert asked == [world.toy_root()] and tmp_path in asked[0].parents
    PhraseCutDataModule(str(tmp_path)).prepare_data()
    assert len(asked) == 1


def test_other_sizes_are_in_proportion():
    assert world.scaled(2000) == world.SCENES
    twice = world.scaled(4000)
    assert twice["VOC2012"] == {"train": 600, "val": 300} and twice["PhraseCut"]["test"] == 160
    assert world.scaled(1)["COCO2014"] == {"train": 40, "val": 40}


def test_held_out_scenes_show_three_things_or_more_on_average():
    counts = world.SCENES["PhraseCut"]
    for split in ("val", "test"):
        scenes = [draw_phrasecut(0, split, index, (128, 128))[0] for index in range(counts[split])]
        assert sum(len(scene.things) for scene in scenes) >= 3 * len(scenes)
