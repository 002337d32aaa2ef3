"""Masks for one's own photos: the API and the command."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from clipseg_pl.commands import segment
from clipseg_pl.overlay import draw_overlay
from tests.command import arguments, run


@pytest.fixture(scope="module")
def checkpoint(miniature, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segment")
    run(*arguments("fit", miniature, folder, "--trainer.max_steps=1"))
    return folder / "checkpoints" / "best.ckpt"


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (90, 150, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_command_writes_masks_and_an_overlay(checkpoint, photo, tmp_path, capsys):
    out = tmp_path / "masks"
    args = [str(photo), "--prompt", "a red square", "--prompt", "grass"]
    args += ["--checkpoint", str(checkpoint), "--out", str(out)]
    segment.main(args)
    assert "photo_a_red_square.png" in capsys.readouterr().out
    assert {file.name for file in out.iterdir()} == {
        "photo_a_red_square.png",
        "photo_grass.png",
        "photo_overlay.png",
    }
    mask = np.array(Image.open(out / "photo_grass.png"))
    assert mask.shape == (90, 150) and set(np.unique(mask)) <= {0, 255}
    with pytest.raises(SystemExit, match="--overwrite"):
        segment.main(args)
    segment.main([*args, "--overwrite"])


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"photo": "missing.jpg"}, "missing.jpg: no such photo"),
        ({"--checkpoint": "missing.ckpt"}, "no checkpoint missing.ckpt"),
        ({"--checkpoint": "text.ckpt"}, "text.ckpt: not a checkpoint"),
        ({"--checkpoint": "text.pth"}, "text.pth: not a file of weights"),
        ({"--prompt": " "}, "at least one prompt"),
    ],
)
def test_mistakes_are_one_line(checkpoint, photo, tmp_path, monkeypatch, change, answer):
    monkeypatch.chdir(tmp_path)
    for name in ("text.ckpt", "text.pth"):
        (tmp_path / name).write_text("not weights")
    options = {"--checkpoint": str(checkpoint), "--prompt": "a dog", "--out": "masks"} | change
    first = options.pop("photo", str(photo))
    args = [first, *(part for pair in options.items() for part in pair)]
    with pytest.raises(SystemExit) as stopped:
        segment.main(args)
    assert answer in str(stopped.value) and "\n" not in str(stopped.value)
    assert not (tmp_path / "masks").exists()


def test_help_of_the_whole_needs_no_heavy_import():
    code = (
        "import sys; sys.argv[1:] = {args}\n"
        "from clipseg_pl.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    )
    for args in (["--help"], ["segment", "--help"]):
        command = [sys.executable, "-c", code.format(args=args)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "usage: python -m clipseg_pl" in done.stdout


def test_the_overlay_tints_the_mask_and_nothing_else():
    photo = np.full((40, 60, 3), 100, np.uint8)
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 10:20, 10:20] = True
    drawn = np.array(draw_overlay(photo, mask, ["a square"]))[:40]
    assert (drawn[~mask[0]] == 100).all()
    assert (drawn[mask[0]] != 100).any(-1).all()
