"""Check photos with label maps: counts, values and class names."""

from collections.abc import Iterator

from clipseg_pl.doctor.findings import (
    Finding,
    State,
    combine,
    compare_published,
    explain,
    show_status,
)
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.label_maps import published_labels
from datamodules.label_maps import LabelMapsDataModule
from datamodules.toy.writers.folder import MANIFEST

_LISTED = 10
"""maximum number of names of absent classes"""


def check_label_maps(data: LabelMapsDataModule) -> Iterator[Finding]:
    """Read all label maps of both splits, and compare their number and values with the classes.

    Args:
        data: the data, before `setup`.
    """
    published = published_labels().get(str(data.class_names))
    for name in dict.fromkeys((data.val_split, data.train_split)):
        try:
            with show_status(f"reading the label maps of {name}"):
                maps = data.label_maps(name)
        except DatasetNotFoundError as error:
            if name == data.val_split:
                yield Finding("missing", name, explain(error))
            else:
                yield Finding("note", name, f"not found; only training needs it ({explain(error)})")
            continue
        except (OSError, ValueError) as error:
            yield Finding("wrong", name, explain(error))
            continue
        toy = any((folder / MANIFEST).is_file() for folder in maps.files.images.parents)
        counted = "{:,} photos"
        parts: list[tuple[State, str]] = [("ok", counted.format(len(maps)))]
        if published is not None and name == data.val_split:
            parts = [compare_published([len(maps)], [published.photos], counted, toy)]
        every, absent = len(maps.classes.info.names), maps.absent
        parts.append(("ok", f"{every - len(absent)} of {every} classes are in the label maps"))
        if absent:
            more = ", ..." if len(absent) > _LISTED else ""
            state: State = "ok" if toy else "note"
            parts.append((state, f"in none: {', '.join(absent[:_LISTED])}{more}"))
        if maps.files.unused:
            parts.append(("note", f"{maps.files.unused:,} photos have no label map"))
        yield combine(name, parts)
