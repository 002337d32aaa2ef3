import json
from dataclasses import replace

import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import load_file

from datamodules.toy.language.sentences import all_words
from datamodules.toy.language.vocabulary import (
    UNKNOWN_ROW,
    ToyTokenizer,
    toy_vocabulary,
    used_tokens,
)
from datamodules.toy.pretraining.clip import CLIPPretraining
from datamodules.toy.pretraining.loop import CLIPSettings
from datamodules.toy.pretraining.pictures import CaptionedScenes
from datamodules.toy.scenes.scales import CLIP_EMBEDDINGS, CLIP_STREAM, rescaled

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32},
    "text_cfg": {"context_length": 24, "width": 32, "heads": 2, "layers": 1},
    "quick_gelu": False,
}


@pytest.fixture
def settings(tmp_path):
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
    before, words = model.encode_image(images), model.encode_text(rows)
    factors = {CLIP_STREAM: 4.0, CLIP_EMBEDDINGS: 0.5}
    model.load_state_dict(rescaled(model.state_dict(), factors))
    assert torch.allclose(model.encode_image(images), before / 2, rtol=1e-3, atol=1e-4)
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
    assert {"loss", "kind", "colour", "colour_kind", "image_to_text", "text_to_image"} <= set(
        lines[0]
    )


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


def test_batches_depend_only_on_seed_and_step():
    ids = toy_vocabulary()
    first, second, other = (CaptionedScenes(seed, 10, 8, 64, ids, 24) for seed in (0, 0, 1))
    for images, rows in (first[4], second[4]):
        assert (
            images.shape == (8, 3, 64, 64) and images.dtype == torch.uint8 and rows.shape == (8, 24)
        )
    assert all(torch.equal(a, b) for a, b in zip(first[4], second[4], strict=True))
    assert not torch.equal(first[4][0], first[5][0])
    assert not torch.equal(first[4][0], other[4][0])


def test_vocabulary_and_context_length_cover_every_caption():
    _, rows = CaptionedScenes(3, 1, 400, 32, toy_vocabulary(), 24, unknown=0.0)[0]
    assert all((row[: row.argmax()] != UNKNOWN_ROW).all() for row in rows)
    assert (rows.max(1).values == len(toy_vocabulary()) - 1).all(), (
        "the end of text must have the highest row"
    )
    assert (rows[:, -1] == 0).float().mean() > 0.99


def test_unknown_words_map_to_the_unknown_row():
    tokenize = ToyTokenizer(used_tokens(all_words()), 8)
    rows = tokenize(["a zebra dog"])[0].tolist()
    assert UNKNOWN_ROW in rows and rows[1] == tokenize(["a"])[0, 1] and rows[-1] == 0
