"""Augmentation of training samples by a pipeline of albumentations."""

import pickle
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import DataLoader

from clipseg_pl.prompts.visual import MEAN_COLOUR, VisualPrompt
from datamodules.datasets.augmentation import Augmentation, mirrored
from datamodules.datasets.phrase_table import PhraseTable
from datamodules.datasets.prompted import PromptedDataset, Prompting
from datamodules.image_folder import ImageFolderDataModule, Table
from tests.command import EXPERIMENTS
from tests.datasets.numbered import UNTOUCHED
from tests.datasets.own import write_photos
from tests.datasets.test_prompted import flat

SIZE = 48
SQUARE, BAR = (slice(6, 18), slice(4, 16)), (slice(24, 40), slice(30, 38))
KEYS = [(epoch, task) for epoch in (0, 3) for task in range(4)]
READY = [EXPERIMENTS / "augmentation" / f"{name}.yaml" for name in ("photometric", "flip")]
MOVING = A.Affine(scale=(0.8, 1.2), translate_px=(-4, 4), interpolation=0, p=0.8)
FLIP = A.HorizontalFlip(p=1)
PADDING = tuple(round(value) for value in MEAN_COLOUR)


class SquareAndBar(PhraseTable):
    """Two photos, each with a red square on the left and a green bar on the right."""

    def __init__(self, square: str = "square", bar: str = "bar") -> None:
        super().__init__([square, bar], np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))

    def read_name(self, row):
        return f"task {row}"

    def read_image(self, row):
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        image[SQUARE] = 255, 0, 0
        image[BAR] = 0, 255, 0
        return image

    def read_mask(self, row):
        mask = np.zeros((SIZE, SIZE), bool)
        mask[(SQUARE, BAR)[row % 2]] = True
        return mask


@pytest.fixture
def build(tmp_path):
    """Return a function that builds a dataset with an augmentation, or without one for None."""

    def build(pipeline, source=None, phrases_per_image=1, **prompting):
        augmentation = pipeline and Augmentation(saved(pipeline, tmp_path), SIZE)
        prompting = {"visual_prompt": UNTOUCHED, "negative_prob": 0.0, **prompting}
        return PromptedDataset(
            source or SquareAndBar(),
            Prompting(**prompting),
            SIZE,
            train=True,
            seed=0,
            phrases_per_image=phrases_per_image,
            augmentation=augmentation,
        )

    return build


def saved(pipeline, folder) -> Path:
    A.save(A.Compose([pipeline]), folder / "pipeline.yaml", data_format="yaml")
    return folder / "pipeline.yaml"


def colours(image):
    """Return where an image, (3, H, W), is red and where it is green, each (H, W)."""
    return image[0] > 128, image[1] > 128


@pytest.mark.parametrize("pipeline", [A.NoOp(), A.HorizontalFlip(p=0)])
def test_pipeline_without_effect_gives_the_same_samples_as_none(build, pipeline):
    plain, augmented = (build(each, negative_prob=0.5) for each in (None, pipeline))
    assert [flat(augmented[key]) for key in KEYS] == [flat(plain[key]) for key in KEYS]


def test_augmentation_does_not_change_other_random_choices(build):
    plain, augmented = (build(each, negative_prob=0.5) for each in (None, MOVING))
    for key in KEYS:
        for before, after in zip(plain[key]["prompts"], augmented[key]["prompts"], strict=True):
            assert after["text_prompt"] == before["text_prompt"]
            assert after["mix_weight"] == before["mix_weight"]


def test_image_and_the_masks_of_all_phrases_move_together(build):
    dataset = build(A.Compose([MOVING, A.HorizontalFlip(p=0.5)]), phrases_per_image=2)
    positions = set()
    for epoch in range(30):
        sample = dataset[epoch, 0]
        masks = [prompt["query_mask"][0] for prompt in sample["prompts"]]
        for mask, colour in zip(masks, colours(sample["query_image"]), strict=True):
            assert mask.any() and torch.equal(mask, colour)
        positions.add(tuple(masks[0].nonzero()[0].tolist()))
    assert len(positions) > 10


