"""Images with the file names that the documentation uses."""

import numpy as np
import pytest
from PIL import Image

from datamodules.toy.scenes.scene import draw_scene


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Working directory with the images named in docstrings and pages."""
    scenes = [draw_scene(np.random.default_rng(seed), 128) for seed in range(2)]
    photo, support = scenes
    mask = support.things[0].mask
    alpha = mask.astype(np.uint8) * 255
    Image.fromarray(photo.image).save(tmp_path / "photo.jpg", quality=95)
    Image.fromarray(support.image).save(tmp_path / "cat.jpg", quality=95)
    Image.fromarray(alpha).save(tmp_path / "cat_mask.png")
    Image.fromarray(np.dstack([support.image, alpha])).save(tmp_path / "cat_cut_out.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path
