"""Digests change with the settings that affect a result, and only with those."""

import json

import pytest

from clipseg_pl.runs.tables.stored_results import (
    backbone_digest,
    evaluation_digest,
    training_digest,
)

FIT = {
    "seed_everything": 0,
    "model": {
        "backbone": {"class_path": "a.CLIPBackbone", "init_args": {"name": "own", "text_cache": 9}},
        "optimizer": {"init_args": {"lr": 0.1, "fused": None}},
        "protocol": {"init_args": {"prompt_types": ["text"]}},
        "warmup_steps": 0,
        "loss": {"bce": 1.0, "dice": 0.0, "focal": 0.0, "focal_gamma": 2.0},
        "compile": False,
        "init_decoder": None,
    },
    "data": {
        "init_args": {
            "root": "here",
            "num_workers": 4,
            "batch_size": 8,
            "prompting": {"negative_prob": 0.2},
        }
    },
    "trainer": {
        "max_steps": 5,
        "max_epochs": None,
        "devices": "auto",
        "limit_val_batches": None,
        "precision": None,
        "callbacks": None,
    },
}


def changed(**leaves):
    """Return the config with new values for the given keys, at any depth."""

    def walk(node):
        if not isinstance(node, dict):
            return node
        return {key: leaves.get(key, walk(value)) for key, value in node.items()}

    return walk(FIT)


@pytest.mark.parametrize(
    "leaves",
    [
        {"seed_everything": 1},
        {"lr": 0.2},
        {"negative_prob": 0.5},
        {"batch_size": 4},
        {"max_steps": 6},
        {"max_epochs": 2},
        {"warmup_steps": 1},
        {"dice": 1.0},
        {"precision": "16-mixed"},
        {"devices": 4},
        {"class_path": "a.Other"},
    ],
)
def test_setting_that_affects_a_training_changes_its_digest(leaves):
    assert training_digest(changed(**leaves), "1") != training_digest(FIT, "1")


@pytest.mark.parametrize(
    "leaves",
    [
        {"root": "there"},
        {"num_workers": 0},
        {"text_cache": 1},
        {"prompt_types": ["visual"]},
        {"compile": True},
        {"limit_val_batches": 0},
    ],
)
def test_setting_that_does_not_affect_a_training_keeps_its_digest(leaves):
    assert training_digest(changed(**leaves), "1") == training_digest(FIT, "1")


def test_unset_setting_of_a_newer_library_keeps_the_digest():
    more = json.loads(json.dumps(FIT))
    more["model"]["optimizer"]["init_args"]["differentiable"] = None
    assert training_digest(more, "1") == training_digest(FIT, "1")


@pytest.mark.parametrize("name", ["EarlyStopping", "clipseg_pl.training.callbacks.ema.WeightEMA"])
def test_callback_that_changes_the_weights_changes_the_digest(name):
    def digest(*callbacks):
        entries = [{"class_path": path, "init_args": {"decay": 1}} for path in callbacks]
        return training_digest(changed(callbacks=entries), "1")

    assert digest() == digest("LearningRateMonitor") == training_digest(FIT, "1")
    assert digest(name) == digest("LearningRateMonitor", name) != digest()


def test_evaluation_digest_covers_checkpoint_data_and_protocol():
    base = evaluation_digest("a", FIT)
    for same in ({"lr": 0.2}, {"max_steps": 6}, {"batch_size": 4}, {"class_path": "a.Other"}):
        assert evaluation_digest("a", changed(**same)) == base
    for other in ({"prompt_types": ["visual"]}, {"negative_prob": 0.5}, {"limit_val_batches": 2}):
        assert evaluation_digest("a", changed(**other)) != base
    assert evaluation_digest("b", FIT) != base


@pytest.mark.parametrize("digest", [training_digest, backbone_digest])
def test_digest_covers_world_and_content_of_custom_weights(digest, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    (tmp_path / "own.pt").write_bytes(b"a")
    digests = [digest(FIT, "1"), digest(FIT, "2")]  # without own.json, only the name counts
    (tmp_path / "own.json").write_text("{}")
    digests.append(digest(FIT, "1"))
    (tmp_path / "own.pt").write_bytes(b"other")
    digests.append(digest(FIT, "1"))
    (tmp_path / "own_vocabulary.json").write_text("[]")
    digests.append(digest(FIT, "1"))
    assert len(set(digests)) == len(digests)


def test_digest_covers_published_weights_by_name_only(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    before = training_digest(FIT, "1")
    (tmp_path / "own.safetensors").write_bytes(b"a")
    assert training_digest(FIT, "1") == before


def test_digest_covers_custom_vit_weights_for_vit_backbones_only(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    vit = changed(class_path="a.ViTBackbone")
    before = training_digest(FIT, "1"), training_digest(vit, "1")
    (tmp_path / "own_vit.json").write_text("{}")
    assert training_digest(FIT, "1") == before[0] and training_digest(vit, "1") != before[1]


def test_digest_covers_content_of_the_initial_decoder(tmp_path):
    file = tmp_path / "start.pth"
    file.write_bytes(b"a")
    first = training_digest(changed(init_decoder=str(file)), "1")
    file.write_bytes(b"other")
    second = training_digest(changed(init_decoder=str(file)), "1")
    assert len({first, second, training_digest(FIT, "1")}) == 3
