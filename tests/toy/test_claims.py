"""Measurements of experiments/toy_claims.py, on models with known predictions."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from datamodules.toy.language.words import PROPERTY_SENTENCES, kind_name, properties_of
from datamodules.toy.scenes.kinds import PASCAL_KINDS, UNNAMED_KINDS
from datamodules.toy.scenes.scene import draw_scene
from experiments import toy_claims


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(np.random.default_rng((5, index)), 64) for index in range(24)]


def model(scenes, matches):
    """Return a segmenter that marks the things for which `matches(thing, prompt)` is true."""
    by_image = {scene.image.tobytes(): scene for scene in scenes}

    def segment(image, prompts):
        things = by_image[image.tobytes()].things
        masks = [
            np.any([t.mask for t in things if matches(t, prompt)] or [things[0].mask * 0], 0)
            for prompt in prompts
        ]
        return SimpleNamespace(probability=np.array(masks, np.float32))

    return segment


def own_phrase(thing, prompt):
    return prompt == f"{thing.colour} {toy_claims._name(thing)}"


def test_perfect_model_scores_near_1_with_own_phrases_and_0_with_those_of_other_things(scenes):
    found = toy_claims.prompt_sensitivity(model(scenes, own_phrase), scenes)
    assert found["own phrase"]["miou@0.3"] > 0.97  # below 1: IoU adds 1 pixel to the union
    assert found["another's phrase"]["miou@0.3"] == 0
    assert found["own phrase"]["prompts"] == found["another's phrase"]["prompts"] > 20


def test_model_that_ignores_prompts_scores_the_area_share_of_each_thing(scenes):
    found = toy_claims.prompt_sensitivity(model(scenes, lambda *_: True), scenes)
    assert len({numbers["miou@0.3"] for numbers in found.values()}) == 1
    shares = [
        thing.mask.sum() / (1 + sum(other.mask.sum() for other in scene.things))
        for scene in scenes
        if len(scene.things) > 1
        for thing in scene.things
        if len({(t.colour, toy_claims._name(t)) for t in scene.things}) == len(scene.things)
    ]
    assert found["own phrase"]["miou@0.3"] == pytest.approx(np.mean(shares), abs=1e-4)


GROUPS = {
    "fold 0": ("aeroplane", "bicycle", "bird", "boat", "bottle"),
    "other Pascal kinds": PASCAL_KINDS[5:],
    "invented kinds, never named": UNNAMED_KINDS,
}


@pytest.mark.parametrize("marked", [*GROUPS, "invented kinds"])
def test_groups_of_kinds_are_evaluated_separately(scenes, marked):
    groups = {kind: group for group, kinds in GROUPS.items() for kind in kinds}

    def group_of(thing):
        return groups.get(thing.kind, "invented kinds")

    def of_group(thing, prompt):
        own = f"a photo of a {kind_name(thing.kind)}."
        return prompt == own and group_of(thing) == marked

    found = toy_claims.kinds(model(scenes, of_group), scenes)
    assert found.keys() == {*GROUPS, "invented kinds"}
    for group, numbers in found.items():
        pairs = [{t.kind for t in scene.things if group_of(t) == group} for scene in scenes]
        assert numbers["prompts"] == sum(map(len, pairs)) > 2
        assert numbers["miou@0.3"] > 0.97 if group == marked else numbers["miou@0.3"] == 0


def test_properties_are_scored_on_the_things_to_which_they_apply(scenes):
    prompt_of = {text: prompt for prompt, text in toy_claims.PROMPTS.items()}
    assert set(toy_claims.PROMPTS) == set(PROPERTY_SENTENCES)
    found = toy_claims.properties(
        model(scenes, lambda thing, text: prompt_of[text] in properties_of(thing.parts)), scenes
    )
    for text in ("something to sit on", "it can fly", "has wheels"):
        assert found[text]["miou@0.3"] > 0.97 > found[text]["all things (floor)"]


def test_summary_has_mean_minimum_and_maximum():
    found = toy_claims.summary([{"a": {"b": 1.0}}, {"a": {"b": 2.0}}, {"a": {"b": 6.0}}])
    assert found == {"a": {"b": {"mean": 3.0, "min": 1.0, "max": 6.0}}}


def test_measure_collects_metrics_of_runs_and_scenes(scenes, tmp_path, monkeypatch):
    metrics = ("miou@0.3", "miou@best", "ap", "ap_exact")
    loaded = []

    def fit(name, seed, runs):
        folder = runs / f"{name}-{seed}"
        (folder / "results").mkdir(parents=True)
        numbers = {
            f"val/{prompt_type}/{m}": len(name)
            for prompt_type in ("text", "visual")
            for m in metrics
        }
        content = {"metrics": numbers, "seconds": 7.0}
        (folder / "results" / "fit-x.json").write_text(json.dumps(content))
        return folder

    def from_pretrained(file):
        loaded.append(file)
        return model(scenes, own_phrase)

    monkeypatch.setattr(toy_claims, "fit", fit)
    monkeypatch.setattr(toy_claims, "Segmenter", SimpleNamespace(from_pretrained=from_pretrained))
    found = toy_claims.measure(4, tmp_path, scenes)
    assert loaded == [tmp_path / f"{n}-4/checkpoints/last.ckpt" for n in ("toy", "without_fold_0")]
    assert found["untrained"] == {f"{p}/{m}": 9 for p in ("text", "visual") for m in metrics} | {
        "seconds": 7.0
    }
    assert found["listening"]["own phrase"]["miou@0.3"] > 0.97
    assert toy_claims.kinds(from_pretrained(None), [])["fold 0"] == {"prompts": 0}
