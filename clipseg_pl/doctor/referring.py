"""Check RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO and RefCOCO-M."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from clipseg_pl.doctor.findings import (
    Finding,
    State,
    combine,
    compare_published,
    missing_folder,
    read_photos,
    show_status,
)
from datamodules.datasets.annotations import reasons
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.refcoco import RefCOCO
from datamodules.datasets.refcoco_files import PARTITIONS, SOURCES, Name
from datamodules.toy.writers.folder import MANIFEST

_PUBLISHED: dict[tuple[Name, str | None], tuple[int, int, int]] = {
    ("refcoco", "unc"): (142_210, 50_000, 19_994),
    ("refcoco+", "unc"): (141_564, 49_856, 19_992),
    ("refcoco-m", None): (5_598, 2_080, 1_190),
}
"""number of sentences, objects and photos (github.com/lichengunc/refer, and the dataset card of
RefCOCO-M). For RefCOCO, refer's README gives 142,209 sentences, but its splits add up to 142,210"""


def check_referring(dataset: Name, root: Path, every: bool) -> Iterator[Finding]:
    """Read all splits of a dataset of the RefCOCO family, and check its photos.

    Args:
        dataset: name of the dataset.
        root: folder that contains the dataset, and COCO2014 or images.
        every: whether to open all photos instead of `SAMPLE` of them.
    """
    if not (root / dataset).is_dir():
        yield missing_folder(root / dataset, SOURCES[dataset])
        return
    toy = (root / dataset / MANIFEST).is_file()
    for number, partition in enumerate(PARTITIONS[dataset] or (None,)):
        subject = partition or "val"
        try:
            with show_status(f"reading the annotations of {dataset}"):
                table = RefCOCO(root, dataset, None, partition)
        except DatasetNotFoundError as error:
            if not error.missing:
                yield Finding("wrong", subject, f"{error}; download them from {SOURCES[dataset]}")
            elif not number:  # other partitions are optional
                for part in error.missing:
                    yield Finding("missing", part, f"download it from {error.source}")
            continue
        except ValueError as error:
            yield Finding("wrong", subject, str(error))
            continue
        counts = len(table), table.objects, table.counts()["photos"]
        template = "{:,} sentences, {:,} objects, {:,} photos"
        published = _PUBLISHED.get((dataset, partition))
        compared: tuple[State, str] = (
            ("ok", template.format(*counts))
            if published is None
            else compare_published(counts, published, template, toy)
        )
        if table.skipped:
            compared = "note", f"{compared[1]}, skipped {reasons(table.skipped)}"
        photos = [int(tasks[0]) for tasks in table.by_photo()]
        yield combine(subject, [compared, *read_photos(photos, table.image, dataset, every)])


check_refcoco = partial(check_referring, "refcoco")
check_refcoco_plus = partial(check_referring, "refcoco+")
check_refcocog = partial(check_referring, "refcocog")
check_grefcoco = partial(check_referring, "grefcoco")
check_refcoco_m = partial(check_referring, "refcoco-m")
