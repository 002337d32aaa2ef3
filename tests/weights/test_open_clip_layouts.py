"""Comparison with open_clip for narrow, random models of every layout of its plain ViTs."""

import json
from functools import partial

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder, default_layers
from clipseg_pl.weights.clip import find_config, plain_names
from tests.command import arguments, run

HEADS = 2
TEXTS = ["a dog", "a photo of a red chair by the sea.", ""]


def narrow(name: str) -> dict:
    """Return a configuration reduced to two heads of an eighth of the width, and 3 x 3 patches.

    Depth, patch size, activation, MLP ratio and layer scale do not change.
    """
    config = find_config(name)
    vision, head = config["vision_cfg"], config["vision_cfg"].get("head_width", 64) // 8
    sizes = {"width": HEADS * head, "head_width": head, "image_size": 3 * vision["patch_size"]}
    text = {**config["text_cfg"], "width": 16, "heads": HEADS}
    return {**config, "embed_dim": 24, "vision_cfg": {**vision, **sizes}, "text_cfg": text}


# one name for each layout; names that only differ in size have the same layout
LAYOUTS = {json.dumps(narrow(name), sort_keys=True): name for name in plain_names()[::-1]}.values()
QUICK = ("ViT-B-16", "ViT-L-14-336-quickgelu")
each_layout = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in LAYOUTS],
    scope="module",
)


@pytest.fixture(scope="module")
def both(name, tmp_path_factory):
    """Our CLIP and open_clip's, from the same folder in the format of Hugging Face."""
    folder = tmp_path_factory.mktemp("hub")
    config = narrow(name)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.manual_seed(0)
    state = open_clip.CLIP(**config).state_dict()
    for value in state.values():
        if value.ndim == 1:  # biases and layer scales, which are initialised near zero
            value.add_(0.2 * torch.randn_like(value))
    save_file(state, folder / "open_clip_model.safetensors")
    for suffix in (".json", ".safetensors"):
        stem = "open_clip_config" if suffix == ".json" else "open_clip_model"
        (folder / f"narrow{suffix}").symlink_to(folder / f"{stem}{suffix}")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("CLIPSEG_WEIGHTS", str(folder))
        yield CLIPBackbone("narrow"), open_clip.create_model(f"local-dir:{folder}").eval()


def photos(count: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


def assert_equal_to_rounding(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape and theirs.std() > 0.01
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


@each_layout
@torch.no_grad()
def test_embeddings_and_activations_equal_open_clip(both):
    ours, theirs = both
    images = photos(2, *2 * [theirs.visual.image_size[0]])
    tapped = []
    for block in theirs.visual.transformer.resblocks:
        block.register_forward_hook(lambda *args: tapped.append(args[-1]))
    assert_equal_to_rounding(ours.embed_image(images), theirs.encode_image(ours.normalise(images)))
    layers = range(ours.shape.depth)
    assert len(tapped) == len(layers)
    for mine, other in zip(ours.activations(images, layers), tapped, strict=True):
        assert_equal_to_rounding(mine, other)
    tokens = open_clip.tokenizer.SimpleTokenizer()(TEXTS)
    assert_equal_to_rounding(ours.embed_text(TEXTS), theirs.encode_text(tokens))


@each_layout
@pytest.mark.parametrize("head", ["simple", "refined"])
def test_decoder_learns_from_rectangular_images(both, head):
    backbone, _ = both
    before = [value.clone() for value in backbone.state_dict().values()]
    torch.manual_seed(0)
    build = partial(FiLMDecoder, dim=8, heads=2, feedforward=16, dropout=0.0, head=head)
    model = CLIPSeg(backbone, build).train()
    assert sorted(model.decoder.layers) == list(default_layers(backbone.shape))
    patch = backbone.shape.patch_size
    images, target = photos(1, 2 * patch, 4 * patch), torch.zeros(2, 1, 2 * patch, 4 * patch)
    target[0, :, :patch] = 1
    optimizer, losses = torch.optim.AdamW(model.decoder.parameters(), lr=0.01), []
    for _ in range(8):
        logits = model(images, backbone.embed_text(["a dog", "grass"]), torch.tensor([0, 0]))
        assert logits.shape == target.shape
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimizer.zero_grad()
        loss.backward()
        assert all(
            p.grad is not None and p.grad.isfinite().all()
            for p in optimizer.param_groups[0]["params"]
        )
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(
        torch.equal(*pair) for pair in zip(before, backbone.state_dict().values(), strict=True)
    )


def test_fit_scales_the_layers_and_masks_have_the_size_of_the_photo(
    miniature, tmp_path, monkeypatch
):
    """Trains a narrow ViT-L/14 for three steps and segments a rectangular photo."""
    (tmp_path / "large.json").write_text(json.dumps(narrow("ViT-L-14")))
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    own = ("--model.backbone.init_args.name=large", "--data.init_args.image_size=56")
    run(*arguments("fit", miniature, tmp_path / "run", *own))
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["layers"] == [7, 15, 19]
    segmenter = Segmenter.from_pretrained(checkpoint)
    photo = np.random.default_rng(0).integers(0, 256, (45, 101, 3), np.uint8)
    assert segmenter(photo, ["a dog", "grass"]).probability.shape == (2, 45, 101)
