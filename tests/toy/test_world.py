"""All toy datasets at once, written by `write_toy_world` and by the toy command."""

import json
import shutil

import pytest

from clipseg_pl.cli.commands import toy
from datamodules.phrasecut import PhraseCutDataModule
from datamodules.toy.world import DATASETS, scaled, toy_root, write_toy_world
from datamodules.toy.writers.folder import MANIFEST, WORLD, build_folders
from datamodules.toy.writers.lvis import lvis_request
from datamodules.toy.writers.phrasecut import draw_phrasecut

SMALL = {
    **{"PhraseCut": 2, "VOC2012": 1, "COCO2014": 1, "RefCOCO": 1, "LVIS": 1, "own": 1, "walls": 2},
    "label_maps": 1,
}
REFERRING = {"refcoco", "refcoco+", "refcocog", "grefcoco", "refcoco-m"}
PARTS = {
    *("VGPhraseCut_v0", "VOC2012", "lists", "COCO2014", "splits", "LVIS", "own", "walls"),
    *("ADEChallengeData2016", "coco-stuff", "cityscapes", "VOCdevkit"),
    *REFERRING,
}


@pytest.fixture
def small(monkeypatch):
    """Allow worlds with one or two images per split."""
    small = {name: dataset._replace(minimum=SMALL[name]) for name, dataset in DATASETS.items()}
    monkeypatch.setattr("datamodules.toy.world.DATASETS", small)


def test_scaled_counts_are_in_proportion_with_a_minimum():
    assert scaled(2000) == {name: dataset.scenes for name, dataset in DATASETS.items()}
    assert scaled(4000)["COCO2014"] == {"train": 600, "val": 400}
    assert scaled(1) == {
        "PhraseCut": {"train": 1, "val": 20, "test": 20, "miniv": 20},
        "VOC2012": {"train": 40, "val": 40},
        "COCO2014": {"train": 40, "val": 40},
        "RefCOCO": {"train": 40},
        "LVIS": {"train": 40, "val": 40},
        "own": {"all": 40},
        "walls": {"train": 20, "valid": 20, "test": 20},
        "label_maps": {"train": 40, "val": 40},
    }
    for scenes in (1, 500, 1999, 2000, 4000):  # RefCOCO is about the photos of COCO2014
        assert scaled(scenes)["RefCOCO"]["train"] == scaled(scenes)["COCO2014"]["train"]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        scaled(0)


def test_cache_folder_has_the_version_in_its_name():
    assert toy_root().name == f"toy_world_{WORLD}"


def test_write_toy_world_writes_all_datasets_once(tmp_path, small):
    written = write_toy_world(tmp_path, scenes=3, seed=5, progress=False)
    assert {path.name for path in tmp_path.glob("[!.]*")} == PARTS
    assert {path.name: count for path, count in written.items()} == {
        "VGPhraseCut_v0": 9,
        "VOC2012": 2,
        "COCO2014": 2,
        "refcoco": 1,
        "LVIS": 2,
        "own": 1,
        "walls": 6,
        "ADEChallengeData2016": 2,
    }
    for folder, count in written.items():
        assert len(list(folder.rglob("*.jpg"))) == count or folder.name == "refcoco"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write_toy_world(tmp_path, scenes=3, seed=5, progress=False) == written
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_world_without_newer_datasets_is_completed(tmp_path, small):
    write_toy_world(tmp_path, scenes=2, progress=False)
    for name in REFERRING:
        shutil.rmtree(tmp_path / name)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    write_toy_world(tmp_path, scenes=2, progress=False)
    assert {path.name for path in tmp_path.glob("[!.]*")} == PARTS
    assert all(path.stat().st_mtime_ns == modified for path, modified in before.items())


def test_toy_command_writes_and_prints_the_next_command(tmp_path, small, capsys):
    root = tmp_path / "my data"
    toy.main(["--root", str(root), "--scenes", "2", "--seed", "4"])
    out = capsys.readouterr().out
    assert {path.name for path in root.glob("[!.]*")} == PARTS
    for name in ("VGPhraseCut_v0", "VOC2012", "COCO2014", "LVIS", "own", "walls"):
        assert f"{root / name}: " in out
    assert f"--data.init_args.root '{root}'" in out.splitlines()[-1]


