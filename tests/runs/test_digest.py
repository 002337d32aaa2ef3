"""What makes two results the same."""

import json

import pytest

from clipseg_pl.runs.tables.evidence import backbone_digest, evaluation_digest, training_digest

FIT = {
    "seed_everything": 0,
    "model": {
        "backbone": {"class_path": "a.CLIPBackbone", "init_args": {"name": "own", "text_cache": 9}},
        "optimizer": {"init_args": {"lr": 0.1, "fused": None}},
        "protocol": {"init_args": {"readings": ["text"]}},
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
    "trainer": {"max_steps": 5, "devices": "auto", "limit_val_batches": None, "precision": None},
}


def changed(**leaves):
    """The config with leaves set by their last name."""

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
        {"precision": "16-mixed"},
        {"devices": 4},
        {"class_path": "a.Other"},
    ],
)
def test_what_decides_a_training_changes_its_digest(leaves):
    assert training_digest(changed(**leaves), "1") != training_digest(FIT, "1")


@pytest.mark.parametrize(
    "leaves",
    [
        {"root": "there"},
        {"num_workers": 0},
        {"text_cache": 1},
        {"readings": ["visual"]},
        {"compile": True},
        {"limit_val_batches": 0},
    ],
)
def test_what_does_not_decide_it_does_not(leaves):
    assert training_digest(changed(**leaves), "1") == training_digest(FIT, "1")


def test_settings_that_a_library_adds_and_leaves_empty_do_not():
    more = json.loads(json.dumps(FIT))
    more["model"]["optimizer"]["init_args"]["differentiable"] = None
    assert training_digest(more, "1") == training_digest(FIT, "1")


def test_an_evaluation_is_of_its_checkpoint_its_data_and_its_protocol():
    base = evaluation_digest("a", FIT)
    for same in ({"lr": 0.2}, {"max_steps": 6}, {"batch_size": 4}, {"class_path": "a.Other"}):
        assert evaluation_digest("a", changed(**same)) == base
    for other in ({"readings": ["visual"]}, {"negative_prob": 0.5}, {"limit_val_batches": 2}):
        assert evaluation_digest("a", changed(**other)) != base
    assert evaluation_digest("b", FIT) != base


@pytest.mark.parametrize("digest", [training_digest, backbone_digest])
def test_world_and_weights_of_ones_own_count_by_their_content(digest, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    (tmp_path / "own.pt").write_bytes(b"a")
    found = [digest(FIT, "1"), digest(FIT, "2")]  # a published name: the file may lie anywhere
    (tmp_path / "own.json").write_text("{}")
    found.append(digest(FIT, "1"))
    (tmp_path / "own.pt").write_bytes(b"other")
    found.append(digest(FIT, "1"))
    (tmp_path / "own_vocabulary.json").write_text("[]")
    found.append(digest(FIT, "1"))
    assert len(set(found)) == len(found)


def test_published_weights_count_by_their_name(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    before = training_digest(FIT, "1")
    (tmp_path / "own.safetensors").write_bytes(b"a")
    assert training_digest(FIT, "1") == before


def test_a_vits_own_weights_count_for_vits_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    vit = changed(class_path="a.ViTBackbone")
    before = training_digest(FIT, "1"), training_digest(vit, "1")
    (tmp_path / "own_vit.json").write_text("{}")
    assert training_digest(FIT, "1") == before[0] and training_digest(vit, "1") != before[1]


def test_weights_to_start_from_count_by_their_content(tmp_path):
    file = tmp_path / "start.pth"
    file.write_bytes(b"a")
    first = training_digest(changed(init_decoder=str(file)), "1")
    file.write_bytes(b"other")
    second = training_digest(changed(init_decoder=str(file)), "1")
    assert len({first, second, training_digest(FIT, "1")}) == 3
