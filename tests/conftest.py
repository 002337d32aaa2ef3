"""Fixtures for all tests."""

import json
import os
import tempfile
from pathlib import Path

import pytest

os.environ.update(NO_ALBUMENTATIONS_UPDATE="1", WANDB_MODE="offline", HF_HUB_OFFLINE="1")
os.environ["OMP_NUM_THREADS"] = "1"  # tests run in parallel processes instead

import torch
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import FiLMDecoder
from datamodules.toy.world import DATASETS
from datamodules.toy.writers.folder import build_folders
from tests.command import arguments, run
from tests.http_server import HTTPServer
from tests.hub import hub, hub_clipseg  # noqa: F401 - fixtures
from tests.miniature import write_miniature

settings.register_profile("no database", database=None)
settings.load_profile("no database")
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")  # default: the repository

REPOSITORY = Path(__file__).parents[1]
TINY_CLIP = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 64,
        "layers": 12,
        "width": 32,
        "head_width": 16,
        "patch_size": 16,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 2,
    },
}
TINY_VIT = {"img_size": 96, "patch_size": 16, "embed_dim": 48, "depth": 12, "num_heads": 4}


@pytest.fixture(autouse=True, scope="session")
def places(tmp_path_factory):
    """Use a cache and a weights folder of this session, with a CLIP and a ViT named "tiny".

    The default checkpoint of `segment` is "toy".
    """
    weights = tmp_path_factory.mktemp("weights", numbered=False)
    (weights / "tiny.json").write_text(json.dumps(TINY_CLIP))
    (weights / "tiny_vit.json").write_text(json.dumps(TINY_VIT))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("CLIPSEG_WEIGHTS", str(weights))
        monkeypatch.setenv("CLIPSEG_CACHE", str(weights.parent / "cache"))
        monkeypatch.setenv("CLIPSEG_CHECKPOINT", "toy")
        yield


@pytest.fixture(autouse=True)
def seed():
    """Seed torch, so that weights do not depend on earlier tests."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def miniature(tmp_path_factory) -> Path:
    """Root folder of a miniature PhraseCut and toy versions of the other datasets.

    PhraseCut has 12 photos with 36 tasks for training and 5 photos each in val and test. The other
    datasets have 40 images per split. There are no walls.
    """
    root = tmp_path_factory.mktemp("miniature")
    write_miniature(root, {"train": 12, "val": 5, "test": 5, "miniv": 2})
    for name, dataset in DATASETS.items():
        if name not in ("PhraseCut", "walls"):
            request = dataset.request(dict.fromkeys(dataset.scenes, 40), 0)
            build_folders(root, request, progress=False)
    return root


@pytest.fixture(scope="session")
def trained(miniature, tmp_path_factory):
    """Folder of a finished run of three steps."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    run(*arguments("fit", miniature, folder, "--trainer.log_every_n_steps=1"))
    return folder


@pytest.fixture(scope="session")
def decoder_file(tmp_path_factory) -> Path:
    """File of a decoder with random weights for the tiny CLIP."""
    file = tmp_path_factory.mktemp("decoder") / "tiny-decoder.pt"
    shape = CLIPBackbone("tiny", pretrained=False).shape
    torch.save(FiLMDecoder(shape).state_dict(), file)
    return file


@pytest.fixture
def server(monkeypatch):
    """HTTP server of this test, on the loopback interface."""
    monkeypatch.setenv("no_proxy", "*")
    server = HTTPServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real photos and weights, from the environment variable CLIPSEG_REAL_DATA."""
    folder = os.environ.get("CLIPSEG_REAL_DATA")
    if not folder:
        pytest.skip("CLIPSEG_REAL_DATA is not set: needs real photos, which are not in git")
    return Path(folder).resolve()
