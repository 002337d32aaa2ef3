"""Checkpoints of reduced size."""

import sys

import numpy as np
import pytest
import torch

from clipseg_pl.convert import slim_checkpoint
from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.training.module import CLIPSegModule
from tests.command import arguments, results, run


def test_slim_checkpoint_is_small_and_gives_the_same_masks(trained, tmp_path, monkeypatch):
    full, slim = trained / "checkpoints" / "last.ckpt", tmp_path / "slim.ckpt"
    monkeypatch.setattr(sys, "argv", ["slim_checkpoint", str(full), str(slim)])
    slim_checkpoint.main()
    assert slim.stat().st_size < 0.2 * full.stat().st_size
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    before, after = (Segmenter.from_pretrained(file, precision="float32") for file in (full, slim))
    assert (before.threshold, before.image_size) == (after.threshold, after.image_size)
    one, other = (model(image, ["dog", "sky"]).probability for model in (before, after))
    np.testing.assert_allclose(one, other, rtol=0, atol=5e-4)


def test_slim_checkpoint_can_be_validated(trained, miniature, tmp_path):
    slim = tmp_path / "slim.ckpt"
    slim_checkpoint.slim(trained / "checkpoints" / "last.ckpt", slim)
    run(*arguments("validate", miniature, tmp_path / "run", f"--ckpt_path={slim}"))
    assert results(tmp_path / "run")["step"] == 3


def test_slim_checkpoint_stores_excluded_classes(trained, tmp_path):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({**content, "excluded": ["dog"]}, tmp_path / "full.ckpt")
    slim_checkpoint.slim(tmp_path / "full.ckpt", tmp_path / "slim.ckpt")
    assert torch.load(tmp_path / "slim.ckpt", weights_only=True)["excluded"] == ["dog"]


def test_slim_checkpoint_stores_thresholds_and_absent_cut(trained, tmp_path):
    full = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    full["class_thresholds"] = {"dog": 0.25}
    torch.save(full, tmp_path / "full.ckpt")
    slim_checkpoint.slim(tmp_path / "full.ckpt", tmp_path / "slim.ckpt")
    small = torch.load(tmp_path / "slim.ckpt", weights_only=True)
    for key in ("threshold", "absent_cut", "class_thresholds"):
        assert small[key] == full[key] is not None


def test_older_checkpoint_without_absent_cut_is_supported(trained, tmp_path):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    del content["absent_cut"]
    torch.save(content, tmp_path / "old.ckpt")
    slim_checkpoint.slim(tmp_path / "old.ckpt", tmp_path / "slim.ckpt")
    module = CLIPSegModule.load_from_checkpoint(tmp_path / "slim.ckpt", weights_only=True)
    assert module.absent_cut is None and module.threshold == content["threshold"]


def test_other_files_are_rejected(tmp_path):
    (tmp_path / "text.ckpt").write_text("nothing")
    with pytest.raises(ValueError, match=r"text.ckpt: not a checkpoint"):
        slim_checkpoint.slim(tmp_path / "text.ckpt", tmp_path / "slim.ckpt")
