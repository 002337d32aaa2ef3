"""Several processes that want the same thing built."""

import errno
import os
import platform
import signal
import time
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest

from datamodules.datasets import files, own_masks, phrasecut_build
from datamodules.datasets.files import drafting
from datamodules.datasets.phrase_table import read_table
from datamodules.datasets.phrasecut import PhraseCut
from datamodules.toy.writers.folder import Request, build_folders
from tests.datasets.own import write_photos
from tests.datasets.written import task, write_phrasecut

FORK = get_context("fork")
FOREVER = 60  # seconds


def start(target, *args):
    process = FORK.Process(target=target, args=args)
    process.start()
    return process


def wait_for(file):
    deadline = time.monotonic() + FOREVER
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def hold(target, marker, *_):
    """Enter and stay."""
    with drafting(target) as draft:
        (draft / "half").touch()
        marker.touch()
        time.sleep(FOREVER)


def counting(function, file, *args):
    """Say that something is built, slowly."""
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


@pytest.mark.parametrize("build", [build_phrasecut, build_own, build_toy])
def test_of_many_processes_one_builds(tmp_path, monkeypatch, build):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path / "cache"))
    write_phrasecut(tmp_path, [task(0, 1, "one"), task(1, 2, "two")])
    write_photos(tmp_path, [["dog"], ["cat"]])
    for module, name in ((phrasecut_build, "_write_index"), (own_masks, "_read_masks")):
        slow = partial(counting, getattr(module, name), tmp_path / "builds")
        monkeypatch.setattr(module, name, slow)
    with FORK.Pool(6) as pool:
        got = pool.map(build, [tmp_path] * 6, chunksize=1)
    assert got == [build(tmp_path)] * 6 and got[0]
    assert (tmp_path / "builds").read_text() == "built\n"
    names = [path.name for path in tmp_path.rglob("*")]
    assert not [name for name in names if name.startswith(".")]


def add_one(target, count):
    for _ in range(count):
        with drafting(target):
            number = int(target.read_text())
            time.sleep(0.001)
            target.write_text(str(number + 1))


def test_no_two_are_let_in_at_once(tmp_path):
    """Also while the lock's file comes and goes."""
    target = tmp_path / "number"
    target.write_text("0")
    processes = [start(add_one, target, 50) for _ in range(6)]
    for process in processes:
        process.join(FOREVER)
    assert target.read_text() == "300" and listed(tmp_path) == ["number"]


def test_a_killed_process_stops_nobody_and_what_it_left_is_removed(tmp_path):
    target, others = tmp_path / "index", tmp_path / ".index.another-machine.abc"
    others.mkdir()
    killed = start(hold, target, tmp_path / "inside")
    wait_for(tmp_path / "inside")
    waiting = start(hold, target, tmp_path / "next")
    time.sleep(0.2)
    assert not (tmp_path / "next").exists()
    os.kill(killed.pid, signal.SIGKILL)
    wait_for(tmp_path / "next")
    drafts = [name for name in listed(tmp_path) if name.startswith(f".index.{platform.node()}.")]
    assert len(drafts) == 1  # of the living
    os.kill(waiting.pid, signal.SIGKILL)
    waiting.join()
    with drafting(target) as draft:
        assert draft.name in listed(tmp_path) and not listed(draft)
    assert listed(tmp_path) == [".index.another-machine.abc", "inside", "next"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full"), ValueError])
def test_what_fails_leaves_nothing(tmp_path, error):
    with pytest.raises((KeyboardInterrupt, OSError, ValueError)), drafting(tmp_path / "index"):
        raise error
    assert not listed(tmp_path)


@pytest.mark.parametrize("lacking", [errno.ENOLCK, errno.ENOSYS, None])
def test_a_disk_without_locks_is_built_on_all_the_same(tmp_path, monkeypatch, lacking):
    living = tmp_path / f".index.{platform.node()}.abc"  # another process's, for all we know
    living.mkdir()
    if lacking:

        def refuse(*_):
            raise OSError(lacking, os.strerror(lacking))

        monkeypatch.setattr(files.fcntl, "flock", refuse)
    else:  # as on Windows
        monkeypatch.setattr(files, "fcntl", None)
    with drafting(tmp_path / "index") as draft:
        np.save(draft / "array.npy", np.zeros(3))
        os.replace(draft / "array.npy", tmp_path / "index")
    assert listed(tmp_path) == [living.name, "index"]
