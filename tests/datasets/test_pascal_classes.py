"""Class names, folds and unseen classes of Pascal VOC."""

import pytest

from datamodules.datasets.pascal_5i import (
    VOC_CLASSES,
    ZERO_SHOT_CLASSES,
    fold_classes,
    unseen_classes,
)


def test_names_are_at_the_index_of_their_label():
    assert len(VOC_CLASSES) == 20 and len(ZERO_SHOT_CLASSES) == 21
    labels = {"airplane": 1, "bottle": 5, "cow": 10, "person": 15, "tvmonitor": 20}
    assert {name: ZERO_SHOT_CLASSES.index(name) for name in labels} == labels
    assert ZERO_SHOT_CLASSES[0] == "background"
    assert [a for a, b in zip(ZERO_SHOT_CLASSES[1:], VOC_CLASSES, strict=True) if a != b] == [
        "airplane"
    ]


def test_folds_partition_the_classes_in_order():
    assert fold_classes(0) == ("aeroplane", "bicycle", "bird", "boat", "bottle")
    assert fold_classes(3) == ("pottedplant", "sheep", "sofa", "train", "tvmonitor")
    assert sum((fold_classes(fold) for fold in range(4)), ()) == VOC_CLASSES


@pytest.mark.parametrize(
    ("count", "labels"),
    [
        (2, {10, 14}),
        (4, {1, 10, 14, 18}),
        (6, {1, 8, 10, 14, 18, 20}),
        (8, {1, 5, 8, 10, 14, 18, 19, 20}),
        (10, {1, 5, 8, 9, 10, 14, 16, 18, 19, 20}),
    ],
)
def test_unseen_sets_are_those_of_joem(count, labels):
    """JoEm is the zero-shot method of Baek et al., ICCV 2021."""
    assert {VOC_CLASSES.index(name) + 1 for name in unseen_classes(count)} == labels


def test_unseen_sets_are_nested():
    assert all(unseen_classes(10)[:count] == unseen_classes(count) for count in (2, 4, 6, 8, 10))


@pytest.mark.parametrize("fold", [-1, 4])
def test_unknown_folds_raise(fold):
    with pytest.raises(ValueError, match=f"fold must be 0 to 3, not {fold}"):
        fold_classes(fold)


@pytest.mark.parametrize("count", [0, 3, 5, 12])
def test_unknown_unseen_sets_raise(count):
    with pytest.raises(ValueError, match=f"must be one of 2, 4, 6, 8, 10, not {count}"):
        unseen_classes(count)
