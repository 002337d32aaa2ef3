"""Masks for one's own photos: the API and the command."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_pl.commands import segment
from clipseg_pl.images import UnreadableImageError
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.overlay import draw_overlay
from clipseg_pl.segmenter import Segmenter
from tests.command import arguments, run


@pytest.fixture(scope="module")
def checkpoint(miniature, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segment")
    run(*arguments("fit", miniature, folder, "--trainer.max_steps=1"))
    return folder / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def segmenter(checkpoint):
    return Segmenter.from_checkpoint(checkpoint)


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (90, 150, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_masks_have_the_size_of_the_photo(segmenter, photo):
    result = segmenter(photo, ["red square", "a disc", "grass"])
    assert result.probability.shape == result.masks.shape == (3, 90, 150)
    assert result.probability.dtype == np.float32
    assert ((result.probability > result.threshold) == result.masks).all()


def test_a_photo_is_encoded_once_whatever_the_number_of_prompts(segmenter, photo):
    calls = []
    hook = segmenter.model.backbone.clip.visual.conv1.register_forward_hook(
        lambda *_: calls.append(1)
    )
    segmenter(photo, [f"thing {i}" for i in range(10)])
    hook.remove()
    assert len(calls) == 1


def test_prompts_do_not_influence_each_other(segmenter, photo):
    together = segmenter(photo, ["red", "green"]).probability
    alone = segmenter(photo, ["green"]).probability
    assert np.allclose(together[1], alone[0], atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-5)


def test_settings_come_from_the_checkpoint(segmenter, checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    assert segmenter.threshold == content["threshold"]
    assert segmenter.image_size == 64


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3), (64, 64), (333, 77)])
def test_any_shape_of_photo_works(segmenter, size):
    result = segmenter(np.zeros((*size, 3), np.uint8), ["a thing"])
    assert result.masks.shape == (1, *size)


def test_a_turned_photo_gives_a_mask_as_viewers_show_it(segmenter, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (120, 60)).save(tmp_path / "turned.jpg", exif=exif)
    assert segmenter(tmp_path / "turned.jpg", ["sky"]).masks.shape == (1, 120, 60)


@pytest.mark.parametrize("prompts", [[], [""], ["a dog", "  "]])
def test_prompts_must_say_something(segmenter, photo, prompts):
    with pytest.raises(ValueError, match="at least one prompt"):
        segmenter(photo, prompts)


def test_files_that_are_no_photos_are_named(segmenter, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    with pytest.raises(UnreadableImageError, match=r"broken.jpg"):
        segmenter(tmp_path / "broken.jpg", ["a dog"])


def test_what_is_no_list_of_prompts_or_no_photo_is_refused(segmenter):
    photo = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\['a dog'\]"):
        segmenter(photo, "a dog")
    for wrong in (photo / 255, photo[..., 0], photo.transpose(2, 0, 1)):
        with pytest.raises(ValueError, match="uint8"):
            segmenter(wrong, ["a dog"])


def test_a_checkpoint_without_a_backbone_is_refused(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"] = {"min_lr": 1e-4}
    torch.save(content, tmp_path / "python.ckpt")
    with pytest.raises(ValueError, match=r"python.ckpt: does not name its backbone"):
        Segmenter.from_checkpoint(tmp_path / "python.ckpt")


def test_published_weights_run_on_a_real_photo(real_data):
    """The authors' rd16 decoder; random CLIP, since theirs cannot be had everywhere."""
    backbone = CLIPBackbone(pretrained=False)
    segmenter = Segmenter.from_checkpoint(real_data / "weights" / "rd16-uni.pth", backbone)
    photo = real_data / "phrasecut_coco" / "VGPhraseCut_v0" / "images" / "1000.jpg"
    result = segmenter(photo, ["a person", "grass"])
    assert result.probability.shape[1:] == np.array(Image.open(photo)).shape[:2]
    assert np.isfinite(result.probability).all()
    assert not np.allclose(result.probability[0], result.probability[1])


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