def test_ignored_pixels_move_along_and_pixels_outside_of_the_photo_are_ignored(build):
    shift = A.Affine(translate_px={"x": (8, 8), "y": (0, 0)}, interpolation=0, p=1)
    sample, dataset = build(None)[0, 0], build(shift)
    (prompt,) = sample["prompts"]
    prompt["valid_mask"][..., 20] = False
    image, (moved,) = dataset.augmentation.query(
        sample["query_image"].permute(1, 2, 0).numpy(), [prompt], np.random.default_rng(0)
    )
    ignored = np.flatnonzero(~moved["valid_mask"][0].numpy().all(0))
    assert ignored.tolist() == [*range(8), 28]
    assert torch.equal(moved["query_mask"][0], colours(torch.from_numpy(image).permute(2, 0, 1))[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_depend_on_seed_epoch_and_index_only(build, workers):
    pipeline = A.Compose([MOVING, A.GaussNoise(p=0.5), A.RandomBrightnessContrast(p=0.5)])
    expected = [flat(build(pipeline)[key]) for key in KEYS]
    assert len({str(content) for content in expected}) == len(KEYS)
    backwards = KEYS[::-1]
    loader = DataLoader(
        build(pipeline),
        batch_sampler=[backwards[:3], backwards[3:5], backwards[5:]],
        num_workers=workers,
        collate_fn=list,
    )
    assert [flat(sample) for batch in loader for sample in batch] == expected[::-1]


def test_pickled_augmentation_makes_the_same_samples(build):
    dataset = build(MOVING)
    assert flat(pickle.loads(pickle.dumps(dataset))[0, 1]) == flat(dataset[0, 1])


def test_visual_prompt_is_cropped_around_the_moved_object(build):
    crop = VisualPrompt(blur=0, background=1, context=0)
    dataset = build(MOVING, visual_prompt=crop)
    for epoch in range(20):
        (support,) = dataset[epoch, 0]["prompts"][0]["supports"]
        seen = {tuple(colour) for colour in support.flatten(1).T.tolist()}
        assert (255, 0, 0) in seen and seen <= {(255, 0, 0), PADDING}


def test_support_is_augmented_independently_of_the_query(build):
    dataset = build(A.HorizontalFlip(p=0.5))
    flipped = set()
    for epoch in range(40):
        sample = dataset[epoch, 0]
        images = sample["query_image"], sample["prompts"][0]["supports"][0]
        flipped.add(tuple(bool(colours(image)[0][10, 40]) for image in images))
    assert flipped == {(False, False), (False, True), (True, False), (True, True)}


@pytest.mark.parametrize(
    ("pipeline", "swapped"),
    [
        (FLIP, True),
        (A.Rotate(limit=(180, 180), p=1), True),
        (A.VerticalFlip(p=1), False),
        (A.Affine(scale=(0.6, 0.6), p=1), False),
        (A.InvertImg(p=1), False),
    ],
)
def test_left_and_right_are_swapped_if_the_photo_is(build, pipeline, swapped):
    source = SquareAndBar("left square", "bar on the right")
    plain, augmented = build(None, source), build(pipeline, source)
    for task, words in enumerate(("right square", "bar on the left")):
        (before,), (after,) = plain[0, task]["prompts"], augmented[0, task]["prompts"]
        assert after["phrase"] == (words if swapped else before["phrase"])
        prefix, suffix = before["text_prompt"].split(before["phrase"])
        assert after["text_prompt"] == prefix + after["phrase"] + suffix


def test_quarter_turns_are_left_out_for_phrases_with_a_side(build):
    turn = A.Rotate(limit=(90, 90), p=1)
    for source in (SquareAndBar("left square", "bar"), SquareAndBar("square", "bar")):
        (plain,), (turned,) = (build(each, source)[0, 0]["prompts"] for each in (None, turn))
        same = torch.equal(plain["query_mask"], turned["query_mask"])
        assert same == (plain["phrase"] == "left square")


@pytest.mark.parametrize("words", ["upper square", "square at the Bottom", "square below the bar"])
@pytest.mark.parametrize(
    ("pipeline", "kept"),
    [
        (FLIP, False),
        (A.VerticalFlip(p=1), True),
        (A.Rotate(limit=(90, 90), p=1), True),
        (A.Rotate(limit=(180, 180), p=1), True),
    ],
)
def test_phrases_with_up_or_down_are_not_turned(build, pipeline, kept, words):
    source = SquareAndBar(words)
    (plain,), (moved,) = (build(each, source)[0, 0]["prompts"] for each in (None, pipeline))
    assert torch.equal(plain["query_mask"], moved["query_mask"]) == kept
    assert moved["phrase"] == plain["phrase"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a photo of a left chair.", "a photo of a right chair."),
        ("leftmost of the two on the right", "rightmost of the two on the left"),
        ("the left-hand side, topleft", "the right-hand side, topright"),
        ("lower-Right LEFTHAND rightward", "lower-Left RIGHTHAND leftward"),
        ("bright upright leftovers", "bright upright leftovers"),
        ("right angle, right-angled pipe", "right angle, right-angled pipe"),
        ("food left over, left overpass", "food left over, right overpass"),
    ],
)
def test_mirrored_swaps_words_of_direction(text, expected):
    assert mirrored(text) == expected and mirrored(expected) == text


@pytest.mark.parametrize("fill", [0, 255])
def test_sample_stays_as_it_was_if_the_object_would_leave(build, fill):
    away = A.Affine(translate_px={"x": (-24, -24), "y": (0, 0)}, fill_mask=fill, p=1)
    plain, augmented = build(None), build(away)
    assert flat(augmented[0, 0]) == flat(plain[0, 0])  # neither query nor support
    bar = augmented[0, 1]["prompts"][0]["query_mask"][0].numpy()
    assert np.flatnonzero(bar.any(0)).tolist() == list(range(6, 14))


@pytest.mark.parametrize("file", READY, ids=lambda file: file.stem)
def test_ready_pipelines_keep_thin_cracks(file):
    augmentation = Augmentation(file, 352)
    image, crack = np.full((352, 352, 3), 128, np.uint8), np.zeros((352, 352), bool)
    cv2.line(crack.view(np.uint8), (40, 90), (300, 260), 1, 2)
    seen = set()
    for seed in range(100):
        moved, mask = augmentation.support(image, crack, np.random.default_rng(seed))
        assert (
            mask.sum() > 0.7 * crack.sum() and cv2.connectedComponents(mask.view(np.uint8))[0] == 2
        )
        seen.add((float(moved.mean()), int(mask.sum())))
    assert len(seen) > 50


@pytest.mark.parametrize(("file", "flips"), [(READY[0], False), (READY[1], True)])
def test_only_the_pipeline_with_flips_swaps_left_and_right(file, flips):
    dataset = PromptedDataset(
        SquareAndBar("left square"),
        Prompting(),
        SIZE,
        True,
        0,
        augmentation=Augmentation(file, SIZE),
    )
    phrases = {dataset[epoch, 0]["prompts"][0]["phrase"] for epoch in range(40)} - {"bar"}
    assert phrases == ({"left square", "right square"} if flips else {"left square"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a pipeline of albumentations"),
        ("model: 1", "missing key 'transform'"),
        ({"__class_fullname__": "Blurr", "p": 1}, "unknown transform or missing key 'Blurr'"),
        ({"__class_fullname__": "Blur", "blur": 3, "p": 1}, "'blur' are not valid for transform"),
        ({"__class_fullname__": "Blur", "blur_limit": "x", "p": 1}, "blur_limit"),
        ({"__class_fullname__": "Blur"}, "has no 'p' parameter"),
        ({"__class_fullname__": "Normalize", "p": 0.01}, "uint8 image into float32"),
        ({"__class_fullname__": "ToTensorV2", "p": 1}, "uint8 image into torch.uint8"),
        (
            {"__class_fullname__": "RandomCrop", "height": 20, "width": 20, "p": 0.01},
            r"changes the image from \(48, 48, 3\) to \(20, 20, 3\); end it with A.Resize\(48",
        ),
        ({"__class_fullname__": "MaskDropout", "p": 0.01}, r"fails with ValueError: .*'mask'"),
    ],
)
def test_unusable_pipelines_are_rejected_in_one_line(tmp_path, content, message):
    file = tmp_path / "pipeline.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump({"transform": content}))
    with pytest.raises(ValueError, match=message) as raised:
        Augmentation(file, SIZE)
    assert str(raised.value).startswith(f"{file}: ") and "\n" not in str(raised.value)


def test_pipeline_that_restores_the_size_is_accepted(tmp_path):
    pipeline = A.Compose([A.RandomCrop(20, 20, p=1), A.Resize(SIZE, SIZE, p=1)])
    Augmentation(saved(pipeline, tmp_path), SIZE)


@pytest.fixture
def own(tmp_path):
    write_photos(tmp_path, [["ball"], ["ball"], ["bat"]])

    def own(file, **tables):
        train = Table("phrases.csv", augmentation=str(file))
        return ImageFolderDataModule(str(tmp_path), SIZE, 2, 0, train=train, **tables)

    return own


def test_own_data_are_augmented_in_training_only(own, tmp_path):
    data = own(saved(A.InvertImg(p=1), tmp_path))
    data.setup("fit")
    greys = {
        split: {int(data.datasets[split][0, task]["query_image"].max()) for task in range(size)}
        for split, size in data.sizes().items()
    }
    assert min(greys["train"]) >= 253 and max(greys["val"]) <= 2


def test_path_of_the_pipeline_is_relative_to_the_working_directory(own, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    saved(FLIP, tmp_path / "here")
    assert own("pipeline.yaml").build("train").augmentation
    missing = own("missing.yaml")
    missing.build("val")
    with pytest.raises(FileNotFoundError, match=r"missing\.yaml"):
        missing.build("train")


@pytest.mark.parametrize("name", ["val", "test"])
def test_tables_for_evaluation_cannot_be_augmented(own, name):
    with pytest.raises(ValueError, match=rf"{name}\.augmentation is set, but only `train`"):
        own("pipeline.yaml", **{name: Table("phrases.csv", augmentation="pipeline.yaml")})
