"""Building and caching of the PhraseCut index."""

import json
import os

import numpy as np
import pytest

from datamodules.datasets import phrasecut_build
from datamodules.datasets.phrasecut import PhraseCut
from tests.datasets.written import task, write_phrasecut

TASKS = [task(0, 1, "one"), task(1, 2, "two"), task(2, 3, "three")]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path / "cache"))
    write_phrasecut(tmp_path, TASKS)
    return tmp_path


def built(root):
    """Return the names of all files in the cache, except lock files."""
    folder = root / "cache" / "phrasecut"
    found = folder.iterdir() if folder.exists() else ()
    return sorted(path.name for path in found if path.suffix != ".lock")


def phrases(root):
    return list(PhraseCut(root, "train").phrases)


def test_index_is_built_once(root, monkeypatch):
    assert phrases(root) == ["one", "two", "three"]
    monkeypatch.setattr(phrasecut_build, "_write_index", lambda *_: pytest.fail("built again"))
    assert phrases(root) == ["one", "two", "three"]
    assert len(built(root)) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
@pytest.mark.parametrize("saved", [0, 5])
def test_interrupted_build_leaves_no_files(root, monkeypatch, error, saved):
    calls, save = [], np.save

    def failing(file, values):
        calls.append(file)
        if len(calls) > saved:
            raise error
        save(file, values)

    with monkeypatch.context() as patch:
        patch.setattr(phrasecut_build.np, "save", failing)
        with pytest.raises(type(error) if isinstance(error, OSError) else error):
            phrases(root)
    assert len(calls) == saved + 1 and built(root) == []
    assert phrases(root) == ["one", "two", "three"]


def test_unwritable_cache_error_names_the_remedy(root, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(root / "file" / "cache"))
    (root / "file").touch()
    with pytest.raises(
        OSError, match=r"cannot write to .*cache/phrasecut .* set CLIPSEG_CACHE to a wri"
    ):
        phrases(root)


def test_full_disk_error_names_the_remedy(root, monkeypatch):
    def full(*_):
        raise OSError("120 requested and 0 written")  # numpy's message

    monkeypatch.setattr(phrasecut_build.np, "save", full)
    with pytest.raises(OSError, match=r"to .*cache/phrasecut \(120 .*: free disk space"):
        phrases(root)


def test_changed_annotations_rebuild_the_index(root):
    assert phrases(root) == ["one", "two", "three"]
    file = root / "VGPhraseCut_v0" / "refer_train.json"
    text = file.read_text()
    file.write_text(text.replace('"one"', '"six"'))  # same file size
    assert phrases(root) == ["six", "two", "three"]
    file.write_text(json.dumps(TASKS[:2]))
    assert phrases(root) == ["one", "two"]


def test_added_photos_rebuild_the_index(root, monkeypatch):
    monkeypatch.setattr(phrasecut_build, "MISSING_SHARE", 0.5)
    photo = root / "VGPhraseCut_v0" / "images" / "3.jpg"
    photo.rename(root / "3.jpg")
    assert phrases(root) == ["one", "two"]
    (root / "3.jpg").rename(photo)
    assert phrases(root) == ["one", "two", "three"]


def test_splits_and_datasets_do_not_share_an_index(root, tmp_path_factory):
    write_phrasecut(root, TASKS[1:], split="val")
    other = tmp_path_factory.mktemp("other")
    write_phrasecut(other, TASKS[2:])
    assert len(PhraseCut(root, "train")) == 3
    assert len(PhraseCut(root, "val")) == 2
    assert len(PhraseCut(other, "train")) == 1


def test_dataset_folder_is_never_written_to(root):
    folder = root / "VGPhraseCut_v0"

    def state():
        return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}

    before = state()
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        source = PhraseCut(root, "train")
        assert [source.image(i).shape for i in range(3)] == [(24, 32, 3)] * 3
        assert state() == before
    finally:
        for path in before:
            path.chmod(0o755)


def test_default_cache_folder_is_below_home_or_xdg_cache_home(root, monkeypatch, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    monkeypatch.delenv("CLIPSEG_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    PhraseCut(root, "train")
    assert os.listdir(home / ".cache" / "clipseg_pl") == ["phrasecut"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    PhraseCut(root, "train")
    assert os.listdir(home / "xdg" / "clipseg_pl") == ["phrasecut"]
