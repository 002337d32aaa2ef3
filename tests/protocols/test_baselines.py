"""The baselines of the paper on the command line.

Checkpoints of ViTSeg contain its random head, unlike the authors'. See docs/deviations.md (vitseg).
"""

import numpy as np
import pytest
import torch

from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.models.vit_backbone import ViTBackbone
from clipseg_pl.training.module import CLIPSegModule
from tests.command import EXPERIMENTS, arguments, results, run

VITSEG = EXPERIMENTS / "models" / "vitseg.yaml"
CLIP_DECONV = EXPERIMENTS / "models" / "clip_deconv.yaml"
HEAD = {"model.backbone.image_head.weight", "model.backbone.image_head.bias"}


@pytest.fixture(scope="module")
def vitseg(miniature, tmp_path_factory):
    """Return the last checkpoint of a run with two steps."""
    folder = tmp_path_factory.mktemp("runs") / "vitseg"
    run(*arguments("fit", miniature, folder, "--trainer.max_steps=2", configs=(VITSEG,)))
    return folder / "checkpoints" / "last.ckpt"


def load(file) -> CLIPSegModule:
    return CLIPSegModule.load_from_checkpoint(file, weights_only=True)


def test_checkpoint_contains_only_the_decoder_and_the_head(vitseg):
    content = torch.load(vitseg, weights_only=True)
    others = {key for key in content["state_dict"] if not key.startswith("model.decoder.")}
    assert others == HEAD
    assert content["hyper_parameters"]["backbone"]["init_args"]["name"] == "tiny"


def test_head_is_restored_with_another_seed(vitseg):
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    first = load(vitseg).model.backbone.embed_image(images)
    torch.manual_seed(7)
    fresh = ViTBackbone("tiny", pretrained=False)
    assert not torch.allclose(fresh.embed_image(images), first)
    torch.manual_seed(7)
    second = load(vitseg)
    assert torch.equal(second.model.backbone.embed_image(images), first)
    segmenter = Segmenter.from_pretrained(vitseg)
    assert torch.equal(segmenter.model.backbone.cpu().embed_image(images), first)


def test_checkpoint_without_head_raises(vitseg, tmp_path):
    content = torch.load(vitseg, weights_only=True)
    del content["state_dict"]["model.backbone.image_head.bias"]
    torch.save(content, tmp_path / "lost.ckpt")
    with pytest.raises(RuntimeError, match=r"image_head.bias"):
        load(tmp_path / "lost.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--ckpt_path", "--model.init_decoder"])
def test_continued_run_with_another_seed_keeps_the_head(option, vitseg, miniature, tmp_path):
    more = (f"{option}={vitseg}", "--seed_everything=7", "--trainer.max_steps=3")
    run(*arguments("fit", miniature, tmp_path, *more, configs=(VITSEG,)))
    before, after = (
        torch.load(file, weights_only=True)["state_dict"]
        for file in (vitseg, tmp_path / "checkpoints" / "last.ckpt")
    )
    assert all(torch.equal(before[key], after[key]) == (key in HEAD) for key in before)


@pytest.mark.parametrize("overlay", [CLIP_DECONV, VITSEG], ids=lambda file: file.stem)
def test_baselines_train_validate_and_segment_with_toy_encoders(overlay, miniature, tmp_path):
    """Train two steps, validate with both prompt types, and segment a photo."""
    toy = ("--model.backbone.init_args.name=toy2", "--model.backbone.init_args.pretrained=true")
    more = (*toy, "--trainer.max_steps=2")
    run(*arguments("fit", miniature, tmp_path, *more, configs=(overlay,)))
    found = results(tmp_path)["metrics"]
    assert 0 <= found["val/text/ap"] <= 1 and 0 <= found["val/visual/ap"] <= 1
    segmenter = Segmenter.from_pretrained(tmp_path / "checkpoints" / "last.ckpt")
    image = np.random.default_rng(0).integers(0, 255, (50, 90, 3), np.uint8)
    masks = segmenter(image, ["dog", "sky"])
    assert masks.masks.shape == (2, 50, 90)
    assert not np.allclose(*masks.probability)
