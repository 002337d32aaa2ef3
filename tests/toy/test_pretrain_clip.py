import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import load_file

from datamodules.toy.language.sentences import all_words, scene_caption
from datamodules.toy.language.vocabulary import (
    UNKNOWN_ROW,
    ToyTokenizer,
    toy_vocabulary,
    used_tokens,
)
from datamodules.toy.language.words import NAMES, kind_name
from datamodules.toy.pretraining.clip import CLIPPretraining
from datamodules.toy.pretraining.loop import CLIPSettings
from datamodules.toy.pretraining.pictures import (
    CLASSES,
    CaptionedScenes,
    held_out,
    normalised,
    single_things,
)
from datamodules.toy.scenes.grammar import SLOTS
from datamodules.toy.scenes.kinds import KINDS
from datamodules.toy.scenes.paint import COLOURS, TEXTURES
from datamodules.toy.scenes.scales import CLIP_EMBEDDINGS, CLIP_STREAM, rescaled
from datamodules.toy.scenes.scene import draw_scene
from datamodules.toy.scenes.stuff import STUFF
from datamodules.toy.zero_shot import embed_texts

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32},
    "text_cfg": {"context_length": 24, "width": 32, "heads": 2, "layers": 1},
    "quick_gelu": False,
}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr("datamodules.toy.zero_shot._PATCH_SCENES", 40)
    return CLIPSettings(
        tmp_path / "whole",
        steps=3,
        batch_size=8,
        workers=0,
        every=2,
        singles=8,
        scenes=8,
        architecture=TINY,
    )


def test_resumed_run_equals_an_uninterrupted_one(settings, tmp_path):
    whole = CLIPPretraining(settings)
    whole.fit()
    parts = replace(settings, out=tmp_path / "parts")
    CLIPPretraining(parts).fit(until=2)
    resumed = CLIPPretraining(parts, resume=True)
    assert resumed.step == 2
    resumed.fit()
    for one, other in ((whole.model, resumed.model), (whole.average, resumed.average)):
        for key, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[key]), key


def test_rescaled_multiplies_the_residual_stream_and_embeddings(settings):
    model = CLIPPretraining(settings).average.eval()
    images, stream = torch.rand(2, 3, 32, 32), []
    for block in model.visual.transformer.resblocks:
        block.register_forward_hook(lambda *call: stream.append(call[-1]))
    rows = ToyTokenizer(toy_vocabulary(), model.context_length)(["a red dog", "grass"])
    (before, _), words = model.encode_image(images), model.encode_text(rows)
    factors = {CLIP_STREAM: 4.0, CLIP_EMBEDDINGS: 0.5}
    model.load_state_dict(rescaled(model.state_dict(), factors))
    assert torch.allclose(model.encode_image(images)[0], before / 2, rtol=1e-3, atol=1e-4)
    assert torch.allclose(model.encode_text(rows), words / 2, rtol=1e-5)
    for tokens, scaled in zip(stream[:2], stream[2:], strict=True):
        assert torch.allclose(scaled, 4 * tokens, rtol=1e-3, atol=1e-3)


