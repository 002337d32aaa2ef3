"""The Python interface `Segmenter`."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_pl.convert.checkpoints import read_checkpoint
from clipseg_pl.images import UnreadableImageError, resize
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.inference.segmenter import Blend, ImagePrompt, Segmenter
from clipseg_pl.metrics.functional import presence
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.prompts.visual import VisualPrompt
from datamodules.datasets.transforms import PairedResize

PHOTO = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
SUPPORT = np.random.default_rng(1).integers(0, 256, (100, 100, 3), np.uint8)
MASK = np.zeros((100, 100), bool)
MASK[20:70, 30:80] = True
EXAMPLE = ImagePrompt(SUPPORT, mask=MASK)


@pytest.fixture(scope="module")
def checkpoint(trained):
    return trained / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def segmenter(checkpoint):
    return Segmenter.from_pretrained(checkpoint, precision="float32")


def test_masks_have_the_size_of_the_photo(segmenter):
    result = segmenter(PHOTO, ["red square", "a disc", "grass"])
    assert result.probability.shape == result.masks.shape == (3, 90, 150)
    assert result.probability.dtype == np.float32 and result.presence.shape == (3,)


def test_masks_equal_model_output_for_the_resized_photo(segmenter):
    """A photo of 90 x 150 pixels is resized to 48 x 80, about the area of 64 x 64."""
    model, owner = segmenter.model, torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        resized = resize(PHOTO, (48, 80))[None]
        text = model.backbone.embed_text(["grass"])
        probability = model(resized, text, owner).sigmoid()
        at_size = torch.nn.functional.interpolate(probability, (90, 150), mode="bilinear")
    result = segmenter(PHOTO, ["grass"])
    assert np.allclose(result.probability[0], at_size[0, 0].numpy(), atol=1e-5)
    assert np.allclose(result.presence, presence(probability).numpy(), atol=1e-6)


def test_photo_is_encoded_once_for_many_prompts(segmenter):
    calls = []
    conv = segmenter.model.backbone.clip.visual.conv1
    hook = conv.register_forward_hook(lambda *_: calls.append(1))
    encoded = segmenter.encode(PHOTO)
    segmenter.segment(encoded, [f"thing {i}" for i in range(100)])
    segmenter.segment(encoded, ["another"])
    hook.remove()
    assert len(calls) == 1


def test_prompts_do_not_influence_each_other(segmenter):
    many = [f"thing {i}" for i in range(70)]  # more than one decoder batch
    together = segmenter(PHOTO, [*many, "green"]).probability
    alone = segmenter(PHOTO, ["green"]).probability
    assert np.allclose(together[-1], alone[0], atol=1e-5)
    assert not np.allclose(together[0], together[-1], atol=1e-5)


def test_masks_do_not_depend_on_the_order_of_prompts(segmenter):
    """Texts, examples and blends; more than two decoder batches."""
    rng = np.random.default_rng(4)
    words = [f"thing {i}" for i in range(140)]
    prompts = [*words, EXAMPLE, Blend("a dog", EXAMPLE, 0.3), [EXAMPLE, ImagePrompt(PHOTO)]]
    order = rng.permutation(len(prompts)).tolist()
    result, moved = segmenter(PHOTO, prompts), segmenter(PHOTO, [prompts[i] for i in order])
    assert list(moved.prompts) == [result.prompts[i] for i in order]
    assert np.allclose(moved.probability, result.probability[order], rtol=0, atol=1e-5)
    assert np.allclose(moved.presence, result.presence[order], rtol=0, atol=1e-5)
    # rounding depends on the order, and may change pixels close to the threshold
    clear = np.abs(result.probability[order] - segmenter.threshold) > 1e-5
    assert (moved.masks == result.masks[order])[clear].all() and clear.mean() > 0.99


def test_settings_come_from_the_checkpoint(segmenter, checkpoint):
    content = read_checkpoint(checkpoint)
    assert segmenter.threshold == content["threshold"]
    assert segmenter.image_size == 64


def test_stored_absent_cut_is_used_on_request_only(segmenter, checkpoint, tmp_path):
    content = read_checkpoint(checkpoint)
    assert content["absent_cut"] > 0 and segmenter.absent_cut == 0
    stored = Segmenter.from_pretrained(checkpoint, device="cpu", absent_cut="stored")
    assert stored.absent_cut == content["absent_cut"]
    assert Segmenter.from_pretrained(checkpoint, device="cpu", absent_cut=0.3).absent_cut == 0.3
    torch.save({**content, "absent_cut": None}, tmp_path / "none.ckpt")
    with pytest.raises(ValueError, match="stores no absent cut"):
        Segmenter.from_pretrained(tmp_path / "none.ckpt", absent_cut="stored")


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3), (64, 64), (333, 77)])
def test_photos_of_any_shape_work(segmenter, size):
    result = segmenter(np.zeros((*size, 3), np.uint8), ["a thing"])
    assert result.masks.shape == (1, *size)


def test_batched_photos_equal_single_photos(segmenter, monkeypatch):
    """Photos of equal size are encoded together on a GPU."""
    monkeypatch.setattr(Segmenter, "_batch_size", 4)
    rng = np.random.default_rng(2)
    sizes = [(90, 150), (40, 40), (90, 150), (45, 75), (40, 41), (90, 150), (8, 200)]
    photos = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    for tile in (None, 30):
        monkeypatch.setattr(segmenter, "tile", tile)
        together = list(segmenter.stream(iter(photos), ["a thing", EXAMPLE]))
        assert len(together) == len(photos)
        for photo, result in zip(photos, together, strict=True):
            alone = segmenter.segment(segmenter.encode(photo), ["a thing", EXAMPLE])
            assert np.allclose(result.probability, alone.probability, atol=1e-5)


def test_stream_rejects_a_single_photo(segmenter):
    with pytest.raises(ValueError, match="photos must be a list"):
        next(segmenter.stream("photo.jpg", ["sky"]))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_streamed_photos_of_all_kinds_equal_single_photos(
    segmenter, tmp_path, monkeypatch, batch_size
):
    monkeypatch.setattr(Segmenter, "_batch_size", batch_size)
    rng = np.random.default_rng(5)
    pixels = [rng.integers(0, 256, (40 + 10 * n, 60, 3), np.uint8) for n in range(11)]
    files = [tmp_path / f"{number}.png" for number in range(len(pixels))]
    for photo, file in zip(pixels, files, strict=True):
        Image.fromarray(photo).save(file)

    def photos():
        for number, file in enumerate(files):
            if number % 5 == 0:
                yield file
            elif number % 5 == 1:
                yield file.read_bytes()
            elif number % 5 == 2:
                with file.open("rb") as stream:
                    yield stream
            elif number % 5 == 3:
                with Image.open(file) as image:
                    yield image
            else:
                yield pixels[number]

    results = list(segmenter.stream(photos(), ["a thing", EXAMPLE]))
    assert len(results) == len(pixels)
    for photo, result in zip(pixels, results, strict=True):
        alone = segmenter(photo, ["a thing", EXAMPLE])
        assert np.allclose(result.probability, alone.probability, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_stream_raises_errors_in_place_and_continues(segmenter, tmp_path, monkeypatch, batch_size):
    monkeypatch.setattr(Segmenter, "_batch_size", batch_size)
    invalid = np.full((9, 9, 3), np.nan)
    photos = [PHOTO, b"no photo", PHOTO[:40], tmp_path / "missing.png", invalid, PHOTO[:50]]
    results = segmenter.stream(photos, ["grass"])
    assert next(results).masks.shape == (1, 90, 150)
    with pytest.raises(UnreadableImageError, match="the photo: cannot be read as an image"):
        next(results)
    assert next(results).masks.shape == (1, 40, 150)
    with pytest.raises(UnreadableImageError, match=r"missing.png: no such photo"):
        next(results)
    with pytest.raises(ValueError, match="nan"):
        next(results)
    assert next(results).masks.shape == (1, 50, 150)
    assert next(results, None) is None


@pytest.mark.parametrize("batch_size", [1, 4])
def test_stream_takes_photos_as_they_are_needed(segmenter, monkeypatch, batch_size):
    monkeypatch.setattr(Segmenter, "_batch_size", batch_size)
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield PHOTO

    results = segmenter.stream(endless(), ["grass"])
    assert taken == 0
    for number in range(1, 10):
        next(results)
        assert taken - number <= 2 * batch_size + 2
    with pytest.raises(ValueError, match="at least one prompt"):
        next(segmenter.stream(endless(), []))


def reference(segmenter, image, mask):
    """Embed a support image the way the datasets prepare it."""
    side = segmenter.image_size
    prompt = VisualPrompt()(*PairedResize(side)(image, mask))
    return segmenter.model.backbone.embed_image(torch.from_numpy(prompt).permute(2, 0, 1)[None])


def test_image_prompt_equals_the_visual_prompt_of_training(segmenter):
    cut_out = np.dstack([SUPPORT, MASK.astype(np.uint8) * 255])
    examples = [EXAMPLE, ImagePrompt(SUPPORT, box=(30, 20, 80, 70)), ImagePrompt(cut_out)]
    names, vectors, phrases = segmenter.embed(examples)
    expected = reference(segmenter, SUPPORT, MASK)
    assert torch.allclose(vectors, expected.expand(3, -1), atol=1e-5)
    assert len(names) == 3 and phrases == ("", "", "")


def test_examples_are_averaged_and_blended_with_text(segmenter):
    other = ImagePrompt(PHOTO[:90, :90])
    prompts = ["a dog", EXAMPLE, [EXAMPLE, other], Blend("a dog", [EXAMPLE, other], 0.3)]
    text, one, both, blended = segmenter.embed(prompts).conditional
    two = segmenter.embed([other]).conditional[0]
    assert torch.allclose(both, (one + two) / 2, atol=1e-5)
    assert torch.allclose(blended, 0.3 * text + 0.7 * both, atol=1e-5)
    for weight, end in ((0, both), (1, text)):
        ends = segmenter.embed([Blend("a dog", [EXAMPLE, other], weight)]).conditional[0]
        assert torch.allclose(ends, end, atol=1e-5)


def test_examples_in_several_batches_equal_single_examples(segmenter):
    many = [ImagePrompt(np.full((20, 20, 3), grey, np.uint8)) for grey in range(0, 200, 11)]
    together = segmenter.embed(many).conditional
    alone = torch.cat([segmenter.embed([example]).conditional for example in many])
    assert torch.allclose(together, alone, atol=1e-5)


def test_embeddings_of_prefixes_are_averaged(segmenter, monkeypatch):
    monkeypatch.setattr(segmenter, "prefixes", "shuffle")
    sentences = ["a photo of a {x}.", "a photograph of a {x}.", "an image of a {x}.", "{x}."]
    expected = segmenter.model.backbone.embed_text(sentences).mean(0)
    assert torch.allclose(segmenter.embed(["{x}"]).conditional[0], expected, atol=1e-5)


def test_tiles_are_averaged_with_the_whole_photo(segmenter, monkeypatch):
    photo = np.random.default_rng(3).integers(0, 256, (64, 160, 3), np.uint8)
    whole = segmenter(photo, ["a thing"])
    parts = [segmenter(photo[:, left : left + 64], ["a thing"]) for left in (0, 48, 96)]
    monkeypatch.setattr(segmenter, "tile", 64)
    tiled = segmenter(photo, ["a thing"])
    for left, part, inside in ((0, 0, 0), (140, 2, 44)):  # covered by one tile only
        here = slice(left, left + 10)
        tile = parts[part].probability[0, :, inside : inside + 10]
        expected = (whole.probability[0, :, here] + tile) / 2
        assert np.allclose(tiled.probability[0, :, here], expected, atol=1e-5)
    strongest = max(result.presence[0] for result in (whole, *parts))
    assert tiled.presence[0] == pytest.approx(strongest, abs=1e-5)


def test_bfloat16_differs_by_rounding_only(checkpoint, segmenter):
    half = Segmenter.from_pretrained(checkpoint, device="cpu", precision="bfloat16")
    ours, theirs = (one(PHOTO, ["grass", EXAMPLE]).probability for one in (half, segmenter))
    assert ours.dtype == np.float32
    assert 0 < np.abs(ours - theirs).max() < 0.02


def test_inference_tracks_no_gradients_and_uses_eval_mode(segmenter):
    encoded = segmenter.encode(PHOTO)
    assert not any(tokens.requires_grad for tokens in encoded.parts[0][1].projected)
    assert not segmenter.model.training


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "at least one prompt"),
        ([""], "none of them empty"),
        (["a dog", "  "], "none of them empty"),
        ([[]], "none of them empty"),
        ([Blend(" ", EXAMPLE)], "none of them empty"),
        ("a dog", r"\['a dog'\]"),
        (EXAMPLE, "must be a list"),
        ([["a", "b"]], "expected an ImagePrompt or a list"),
        ([Blend("a dog", "cat.jpg")], "expected an ImagePrompt or a list"),
        ([3], "expected an ImagePrompt or a list"),
        ([ImagePrompt(SUPPORT, mask=MASK & ~MASK)], "mask is empty"),
    ],
)
def test_empty_or_malformed_prompts_are_rejected(segmenter, prompts, message):
    with pytest.raises(ValueError, match=message):
        segmenter(PHOTO, prompts)


def test_prompts_may_be_a_generator(segmenter):
    result = segmenter(PHOTO, (text for text in ("a dog", "grass")))
    assert list(result.prompts) == ["a dog", "grass"] and len(result.masks) == 2


@pytest.mark.parametrize(
    "setting",
    [
        {"threshold": 30},
        {"absent_cut": -0.1},
        {"tile": 0},
        {"threshold": float("nan")},
        {"image_size": 0},
        {"precision": "fp16"},
        {"precision": "int8"},
        {"prefixes": "shuffle+"},
        {"device": "gpu"},
    ],
)
def test_settings_out_of_range_are_rejected(segmenter, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Segmenter(segmenter.model, **setting)


def test_absent_cut_is_ignored_with_tiles(segmenter, monkeypatch):
    monkeypatch.setattr(segmenter, "absent_cut", 1.0)
    assert segmenter(PHOTO, ["a thing"]).absent.all()
    monkeypatch.setattr(segmenter, "tile", 60)
    assert not segmenter(PHOTO, ["a thing"]).absent.any()


@pytest.mark.parametrize("damage", ["lost", "shape", "description"])
def test_damaged_checkpoint_gives_a_one_line_error(checkpoint, tmp_path, damage):
    content = torch.load(checkpoint, weights_only=True)
    state = content["state_dict"]
    key = next(iter(state))
    if damage == "lost":
        del state[key]
    elif damage == "shape":
        state[key] = state[key][:1]
    else:
        content["hyper_parameters"]["backbone"] = "nonsense"
    torch.save(content, tmp_path / "damaged.ckpt")
    with pytest.raises(ValueError, match=r"damaged.ckpt: ") as raised:
        Segmenter.from_pretrained(tmp_path / "damaged.ckpt")
    assert "\n" not in str(raised.value)


def test_invalid_photos_are_rejected(segmenter, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    with pytest.raises(UnreadableImageError, match=r"broken.jpg"):
        segmenter(tmp_path / "broken.jpg", ["a dog"])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        segmenter(np.full((4, 4, 3), np.nan), ["a dog"])


def test_long_prompt_is_truncated_with_a_warning(segmenter):
    text = " ".join(f"word{i}" for i in range(500))
    with pytest.warns(UserWarning, match="first 75 tokens"):
        assert segmenter(PHOTO, [text]).masks.shape == (1, 90, 150)


def test_absent_prompts_have_an_empty_mask():
    probability = np.full((2, 4, 4), 0.9, np.float32)
    probability[:, 0] = 0.1
    result = Segmentation(["a", "b"], probability, np.array([0.9, 0.2], np.float32), 0.5, 0.3)
    assert result.absent.tolist() == [False, True]
    assert result.masks[0].sum() == 12 and not result.masks[1].any()


def test_text_prompts_use_the_thresholds_of_their_classes(segmenter, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "crack.png")
    example = ImagePrompt(tmp_path / "crack.png", box=(0, 0, 32, 32))
    prompts = ["Wall  crack", "sky", "crack", example, Blend("crack", example)]
    plain = segmenter(image, prompts)
    low, middle, high = np.quantile(plain.probability, [0.2, 0.5, 0.8]).tolist()
    own = Segmenter(
        segmenter.model,
        image_size=64,
        threshold=middle,
        class_thresholds={"wall crack": low, "Crack": high},
        device="cpu",
    )
    result = own(image, prompts)
    wanted = [low, middle, high, middle, middle]
    for mask, probability, threshold in zip(result.masks, result.probability, wanted, strict=True):
        assert np.array_equal(mask, probability > threshold)
    first, others = result.split(2)
    assert np.array_equal(np.concatenate([first.masks, others.masks]), result.masks)
    assert own(image, ["sky", "grass"]).threshold == middle


def test_each_label_has_a_probability_above_its_own_threshold():
    probability = np.float32([[[0.9, 0.5, 0.5, 0.1]], [[0.8, 0.4, 0.2, 0.35]]])
    thresholds = np.float32([0.6, 0.3])
    result = Segmentation("ab", probability, np.ones(2, np.float32), thresholds, 0.0)
    assert result.masks.tolist() == [[[True, False, False, False]], [[True, True, False, True]]]
    assert result.argmax().tolist() == [[1, 2, 0, 2]]


def test_argmax_has_a_background_label():
    probability = np.zeros((3, 1, 4), np.float32)
    probability[0], probability[1], probability[2] = [0.9, 0.4, 0.6, 0.6], [0.5, 0.3, 0.7, 0.5], 1
    result = Segmentation("abc", probability, np.array([1, 1, 0], np.float32), 0.5, 0.1)
    assert result.argmax().tolist() == [[1, 0, 2, 1]]  # c is absent


@pytest.mark.parametrize("decoder", ["null", "missing"])
def test_hidden_width_of_the_mlp_follows_from_the_weights(checkpoint, tmp_path, decoder):
    content = torch.load(checkpoint, weights_only=True)
    state = FiLMDecoder(CLIPBackbone("tiny", pretrained=False).shape, feedforward=24).state_dict()
    content["state_dict"] = {f"model.decoder.{key}": value for key, value in state.items()}
    if decoder == "null":
        content["hyper_parameters"]["decoder"]["init_args"]["feedforward"] = None
    else:  # the default decoder
        del content["hyper_parameters"]["decoder"]
    torch.save(content, tmp_path / "new.ckpt")
    loaded = Segmenter.from_pretrained(tmp_path / "new.ckpt").model.decoder
    assert loaded.settings["feedforward"] == 24
    assert torch.equal(
        loaded.state_dict()["blocks.2.linear1.weight"], state["blocks.2.linear1.weight"]
    )


def test_checkpoint_without_a_backbone_is_rejected(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"] = {"min_lr": 1e-4}
    torch.save(content, tmp_path / "python.ckpt")
    with pytest.raises(ValueError, match=r"python.ckpt: does not name its backbone"):
        Segmenter.from_pretrained(tmp_path / "python.ckpt")


@pytest.mark.exhaustive
def test_tiled_photo_of_12_megapixels_needs_less_than_3_gib(tmp_path):
    """ViT-B/16 at 352 pixels, measured in a separate process."""
    code = (
        "import numpy as np, resource\n"
        "from clipseg_pl.models.clip_backbone import CLIPBackbone\n"
        "from clipseg_pl.models.clipseg import CLIPSeg\n"
        "from clipseg_pl.models.decoder import FiLMDecoder\n"
        "from clipseg_pl.inference.segmenter import Segmenter\n"
        "model = CLIPSeg(CLIPBackbone(pretrained=False), FiLMDecoder)\n"
        "segmenter = Segmenter(model, tile=1000)\n"
        "photo = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)\n"
        "result = segmenter(photo, ['a dog', 'grass', 'sky'])\n"
        "assert result.masks.shape == (3, 3000, 4000)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3 * 2**20  # KiB


def test_published_weights_run_on_a_real_photo(real_data):
    """The authors' rd16 decoder on a random CLIP, because CLIP's weights may not be available."""
    backbone = CLIPBackbone(pretrained=False)
    segmenter = Segmenter.from_pretrained(real_data / "weights" / "rd16-uni.pth", backbone=backbone)
    photo = real_data / "phrasecut_coco" / "VGPhraseCut_v0" / "images" / "1000.jpg"
    result = segmenter(photo, ["a person", "grass"])
    assert result.probability.shape[1:] == np.array(Image.open(photo)).shape[:2]
    assert np.isfinite(result.probability).all()
    assert not np.allclose(result.probability[0], result.probability[1])
