"""The wheel works on its own, outside the repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
MAX_WEIGHTS = 12 << 20  # bytes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("clipseg_pl", "datamodules"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir"]
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", str(source), *options, str(folder)], check=True)
    (file,) = folder.glob("*.whl")
    return file


def test_wheel_has_the_toy_weights_and_is_small(wheel):
    sizes = {
        info.filename: info.file_size
        for info in zipfile.ZipFile(wheel).infolist()
        if "weights/toy/" in info.filename
    }
    assert {Path(name).name for name in sizes} >= {
        "toy2.safetensors",
        "toy2.json",
        "toy2_vocabulary.json",
        "toy2_log.jsonl",
        "toy_pc_plus.ckpt",
    }
    assert sum(sizes.values()) < MAX_WEIGHTS


def test_wheel_has_the_class_words_with_wordnets_licence(wheel):
    text = zipfile.ZipFile(wheel).read("datamodules/datasets/class_words.json").decode()
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in text


def test_installed_wheel_draws_a_toy_world_and_segments_a_scene(wheel, tmp_path):
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    zipfile.ZipFile(wheel).extractall(site)  # equivalent to installing a pure wheel
    environment = {**os.environ, "PYTHONPATH": str(site), "CLIPSEG_CACHE": str(tmp_path / "cache")}

    def run(*args: str) -> str:
        done = subprocess.run(
            [sys.executable, *args], cwd=work, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(site) in run("-c", "import clipseg_pl; print(clipseg_pl.__file__)")
    run("-m", "clipseg_pl", "toy", "--root", "world", "--scenes", "4")
    photo = sorted((work / "world" / "VGPhraseCut_v0" / "images").iterdir())[0]
    output = run("-m", "clipseg_pl", "segment", str(photo), "--prompt", "sky", "--prompt", "a dog")
    assert "sky" in output and (work / "masks" / f"{photo.stem}_overlay.png").is_file()
