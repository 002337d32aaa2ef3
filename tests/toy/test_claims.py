"""Measurements of experiments/toy_claims.py, on models with known predictions."""

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


def test_models_are_found_by_the_name_and_seed_of_their_training(scenes, tmp_path, monkeypatch):
    names = ["pc_plus-a1", "pc_plus+seed=4-b2", "pc_plus+without_fold_0-c3", "pc_plus+dim_16-d4"]
    for name in names:
        (tmp_path / name / "results").mkdir(parents=True)
        (tmp_path / name / "results" / "fit-x.json").write_text('{"step": 1400}')
    (tmp_path / "pc_plus+without_fold_0+seed=4-e5").mkdir()  # not finished
    assert toy_claims.find_run(tmp_path, "pc_plus", 0).name == names[0]
    assert toy_claims.find_run(tmp_path, "pc_plus", 4).name == names[1]
    folders = {name: toy_claims.find_run(tmp_path, name, 0) for name in toy_claims.MODELS}
    loaded = []

    def from_pretrained(file):
        loaded.append(file.parents[1].name)
        return model(scenes, own_phrase)

    monkeypatch.setattr(toy_claims, "Segmenter", SimpleNamespace(from_pretrained=from_pretrained))
    found = toy_claims.measure(folders, scenes)
    assert loaded == [names[0], names[2]]
    assert found["prompt sensitivity"]["own phrase"]["miou@0.3"] > 0.97
    assert toy_claims.kinds(model(scenes, own_phrase), [])["fold 0"] == {"prompts": 0}
    with pytest.raises(SystemExit, match=r"0 finished trainings pc_plus\+without_fold_0\+seed=4 "):
        toy_claims.find_run(tmp_path, "without_fold_0", 4)
    (tmp_path / names[0]).rename(tmp_path / "pc_plus-f6")
    (tmp_path / names[3]).rename(tmp_path / "pc_plus-g7")
    with pytest.raises(SystemExit, match="2 finished trainings pc_plus instead of one"):
        toy_claims.find_run(tmp_path, "pc_plus", 0)
