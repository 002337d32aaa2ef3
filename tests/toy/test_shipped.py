"""The shipped toy weights match the code that trained them, and segment the toy world."""

import json
from pathlib import Path

import numpy as np
import torch
import yaml

import clipseg_pl.weights
from clipseg_pl.convert.checkpoints import read_checkpoint
from clipseg_pl.convert.loading import load_model
from clipseg_pl.inference.segmenter import ImagePrompt, Segmenter
from clipseg_pl.weights.clip import IMAGENET_MEAN, IMAGENET_STD, build_tokenizer
from clipseg_pl.weights.places import TOY, TOY_CHECKPOINT, TOY_CLIP
from datamodules.toy.language.sentences import all_words
from datamodules.toy.language.vocabulary import ToyTokenizer, toy_vocabulary
from datamodules.toy.language.words import NAMES
from datamodules.toy.pretraining.loop import CLIP_ARCHITECTURE
from datamodules.toy.pretraining.pictures import MEAN, STD
from datamodules.toy.scenes.kinds import PASCAL_KINDS
from datamodules.toy.scenes.scene import draw_scene
from tests.command import EXPERIMENTS

FOLDER = Path(clipseg_pl.weights.__file__).parent / "toy"


def test_shipped_vocabulary_equals_that_of_the_code():
    assert json.loads((FOLDER / "toy2_vocabulary.json").read_text()) == toy_vocabulary()


def test_shipped_architecture_equals_that_of_the_code():
    text = {**CLIP_ARCHITECTURE["text_cfg"], "vocab_size": len(toy_vocabulary())}
    assert json.loads((FOLDER / "toy2.json").read_text()) == {**CLIP_ARCHITECTURE, "text_cfg": text}


def test_toy_overlay_uses_the_shipped_clip():
    overlay = yaml.safe_load((EXPERIMENTS / "toy.yaml").read_text())
    assert overlay["model"]["backbone"]["init_args"]["name"] == TOY_CLIP


def test_decoder_is_loaded_by_the_class_paths_in_its_checkpoint():
    settings = read_checkpoint(TOY_CHECKPOINT)["hyper_parameters"]
    model = load_model(TOY).model
    assert settings["backbone"]["class_path"] == "clipseg_pl.models.clip_backbone.CLIPBackbone"
    assert type(model.backbone).__name__ == "CLIPBackbone"
    assert settings["decoder"]["class_path"] == "clipseg_pl.models.decoder.FiLMDecoder"
    assert type(model.decoder).__name__ == "FiLMDecoder"


def test_normalisation_and_tokenizer_match_pre_training():
    assert (MEAN, STD) == (IMAGENET_MEAN, IMAGENET_STD)
    length = CLIP_ARCHITECTURE["text_cfg"]["context_length"]
    texts = [*all_words(), "a zebra", "dog " * length, ""]
    expected = ToyTokenizer(toy_vocabulary(), length)(texts)
    assert torch.equal(build_tokenizer(TOY_CLIP, length)(texts), expected)


def iou(probability, mask):
    found = probability > 0.3
    return (found & mask).sum() / (found | mask).sum()


def test_decoder_segments_text_prompts():
    segmenter, own, others = Segmenter.from_pretrained(TOY), [], []
    for index in range(20):
        scene = draw_scene(np.random.default_rng((0x5817, index)), 128)
        masks = [thing.mask for thing in scene.things]
        phrases = [f"{thing.colour} {NAMES[thing.variant][0]}" for thing in scene.things]
        if len(set(phrases)) < max(2, len(phrases)):
            continue  # every phrase must refer to a single thing
        answers = segmenter(scene.image, phrases).probability
        own += map(iou, answers, masks)
        others += map(iou, np.roll(answers, 1, 0), masks)
    assert len(own) > 20
    assert np.mean(own) > 0.35
    assert np.mean(own) > np.mean(others) + 0.2


def test_decoder_segments_visual_prompts():
    """The support image shows a thing of the same kind and colour, marked by mask or by box."""
    segmenter, own, others = Segmenter.from_pretrained(TOY), [], []
    shown, other = {}, None
    for index in range(300):
        scene = draw_scene(np.random.default_rng((0x5818, index)), 128, kinds=PASCAL_KINDS)
        for thing in scene.things:
            name = thing.colour, thing.variant
            rows, columns = np.flatnonzero(thing.mask.any(1)), np.flatnonzero(thing.mask.any(0))
            box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
            if name in shown and len(own) < 40:
                examples = [
                    ImagePrompt(*shown[name][:2]),
                    ImagePrompt(shown[name][0], box=shown[name][2]),
                ]
                answers = segmenter(scene.image, [*examples, ImagePrompt(*other[:2])]).probability
                own += [iou(answer, thing.mask) for answer in answers[:2]]
                others.append(iou(answers[2], thing.mask))
            other = shown[name] = scene.image, thing.mask, box
    assert len(own) >= 40
    assert np.mean(own) > 0.3
    assert np.mean(own) > np.mean(others) + 0.2


def test_stored_cut_separates_present_from_absent_things():
    segmenter = Segmenter.from_pretrained(TOY, absent_cut="stored")
    accepted, rejected = [], []
    for index in range(20):
        scene = draw_scene(np.random.default_rng((0xC07, index)), 128)
        drawn = sorted({thing.variant for thing in scene.things})
        others = [variant for variant in NAMES if variant not in drawn][index % 4 :: 4]
        prompts = [NAMES[variant][0] for variant in (*drawn, *others)]
        absent = segmenter(scene.image, prompts).absent
        accepted += (~absent[: len(drawn)]).tolist()
        rejected += absent[len(drawn) :].tolist()
    assert len(accepted) > 40 and len(rejected) > 40
    assert np.mean(accepted) > 0.6 and np.mean(rejected) > 0.6
