"""Files with unexpected weights are rejected."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clipseg_pl.convert.loading import load_model
from clipseg_pl.models.vit_backbone import build_vit
from clipseg_pl.weights.clip import build_clip
from clipseg_pl.weights.places import TOY_CHECKPOINT

TOY = TOY_CHECKPOINT.parent
EXTRA = {"adapter.weight": torch.zeros(2)}


def read_clip(folder: Path) -> None:
    shutil.copy(TOY / "toy2.json", folder / "own.json")
    save_file(load_file(TOY / "toy2.safetensors") | EXTRA, folder / "own.safetensors")
    build_clip("own", tag="", pretrained=True)


def read_vit(folder: Path) -> None:
    shutil.copy(TOY / "toy2_vit.json", folder / "own_vit.json")
    save_file(load_file(TOY / "toy2_vit.safetensors") | EXTRA, folder / "own_vit.safetensors")
    build_vit("own", pretrained=True)


def read_checkpoint(folder: Path) -> None:
    content = torch.load(TOY_CHECKPOINT, weights_only=True)
    torch.save(content | {"state_dict": content["state_dict"] | EXTRA}, folder / "own.ckpt")
    load_model(folder / "own.ckpt")


@pytest.mark.parametrize("read", [read_clip, read_vit, read_checkpoint])
def test_unexpected_weights_are_rejected(tmp_path, monkeypatch, read):
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match=r"adapter\.weight") as error:
        read(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
