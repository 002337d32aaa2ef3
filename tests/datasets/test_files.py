"""Concurrent processes that build the same cache entry or folder."""

import os
import signal
import time
from functools import partial
from multiprocessing import get_context

import pytest
from filelock import FileLock, Timeout

from datamodules.datasets import own_masks, phrasecut_build
from datamodules.datasets.files import drafting
from datamodules.datasets.phrasecut import PhraseCut
from datamodules.datasets.table_files import read_table
from datamodules.toy.writers.folder import Request, build_folders
from tests.datasets.own import write_photos
from tests.datasets.written import task, write_phrasecut

FORK = get_context("fork")
TIMEOUT = 60  # seconds


def start(target, *args):
    process = FORK.Process(target=target, args=args)
    process.start()
    return process


def wait_for(file):
    deadline = time.monotonic() + TIMEOUT
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def listed(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def hold(target, marker, *_):
    """Start to build `target`, touch `marker`, and do not finish."""
    with drafting(target) as draft:
        (draft / "part").touch()
        marker.touch()
        time.sleep(TIMEOUT)


def counting(function, file, *args):
    """Log the call to `file`, wait, and call the function."""
    with file.open("a") as stream:
        stream.write("built\n")
    time.sleep(0.2)
    return function(*args)


def build_phrasecut(root):
    return list(PhraseCut(root, "train").phrases)


def build_own(root):
    return read_table(root / "phrases.csv", root, root).sizes.tolist()


def build_toy(root):
    def fill(folder, advance):
        counting(advance, root / "builds")
        (folder / "own" / "drawn").write_text("all")

    request = Request(("lists", "own"), {"scenes": {"all": 1}}, fill)
    return (build_folders(root / "toy", request, progress=False) / "drawn").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("build", [build_phrasecut, build_own, build_toy])
def test_only_one_of_many_processes_builds(tmp_path, monkeypatch, build):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path / "cache"))
    write_phrasecut(tmp_path, [task(0, 1, "one"), task(1, 2, "two")])
    write_photos(tmp_path, [["dog"], ["cat"]])
    for module, name in ((phrasecut_build, "_write_index"), (own_masks, "_check_masks")):
        slow = partial(counting, getattr(module, name), tmp_path / "builds")
        monkeypatch.setattr(module, name, slow)
    with FORK.Pool(6) as pool:
        results = pool.map(build, [tmp_path] * 6, chunksize=1)
    assert results == [build(tmp_path)] * 6 and results[0]
    assert (tmp_path / "builds").read_text() == "built\n"
    names = [path.name for path in tmp_path.rglob(".*")]
    assert all(name.endswith(".lock") for name in names)


@pytest.mark.slow
def test_killed_process_does_not_block_others(tmp_path):
    target = tmp_path / "index"
    killed = start(hold, target, tmp_path / "inside")
    wait_for(tmp_path / "inside")
    with pytest.raises(Timeout):
        FileLock(tmp_path / ".index.lock").acquire(timeout=0)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    with drafting(target) as draft:
        assert not listed(draft) and listed(tmp_path) == [draft.name, "inside"]
    assert listed(tmp_path) == ["inside"]


@pytest.mark.parametrize("error", [OSError("no locks"), NotImplementedError()])
def test_building_works_on_file_systems_without_locks(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(FileLock, "acquire", fail)
    with drafting(tmp_path / "index") as draft:
        (draft / "part").touch()
    assert not listed(tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full"), ValueError])
def test_failed_build_leaves_no_files(tmp_path, error):
    with pytest.raises((KeyboardInterrupt, OSError, ValueError)), drafting(tmp_path / "index"):
        raise error
    assert not listed(tmp_path)