def test_next_command_uses_the_written_folder_even_if_its_name_is_toy(
    tmp_path, small, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    toy.main(["--root", "toy", "--scenes", "2"])
    command = capsys.readouterr().out.splitlines()[-1]
    assert command.endswith(f"--data.init_args.root {tmp_path / 'toy'}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scenes", "0"], "scenes must be at least 1, got 0"),
        (["--scenes", "-3"], "scenes must be at least 1, got -3"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
    ],
)
def test_toy_command_reports_invalid_numbers_in_one_line(tmp_path, options, message):
    with pytest.raises(SystemExit) as stopped:
        toy.main(["--root", str(tmp_path / "new"), *options])
    assert message in str(stopped.value) and "\n" not in str(stopped.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", sorted(PARTS))
def test_toy_command_rejects_foreign_data_before_drawing(tmp_path, small, name):
    (tmp_path / name).mkdir()
    with pytest.raises(SystemExit) as stopped:
        toy.main(["--root", str(tmp_path), "--scenes", "2"])
    assert f"{tmp_path / name} contains data that the toy world did not write" in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert [path.name for path in tmp_path.rglob("*")] == [name]


def test_write_toy_world_rejects_a_different_world_before_drawing(tmp_path, small):
    build_folders(tmp_path, lvis_request({"train": 1}, 0), progress=False)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match="LVIS contains a toy world of"):
        write_toy_world(tmp_path, scenes=2, progress=False)
    assert sorted(tmp_path.rglob("*")) == before


def set_version(folder, version):
    """Change the version of the toy world in the manifest of a folder."""
    manifest = {**json.loads((folder / MANIFEST).read_text()), "world": version}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_toy_command_rejects_another_version_in_a_custom_root(tmp_path, small):
    folder = build_folders(tmp_path, lvis_request({"train": 1}, 0), progress=False)
    set_version(folder, 2)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        toy.main(["--root", str(tmp_path), "--scenes", "2"])
    message = f"{folder} contains version 2 of the toy world, expected version {WORLD}. Choose"
    assert message in str(stopped.value) and "\n" not in str(stopped.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_real_data_and_other_requests_in_the_cache_are_kept(tmp_path, small, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    (toy_root() / "LVIS").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="LVIS contains data that the toy world did not"):
        write_toy_world(toy_root(), scenes=2, progress=False)
    (toy_root() / "LVIS").rmdir()
    build_folders(toy_root(), lvis_request({"train": 1}, 0), progress=False)
    with pytest.raises(FileExistsError, match="LVIS contains a toy world of"):
        write_toy_world(toy_root(), scenes=2, progress=False)


def test_earlier_versions_in_the_cache_are_removed_on_drawing(tmp_path, small, monkeypatch, caplog):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    older, kept = tmp_path / "toy_world_2", tmp_path / "toy_world_1"
    for root in (older, older / "alignment", kept):
        build_folders(root, lvis_request({"train": 1}, 0), progress=False)
    (kept / "notes.txt").touch()  # not written by the toy world
    write_toy_world(tmp_path / "elsewhere", scenes=2, progress=False)
    assert older.exists()
    write_toy_world(toy_root(), scenes=2, progress=False)
    assert caplog.messages == [f"removing {older}, an earlier version of the toy world"]
    assert not older.exists()
    assert {path.name for path in kept.glob("[!.]*")} == {"LVIS", "notes.txt"}
    build_folders(older, lvis_request({"train": 1}, 0), progress=False)
    write_toy_world(toy_root(), scenes=2, progress=False)  # complete: nothing is drawn or removed
    assert older.exists()


def test_toy_command_rejects_a_file_as_root(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="clipseg_pl: "):
        toy.main(["--root", str(tmp_path / "file")])


def test_phrasecut_datamodule_reads_the_toy_world(tmp_path, small):
    write_toy_world(tmp_path, scenes=3, progress=False)
    data = PhraseCutDataModule(str(tmp_path), image_size=64, batch_size=2, num_workers=0)
    data.setup("fit")
    assert data.sizes()["val"] >= 2
    tasks = json.loads((tmp_path / "VGPhraseCut_v0" / "refer_train.json").read_text())
    assert data.sizes()["train"] == len(tasks) and not any(data.skipped.values())


@pytest.mark.parametrize("first_use", ["prepare_data", "setup"])
def test_datamodule_with_root_toy_writes_the_world_on_first_use(monkeypatch, tmp_path, first_use):
    roots = []
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    monkeypatch.setattr("datamodules.base.write_toy_world", lambda root: roots.append(root))
    monkeypatch.setattr(PhraseCutDataModule, "build", lambda *_: ["a sample"])
    data = PhraseCutDataModule("toy")
    data.prepare_data() if first_use == "prepare_data" else data.setup("fit")
    assert roots == [toy_root()] and tmp_path in roots[0].parents
    PhraseCutDataModule(str(tmp_path)).prepare_data()
    assert len(roots) == 1


def test_val_and_test_scenes_have_at_least_three_things_on_average():
    counts = DATASETS["PhraseCut"].scenes
    for split in ("val", "test"):
        scenes = [draw_phrasecut(0, split, index, (128, 128))[0] for index in range(counts[split])]
        assert sum(len(scene.things) for scene in scenes) >= 3 * len(scenes)