def test_export_can_be_loaded_as_an_open_clip_model(settings):
    run = CLIPPretraining(settings)
    run.fit()
    folder = settings.out / "export"
    model = CLIP(**json.loads((folder / "toy2.json").read_text()))
    weights = load_file(folder / "toy2.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    model.load_state_dict(weights)
    vocabulary = json.loads((folder / "toy2_vocabulary.json").read_text())
    assert len(vocabulary) == len(model.token_embedding.weight)
    assert vocabulary == sorted(set(vocabulary)) and vocabulary[0] == 0
    lines = [json.loads(line) for line in (folder / "toy2_log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3]
    scores = {"kind", "colour", "image_to_text", "text_to_image"}
    scores |= {"patch_kind", "fitted", "left_out", "transfer"}
    assert scores | {"loss"} <= set(lines[0])
    with torch.no_grad():
        names = [f"a photo of a {kind_name(kind)}." for kind in KINDS]
        norm = model.encode_text(ToyTokenizer(vocabulary, 24)(names)).norm(dim=-1).mean()
        images = normalised(single_things(held_out(0), 32, 8)[0])
        stream = model.visual.forward_intermediates(
            images, [1], output_fmt="NLC", normalize_intermediates=False
        )["image_intermediates"][0].std()
    # powers of two bring a scale to within a factor of sqrt(2)
    assert 7 < norm < 14.2 and 1.4 < stream < 2.9


def test_loss_is_finite_and_falls(settings):
    CLIPPretraining(replace(settings, steps=16, batch_size=24, every=8)).fit()
    lines = (settings.out / "log.jsonl").read_text().splitlines()
    first, second = (json.loads(line)["loss"] for line in lines)
    assert 0 < second < 0.95 * first < 100


def cross_entropy(logits, target):
    """Return the cross-entropy of a row of logits and a distribution."""
    logits = np.asarray(logits, float)
    return float(np.dot(target, np.log(np.exp(logits).sum()) - logits))


def one_hot(index, count):
    return np.eye(count)[index]


def matching_loss(first, second, target):
    """Return the mean of the losses of rows and columns, for logits with a scale of 2."""
    logits = 2 * first @ second.T
    rows, columns = (
        [cross_entropy(row, share) for row, share in zip(table, target, strict=True)]
        for table in (logits, logits.T)
    )
    return (np.mean(rows) + np.mean(columns)) / 2


def test_loss_of_known_embeddings(settings, monkeypatch):
    """Image 0 shows two things of equal description, image 1 a near miss and stuff."""
    module = "datamodules.toy.pretraining.clip"
    run = CLIPPretraining(settings)
    run.model.logit_scale.data.fill_(np.log(2))
    ranges = run._class_texts()[1]
    rng = np.random.default_rng(0)

    def units(*shape):
        values = rng.normal(size=(*shape, 3))
        return values / np.linalg.norm(values, axis=-1, keepdims=True)

    cls, patches = units(2), units(2, 4)
    captions, descriptions, classes = units(2), units(3), units(ranges[-1][1])
    texts = iter(torch.tensor(value).float() for value in (captions, descriptions, classes))
    images = tuple(torch.tensor(value).float() for value in (cls, patches))
    monkeypatch.setattr(f"{module}.embed_images", lambda *_: images)
    monkeypatch.setattr(f"{module}.embed_texts", lambda *_: next(texts))
    monkeypatch.setattr(f"{module}._BARE_SHARE", 1.0)
    labels = [
        [5, 0, 1, 2, 3, -1, 0, 1, 2],
        [7, 9, 0, 11, -1, -1, 7, -1, 0],
        [-1, 2, 3, 0, 0, -1, -1, 5, -1],
    ]
    loss = run.loss(
        torch.zeros(2, 3, 32, 32),
        torch.zeros(2, 4, dtype=torch.int64),
        torch.tensor([[0, 0, 1, -1], [2, -1, -1, -1]]),
        torch.tensor([[-1, -1, -1, -1], [-1, 3, -1, -1]]),
        torch.tensor([[1, 2], [1, 2], [1, 3]]),
        torch.tensor(labels),
        torch.tensor([-1, 2]),
    )
    mean = patches[0, 0] + patches[0, 1]
    things = np.stack([mean / np.linalg.norm(mean), patches[0, 2], patches[1, 0]])
    equal = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    expected = matching_loss(cls, captions, np.eye(2))
    expected += matching_loss(things, descriptions, equal)
    stuff = [160 + 3, *[-1] * 8]
    shown = [
        (patches[0, 0], labels[0]),
        (patches[0, 1], labels[0]),
        (patches[0, 2], labels[1]),
        (patches[1, 0], labels[2]),
        (cls[1], labels[2]),
        (patches[1, 1], stuff),
    ]
    for column, (start, stop) in enumerate(ranges):
        terms = [
            cross_entropy(2 * classes[start:stop] @ vector, one_hot(row[column], stop - start))
            for vector, row in shown
            if row[column] >= 0
        ]
        assert bool(terms) == (column != 5)
        expected += (0.5 if column else 1) * np.mean(terms or [0])
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_classes_have_a_text_each(settings):
    run = CLIPPretraining(settings)
    rows, ranges = run._class_texts()
    counts = [len(names) + len(STUFF) * (group == "kind") for group, names in CLASSES.items()]
    stops = np.cumsum(counts).tolist()
    assert ranges == list(zip([0, *stops], stops, strict=False)) and len(rows) == stops[-1]
    start, stop = ranges[1]
    expected = run.tokenize([f"{colour} thing" for colour in COLOURS])
    assert torch.equal(rows[start:stop].cpu(), expected)


def test_batch_of_one_image_without_things_has_a_loss(settings, monkeypatch):
    def draw(self, rng, kinds, colours):
        scene = draw_scene(rng, 32, count=0)
        return scene, scene_caption(scene, rng)

    monkeypatch.setattr(CaptionedScenes, "_draw", draw)
    run = CLIPPretraining(replace(settings, batch_size=1))
    batch = run.batches()[0]
    assert batch.labels.shape == (0, 9) and batch.labels.dtype == torch.int64
    loss = run.loss(*batch)
    loss.backward()
    assert loss.isfinite()


def test_existing_checkpoint_is_not_overwritten(settings):
    CLIPPretraining(settings).fit(until=1)
    with pytest.raises(FileExistsError, match="--resume"):
        CLIPPretraining(settings)


@pytest.mark.slow
def test_resume_needs_a_checkpoint_with_the_same_settings(settings, tmp_path):
    with pytest.raises(FileNotFoundError, match="omit --resume"):
        CLIPPretraining(settings, resume=True)
    assert not settings.out.exists()
    CLIPPretraining(settings).fit(until=2)
    log = settings.out / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 4}\n')  # logged after the last checkpoint
    with pytest.raises(ValueError, match="was made with batch_size 8, seed 0"):
        CLIPPretraining(replace(settings, batch_size=4, seed=1), resume=True)
    CLIPPretraining(replace(settings, every=1), resume=True).fit()
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [2, 3]


@pytest.mark.parametrize("wrong", [{"minutes": 0.0, "steps": 0}, {"batch_size": 0}, {"every": 0}])
def test_settings_that_are_not_positive_raise(settings, wrong):
    with pytest.raises(ValueError, match=r"minutes or steps|batch_size"):
        replace(settings, **wrong)


def captioned(seed, batch_size=8, image_size=64, **settings):
    """Return batches with patches of 8 pixels and 24 tokens per caption."""
    ids = toy_vocabulary()
    return CaptionedScenes(seed, 10, batch_size, image_size, 8, ids, 24, **settings)


def test_batches_depend_only_on_seed_and_step():
    first, second, other = captioned(0), captioned(0), captioned(1)
    first[3]
    assert all(torch.equal(a, b) for a, b in zip(first[4], second[4], strict=True))
    for different in (first[5], other[4]):
        assert not torch.equal(first[4].images, different.images)
        assert not torch.equal(first[4].captions, different.captions)


def test_vocabulary_covers_all_captions_and_few_are_cut():
    batch = captioned(3, 400, 32, unknown=0.0)[0]
    for rows, complete in ((batch.captions, 0.9), (batch.thing_captions, 0.99)):
        assert all((row[: row.argmax()] != UNKNOWN_ROW).all() for row in rows)
        assert (rows.max(1).values == len(toy_vocabulary()) - 1).all(), (
            "the end of text must have the highest row"
        )
        assert (rows[:, -1] == 0).float().mean() > complete  # the others may be cut


@pytest.fixture(scope="module")
def batch_of_scenes():
    """Return a batch without unknown words, and its scenes."""
    drawn = {}

    class Recorded(CaptionedScenes):
        def _draw(self, *args):
            scene, caption = super()._draw(*args)
            drawn[scene.image.tobytes()] = scene
            return scene, caption

    batch = Recorded(5, 10, 48, 64, 8, toy_vocabulary(), 24, unknown=0.0)[2]
    images = batch.images.permute(0, 2, 3, 1).contiguous().numpy()
    return batch, [drawn[image.tobytes()] for image in images]


def test_batch_has_images_captions_things_and_patches(batch_of_scenes):
    batch, scenes = batch_of_scenes
    count = sum(len(scene.things) for scene in scenes)
    assert batch.images.shape == (48, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert batch.captions.shape == (48, 24) and batch.thing_captions.shape == (count, 24)
    assert batch.thing_of_patch.shape == batch.stuff_of_patch.shape == (48, 64)
    assert batch.labels.shape == (count, 9) and batch.only_thing.shape == (48,)
    assert {value.dtype for value in batch[1:]} == {torch.int64}
    assert {len(scene.things) for scene in scenes} >= {1, 2, 3, 4}


def test_patches_belong_to_the_thing_or_stuff_that_covers_them(batch_of_scenes):
    batch, scenes = batch_of_scenes
    first, found = 0, {"thing": 0, "stuff": 0, "neither": 0}
    for image, scene in enumerate(scenes):
        for place in range(64):
            y, x = 8 * (place // 8), 8 * (place % 8)
            things = {
                first + number: thing.mask[y : y + 8, x : x + 8].sum()
                for number, thing in enumerate(scene.things)
            }
            owner = batch.thing_of_patch[image, place].item()
            assert things[owner] >= 32 if owner >= 0 else max(things.values(), default=0) < 32
            ground = batch.stuff_of_patch[image, place].item()
            stuff = {name: mask[y : y + 8, x : x + 8].sum() for name, mask in scene.stuff.items()}
            expected = [STUFF.index(name) for name, pixels in stuff.items() if pixels >= 61]
            assert [ground] == (expected or [-1])  # 61 of 64 pixels are more than 95 %
            found["thing" if owner >= 0 else "stuff" if ground >= 0 else "neither"] += 1
        first += len(scene.things)
    assert min(found.values()) > 100


def test_labels_and_descriptions_are_those_of_the_things(batch_of_scenes):
    batch, scenes = batch_of_scenes
    tokenize = ToyTokenizer(toy_vocabulary(), 24)
    things = [thing for scene in scenes for thing in scene.things]
    names = [("kind", KINDS), ("colour", [*COLOURS]), ("texture", TEXTURES)]
    for labels, rows, thing in zip(batch.labels, batch.thing_captions, things, strict=True):
        columns = [(list(kinds), getattr(thing, name)) for name, kinds in names]
        columns += [([*SLOTS[slot]], getattr(thing.parts, slot)) for slot in SLOTS]
        for label, (values, value) in zip(labels.tolist(), columns, strict=True):
            assert (values[label] if label >= 0 else "") == value
        nouns = NAMES[thing.variant] if thing.kind else ("thing",)
        text = f" {' '.join(map(str, rows.tolist()))} "
        tokens = [tokenize([noun])[0] for noun in nouns]
        tokens = [" ".join(map(str, row[1 : row.argmax()].tolist())) for row in tokens]
        assert any(f" {noun} " in text for noun in tokens)
    assert 0.15 < np.mean([not thing.kind for thing in things]) < 0.45


def test_only_thing_is_the_thing_of_images_with_one(batch_of_scenes):
    batch, scenes = batch_of_scenes
    first = np.cumsum([0, *(len(scene.things) for scene in scenes)])
    assert batch.only_thing.tolist() == [
        first[image] if len(scene.things) == 1 else -1 for image, scene in enumerate(scenes)
    ]
    assert (batch.only_thing >= 0).sum() > 10


@torch.no_grad()
@pytest.mark.parametrize(
    "texts",
    [["a red dog", "a striped chair left of the blue dog", ""], ["a zebra"], ["red zebra dog"]],
)
def test_embed_texts_equals_encode_text_of_open_clip(settings, texts):
    model = CLIPPretraining(settings).build().eval()
    rows = ToyTokenizer(toy_vocabulary(), 24)(texts)
    assert torch.allclose(embed_texts(model, rows), model.encode_text(rows), rtol=1e-4, atol=1e-6)


def test_unknown_words_map_to_the_unknown_row():
    tokenize = ToyTokenizer(used_tokens(all_words()), 8)
    rows = tokenize(["a zebra dog"])[0].tolist()
    assert UNKNOWN_ROW in rows and rows[1] == tokenize(["a"])[0, 1] and rows[-1] == 0
