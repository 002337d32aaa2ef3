"""Toy custom dataset: the tables match the drawn scenes."""

import numpy as np
import pytest

from datamodules.datasets.image_folder import ImageFolder
from datamodules.datasets.table_files import read_table
from datamodules.toy.language.words import kind_name
from datamodules.toy.scenes.kinds import PASCAL_KINDS
from datamodules.toy.writers.folder import build_folders
from datamodules.toy.writers.own import draw_own, own_request, properties

COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    return build_folders(root, own_request({"all": COUNT}, 3), progress=False)


def by_kind(scene):
    names = [kind_name(thing.kind) for thing in scene.things]
    return {
        name: np.any([t.mask for t, n in zip(scene.things, names, strict=True) if n == name], 0)
        for name in names
    }


@pytest.mark.parametrize(
    ("table", "drawn"), [("phrases.csv", properties), ("classes.jsonl", by_kind)]
)
def test_tables_match_the_scenes(folder, table, drawn):
    source = ImageFolder(read_table(folder / table, folder, folder))
    found = {}
    for task in range(len(source)):
        photo = int(source.name(task).removeprefix("images_").partition("__")[0])
        found[photo - 1, source.phrases[source.phrase(task)]] = source.mask(task)
    expected = {
        (index, phrase): mask
        for index in range(COUNT)
        for phrase, mask in drawn(draw_own(3, index)).items()
    }
    assert found.keys() == expected.keys() and len(found) > COUNT
    assert all(np.array_equal(found[key], mask) for key, mask in expected.items())


def test_property_masks_cover_all_matching_things(folder):
    for index in range(COUNT):
        scene = draw_own(3, index)
        wheels = ("car", "bus", "bicycle", "motorbike")
        wheeled = [thing.mask for thing in scene.things if thing.kind in wheels]
        if wheeled:
            assert np.array_equal(properties(scene)["something with wheels"], np.any(wheeled, 0))
        else:
            assert "something with wheels" not in properties(scene)
        assert all(phrase.startswith("something ") for phrase in properties(scene))


def test_scenes_show_pascals_kinds_only():
    scenes = [draw_own(3, index) for index in range(120)]
    assert {thing.kind for scene in scenes for thing in scene.things} == set(PASCAL_KINDS)


def test_unknown_split_raises():
    with pytest.raises(ValueError, match=r"unknown splits \['train'\]: own has all"):
        own_request({"train": 3}, 0)
