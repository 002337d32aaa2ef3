"""Choice of what to exclude from training: phrases about held-out classes, and evaluated photos."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from datamodules.datasets import coco_20i, refcoco_files
from datamodules.datasets.class_words import AuthorsRule, WholeWords, class_words
from datamodules.datasets.coco_photos import coco_ids
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.lvis import LVIS
from datamodules.datasets.pascal_5i import fold_classes, unseen_classes
from datamodules.datasets.phrase_table import Rows

HeldOut = Literal[
    "fold_0",
    "fold_1",
    "fold_2",
    "fold_3",
    "unseen_2",
    "unseen_4",
    "unseen_6",
    "unseen_8",
    "unseen_10",
    "affordances",
]
Rule = Literal["mended", "paper"]

AFFORDANCE_WORDS: tuple[str, ...] = tuple(
    "drink drinks drinking sit sits sitting ride rides riding fly flies flying drive drives "
    "driving driven swim swims swimming wheels wheel legs leg ear ears".split()
)
"""words of the generalised prompts ("sit on"; paper, Table 8), from the authors' code"""
_MORE_FORMS = "drank drunk sat rode ridden flew flown drove swam swum wheeled legged eared".split()


@dataclass(frozen=True)
class Exclusion:
    """Phrases to exclude from training.

    Args:
        held_out: the classes or words to exclude: a fold of Pascal-5i, the unseen classes of
            generalised zero-shot segmentation, or the words of the generalised prompts. None
            excludes nothing.
        rule: how a phrase is matched. "mended" excludes phrases that contain a name of the class
            as a whole word, in singular or plural and in any case. The names are made by
            `datamodules.datasets.build.class_words`. (The value "mended" is hashed into the
            digests of committed results and therefore cannot be renamed.) "paper" is the authors'
            filter, for numbers comparable to theirs. It also excludes phrases with "gray" (in
            WordNet, a horse) or "counter" (in WordNet, a table), and misses "potted plant", "men"
            and "kitten". See docs/deviations.md (exclusion).

    Raises:
        ValueError: if `held_out` or `rule` is unknown.

    Reference: paper, Tables 4, 5, 7 and 8.
    """

    held_out: HeldOut | None = None
    rule: Rule = "mended"

    def __post_init__(self) -> None:
        """Reject unknown values, which only the command line's parser would check otherwise."""
        if self.held_out not in (None, *get_args(HeldOut)):
            known = ", ".join(get_args(HeldOut))
            raise ValueError(f"exclusion.held_out must be one of {known}, not {self.held_out!r}")
        if self.rule not in get_args(Rule):
            known = ", ".join(get_args(Rule))
            raise ValueError(f"exclusion.rule must be one of {known}, not {self.rule!r}")

    @property
    def names(self) -> list[str]:
        """VOC's names of the held-out classes, or the held-out affordance words."""
        if self.held_out is None:
            return []
        if self.held_out == "affordances":
            return list(AFFORDANCE_WORDS)
        kind, number = self.held_out.split("_")
        return list((fold_classes if kind == "fold" else unseen_classes)(int(number)))

    def phrase_filter(self) -> Callable[[str], bool]:
        """Return a function that is true for phrases to exclude."""
        if self.held_out == "affordances":
            if self.rule == "paper":
                return AuthorsRule((), AFFORDANCE_WORDS)
            return WholeWords((*AFFORDANCE_WORDS, *_MORE_FORMS))
        lists = [class_words()[name] for name in self.names]

        def joined(key: str) -> list[str]:
            return [word for words in lists for word in words[key]]

        if self.rule == "paper":
            return AuthorsRule(joined("lemmas"), joined("tokens"))
        return WholeWords(joined("names"), joined("spared"))


def _lvis_photos(root: Path) -> Rows:
    lvis = LVIS(root, ["val"])
    return lvis.coco_ids(lvis.images)


def _coco_stuff_photos(root: Path) -> Rows:
    folder = root / "coco-stuff" / "images" / "val2017"
    ids = coco_ids(file.name for file in folder.glob("*"))
    if not (ids >= 0).any():
        raise DatasetNotFoundError(f"COCO-Stuff not found: no photos in {folder}")
    return ids


EVALUATED_PHOTOS: dict[str, Callable[[Path], Iterable[int]]] = {
    "coco_20i": coco_20i.evaluated_photos,
    "lvis": _lvis_photos,
    "coco_stuff_171": _coco_stuff_photos,
    **{name: partial(refcoco_files.evaluated_photos, name) for name in refcoco_files.PARTITIONS},
}
"""benchmark on COCO photos -> function that takes the root of the datasets and returns the COCO ids
of the photos in all of its evaluated splits"""


def photos_of(benchmarks: Sequence[str], root: Path) -> Rows:
    """Return the COCO ids of the evaluated photos of benchmarks, (photos,) int64, sorted.

    Args:
        benchmarks: names in `EVALUATED_PHOTOS`.
        root: folder that contains the datasets of the benchmarks.

    Raises:
        DatasetNotFoundError: if a benchmark is missing.
    """
    ids = np.unique([number for name in benchmarks for number in EVALUATED_PHOTOS[name](root)])
    return ids[ids >= 0].astype(np.int64)
