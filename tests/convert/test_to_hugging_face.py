"""Folders written for transformers give the same logits there and load with equal weights."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

from clipseg_pl.convert.clip_vocabulary import vocabulary
from clipseg_pl.convert.key_map import authors_decoder
from clipseg_pl.convert.loading import load_model
from clipseg_pl.convert.to_hugging_face import write_hugging_face
from clipseg_pl.images import read_image
from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.models.deconv_decoder import DeconvDecoder
from tests.models.tiny_clipseg import logits, tiny_backbone, tiny_model

TEXTS = ["a red dog", "The TV left of a chair's leg, 12 px wide", "zyxgrass"]
TOLERANCE = 1e-5  # of the standard deviation


def picture(side: int) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 255, (5, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def theirs(folder, image: Image.Image, texts=TEXTS, dtype=torch.float32) -> torch.Tensor:
    """Compute logits with transformers, from the folder only."""
    model = CLIPSegForImageSegmentation.from_pretrained(folder).to(dtype)
    processor = CLIPSegProcessor.from_pretrained(folder)
    inputs = processor(text=texts, images=[image] * len(texts), padding=True, return_tensors="pt")
    with torch.inference_mode():
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        return model(**inputs).logits


def ours(model: CLIPSeg, image: Image.Image, texts=TEXTS) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    return logits(model, pixels.expand(len(texts), -1, -1, -1), texts)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference, relative to the standard deviation."""
    assert one.shape == other.shape
    return float((one - other).abs().max() / other.std())


def same_weights(one: CLIPSeg, other: CLIPSeg) -> bool:
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"layers": (1, 4), "dim": 12, "head": "refined", "quick_gelu": False},
        {"layers": (2,), "heads": 2, "patch": 14},
        {"layers": (0, 1, 2, 4), "dim": 16, "patch": 8},
    ],
)
def test_transformers_gives_the_same_logits_and_the_model_can_be_loaded(tmp_path, sizes):
    model = tiny_model(**sizes)
    side = 5 * model.backbone.shape.patch_size  # CLIP's position embeddings are for 3 patches
    write_hugging_face(tmp_path, model, side, threshold=0.2)
    image = picture(side)
    expected = ours(model, image)
    assert expected.std() > 0 and distance(expected[:2], expected[1:]) > 0.01
    assert distance(theirs(tmp_path, image), expected) <= TOLERANCE
    back = load_model(tmp_path)
    assert (back.image_size, back.threshold) == (side, 0.2)
    assert back.model.decoder.layers == model.decoder.layers
    assert same_weights(back.model, model)
    assert torch.equal(ours(back.model, image), expected)


def test_toy_model_with_its_pruned_vocabulary(tmp_path):
    toy = Segmenter.from_pretrained("toy")
    write_hugging_face(tmp_path, toy.model, toy.image_size, toy.threshold)
    image = picture(toy.image_size)
    expected = ours(toy.model.cpu(), image)
    assert distance(theirs(tmp_path, image), expected) <= TOLERANCE
    back = load_model(tmp_path)
    assert (back.image_size, back.threshold) == (toy.image_size, toy.threshold)
    assert torch.equal(ours(back.model, image), expected)


def test_transformers_tokenizer_gives_the_same_ids(tmp_path):
    model = tiny_model()
    write_hugging_face(tmp_path, model, 48, None)
    processor = CLIPSegProcessor.from_pretrained(tmp_path)
    texts = [*TEXTS, "naïve café", "it's 2x4 -- \n two", "日本", "a " * 100]
    context = model.backbone.clip.context_length
    expected = model.backbone.text_encoder.tokenizer(texts)
    actual = processor.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
    ends = expected.argmax(1, keepdim=True)
    used = torch.arange(context) <= ends  # the padding after the end token may differ
    assert torch.equal(actual["input_ids"][used], expected[used])
    assert vocabulary(model.backbone.text_encoder) == processor.tokenizer.get_vocab()


