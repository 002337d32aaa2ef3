"""All toy datasets at once, by the function and by the verb."""

import json
import subprocess
import sys

import pytest

from clipseg_pl.cli.commands import toy
from datamodules.phrasecut import PhraseCutDataModule
from datamodules.toy.world import SCENES, scaled, toy_root, write_toy_world
from datamodules.toy.writers.folder import WORLD, build_folders
from datamodules.toy.writers.lvis import lvis_request
from datamodules.toy.writers.phrasecut import draw_phrasecut

SMALL = {"PhraseCut": 2, "VOC2012": 1, "COCO2014": 1, "LVIS": 1, "own": 1}
PARTS = {"VGPhraseCut_v0", "VOC2012", "lists", "COCO2014", "splits", "LVIS", "own"}


@pytest.fixture
def small(monkeypatch):
    """Worlds of a few pictures a split."""
    monkeypatch.setattr("datamodules.toy.world._LEAST", SMALL)


def test_counts_are_in_proportion_and_never_tiny():
    assert scaled(2000) == SCENES
    assert scaled(4000)["COCO2014"] == {"train": 600, "val": 400}
    assert scaled(1) == {
        "PhraseCut": {"train": 1, "val": 20, "test": 20, "miniv": 20},
        "VOC2012": {"train": 40, "val": 40},
        "COCO2014": {"train": 40, "val": 40},
        "LVIS": {"train": 40, "val": 40},
        "own": {"all": 40},
    }
    with pytest.raises(ValueError, match="at least 1 scene, not 0"):
        scaled(0)


def test_the_cache_carries_the_version():
    assert toy_root().name == f"toy_world_{WORLD}"


def test_all_datasets_are_written_once(tmp_path, small):
    written = write_toy_world(tmp_path, scenes=3, seed=5, progress=False)
    assert {path.name for path in tmp_path.glob("[!.]*")} == PARTS
    assert {path.name: count for path, count in written.items()} == {
        "VGPhraseCut_v0": 9,
        "VOC2012": 2,
        "COCO2014": 2,
        "LVIS": 2,
        "own": 1,
    }
    for folder, count in written.items():
        assert len(list(folder.rglob("*.jpg"))) == count
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write_toy_world(tmp_path, scenes=3, seed=5, progress=False) == written
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_verb_writes_and_says_what_comes_next(tmp_path, small, capsys):
    root = tmp_path / "my data"
    toy.main(["--root", str(root), "--scenes", "2", "--seed", "4"])
    out = capsys.readouterr().out
    assert {path.name for path in root.glob("[!.]*")} == PARTS
    for name in ("VGPhraseCut_v0", "VOC2012", "COCO2014", "LVIS", "own"):
        assert f"{root / name}: " in out
    assert f"--data.init_args.root '{root}'" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (["--scenes", "0"], "at least 1 scene, not 0"),
        (["--scenes", "-3"], "at least 1 scene, not -3"),
        (["--seed", "-1"], "0 or more, not -1"),
    ],
)
def test_bad_numbers_are_one_line(tmp_path, change, answer):
    with pytest.raises(SystemExit) as stopped:
        toy.main(["--root", str(tmp_path / "new"), *change])
    assert answer in str(stopped.value) and "\n" not in str(stopped.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", sorted(PARTS))
def test_the_verb_refuses_foreign_data_before_it_draws(tmp_path, small, name):
    (tmp_path / name).mkdir()
    with pytest.raises(SystemExit) as stopped:
        toy.main(["--root", str(tmp_path), "--scenes", "2"])
    assert f"{tmp_path / name} holds data that the toy world did not write" in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert [path.name for path in tmp_path.rglob("*")] == [name]


def test_another_world_in_one_folder_is_refused_before_it_draws(tmp_path, small):
    build_folders(tmp_path, lvis_request({"train": 1}, 0), progress=False)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match="LVIS holds a toy world of"):
        write_toy_world(tmp_path, scenes=2, progress=False)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="clipseg_pl: "):
        toy.main(["--root", str(tmp_path / "file")])


@pytest.mark.slow
def test_help_is_there_and_light():
    code = (
        "import sys; sys.argv[1:] = ['toy', '--help']\n"
        "from clipseg_pl.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "example: python -m clipseg_pl toy --root" in " ".join(done.stdout.split())


def test_a_datamodule_reads_it(tmp_path, small):
    write_toy_world(tmp_path, scenes=3, progress=False)
    data = PhraseCutDataModule(str(tmp_path), image_size=64, batch_size=2, num_workers=0)
    data.setup("fit")
    assert data.sizes()["val"] >= 2
    tasks = json.loads((tmp_path / "VGPhraseCut_v0" / "refer_train.json").read_text())
    assert data.sizes()["train"] == len(tasks) and not any(data.skipped.values())


@pytest.mark.parametrize("first_use", ["prepare_data", "setup"])
def test_root_toy_is_written_on_first_use(monkeypatch, tmp_path, first_use):
    asked = []
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    monkeypatch.setattr("datamodules.base.write_toy_world", lambda root: asked.append(root))
    monkeypatch.setattr(PhraseCutDataModule, "build", lambda *_: ["a sample"])
    data = PhraseCutDataModule("toy")
    data.prepare_data() if first_use == "prepare_data" else data.setup("fit")
    assert asked == [toy_root()] and tmp_path in asked[0].parents
    PhraseCutDataModule(str(tmp_path)).prepare_data()
    assert len(asked) == 1


def test_held_out_scenes_show_three_things_or_more_on_average():
    counts = SCENES["PhraseCut"]
    for split in ("val", "test"):
        scenes = [draw_phrasecut(0, split, index, (128, 128))[0] for index in range(counts[split])]
        assert sum(len(scene.things) for scene in scenes) >= 3 * len(scenes)