def test_image_size_is_rounded_to_a_multiple_of_the_patch(tmp_path):
    write_hugging_face(tmp_path, tiny_model(patch=14), 352, None)
    size = json.loads((tmp_path / "preprocessor_config.json").read_text())["size"]
    assert size == {"height": 350, "width": 350}


def test_other_normalisation_constants_are_stored(tmp_path):
    model = tiny_model()
    model.backbone.mean.fill_(0.4)
    model.backbone.std.copy_(torch.tensor([0.3, 0.25, 0.48145466]).view(3, 1, 1))
    write_hugging_face(tmp_path, model, 48, None)
    assert distance(theirs(tmp_path, picture(48)), ours(model, picture(48))) <= TOLERANCE
    with pytest.warns(UserWarning, match="not with ImageNet's"):
        back = load_model(tmp_path)
    assert torch.equal(back.model.backbone.std, model.backbone.std)


def test_unsupported_models_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="patches of 16 pixels, not 8"):
        write_hugging_face(tmp_path, tiny_model(head="refined", patch=8), 48, None)
    deconv = CLIPSeg(tiny_backbone(), lambda shape: DeconvDecoder(shape, layer=2))
    with pytest.raises(ValueError, match="not CLIPBackbone and DeconvDecoder"):
        write_hugging_face(tmp_path, deconv, 48, None)
    short = tiny_model()
    short.backbone.clip.token_embedding = torch.nn.Embedding(100, 16)
    with pytest.raises(ValueError, match="has 100 tokens, not CLIP's 49408"):
        write_hugging_face(tmp_path, short, 48, None)
    assert not list(tmp_path.iterdir())


def test_published_rd16_on_a_real_photo(real_data, tmp_path):
    """Converts the authors' file to Hugging Face's format and back, and compares logits."""
    file = real_data / "weights" / "rd16-uni.pth"
    raw = torch.load(file, map_location="cpu", weights_only=True)
    backbone = CLIPBackbone(pretrained=False)
    with pytest.warns(UserWarning, match="3, 7, 9 are assumed"):
        source = load_model(file, backbone)
    write_hugging_face(tmp_path, source.model, 352, None)
    photo = next((real_data / "phrasecut_coco").rglob("*.jpg"))
    pixels = torch.from_numpy(read_image(photo)).permute(2, 0, 1)[None]
    squashed = F.interpolate(pixels, (352, 352), mode="bilinear", antialias=True)
    image = Image.fromarray(squashed[0].permute(1, 2, 0).numpy())
    # the decoder was trained on the real CLIP and amplifies rounding errors of a random CLIP: in
    # float32, both implementations differ from float64 by 1e-4
    double = ours(copy.deepcopy(source.model).double(), image, TEXTS[:2])
    assert distance(double[:1], double[1:]) > 0.1  # the prompt has an effect
    untrained = CLIPSeg(backbone, FiLMDecoder).eval()  # a random decoder does not amplify errors
    (tmp_path / "untrained").mkdir()
    write_hugging_face(tmp_path / "untrained", untrained, 352, None)
    close = distance(
        theirs(tmp_path / "untrained", image, TEXTS[:2]), ours(untrained, image, TEXTS[:2])
    )
    assert close <= TOLERANCE
    assert distance(theirs(tmp_path, image, TEXTS[:2], torch.float64), double) <= TOLERANCE
    assert distance(theirs(tmp_path, image, TEXTS[:2]), double.float()) <= 1e-3
    back = load_model(tmp_path)
    state = authors_decoder(back.model.decoder.state_dict())
    used = {key: value for key, value in raw.items() if not key.startswith("reduce.")}
    assert len(raw) - len(used) == 2 and state.keys() == used.keys()
    assert all(torch.equal(state[key], used[key]) for key in used)
    for file in tmp_path.rglob("model.safetensors"):
        file.unlink()  # 600 MB that pytest would not delete
