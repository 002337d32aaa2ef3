"""Photos with label maps: one value per pixel, which stands for a class."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from clipseg_pl.images import RGB, UnreadableImageError, load_photo, to_tensor
from clipseg_pl.photo_files import ENDINGS
from clipseg_pl.prompts.visual import Mask
from clipseg_pl.sample import NO_CLASS, Classes, Prompt, Sample
from datamodules.datasets.annotations import class_phrase
from datamodules.datasets.coco_photos import coco_ids
from datamodules.datasets.files import DatasetNotFoundError, read_yaml
from datamodules.datasets.labelled import check_names, read_list
from datamodules.datasets.own_masks import OwnMasks, check_files, read_label_map
from datamodules.datasets.pascal_context import paint_label_maps
from datamodules.datasets.phrase_table import PhraseTable, Rows, Strings, slug, unique_names
from datamodules.datasets.transforms import PairedResize

Values = list[int] | Literal["unnamed"]
"""values of label maps; "unnamed" for all values that are listed nowhere else"""
ClassIds = npt.NDArray[np.int16]
"""(H, W), class ids, or `NO_CLASS` for pixels to ignore"""

BACKGROUND = "background"
"""name of the background class"""
NAMES_FILE = Path(__file__).with_name("label_names.json")
_UNNAMED = -2  # stands for the class id of values without a name
_LISTED = 5  # values or names in a message
_HINT = "write value: name, or value: [name, another name]"
_ABSENT = "classes that are in no label map"
_UNUSED = "photos without a label map"


class PublishedLabels(NamedTuple):
    """Labels of a published dataset."""

    names: dict[int, str]
    """value -> name"""
    photos: int
    """number of validation photos"""


@cache
def published_labels() -> dict[str, PublishedLabels]:
    """Load the labels of the published datasets."""
    content = json.loads(NAMES_FILE.read_text())["datasets"]
    return {
        key: PublishedLabels({int(value): name for value, name in labels.items()}, photos)
        for key, (photos, labels) in content.items()
    }


def read_names(setting: Mapping[int, Any] | str, root: Path) -> dict[int, tuple[str, ...]]:
    """Read the names of the values in label maps.

    Args:
        setting: value -> name or list of names; or the key of a published dataset; or a YAML or
            JSON file with such a mapping.
        root: folder that the file is relative to.

    Returns:
        Value -> its names. The first one is the name of the class.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if the mapping is malformed.
    """
    where, content = "classes", setting
    if isinstance(setting, str):
        if setting in published_labels():
            return {value: (name,) for value, name in published_labels()[setting].names.items()}
        file = root / Path(setting).expanduser()
        if not file.is_file():
            raise FileNotFoundError(
                f"classes: {setting!r} is neither a published dataset "
                f"({', '.join(published_labels())}) nor a file below {root}"
            )
        where, content = str(file), read_yaml(file)  # type: ignore[assignment]  # checked below
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{where}: not a mapping from values to names; {_HINT}")
    found = {}
    for value, names in content.items():
        listed = [names] if isinstance(names, str) else names
        if not (
            isinstance(listed, list)
            and listed
            and all(isinstance(name, str) and name.strip() for name in listed)
        ):
            raise ValueError(f"{where}: value {value} has the names {names!r:.60}; {_HINT}")
        if not str(value).isdecimal():
            raise ValueError(f"{where}: {value!r:.60} is not a value of a label map; {_HINT}")
        if int(value) in found:
            raise ValueError(f"{where}: value {int(value)} occurs twice")
        found[int(value)] = tuple(dict.fromkeys(listed))
    return found


class LabelClasses:
    """Classes of label maps.

    Values with the same first name are one class. The ids of the classes are in the order of
    `names`, after the background.

    Args:
        names: value -> names of its class, see `read_names`.
        ignore: values of pixels to ignore.
        background: values of the background, which is class 0; None if it is not a class.
        background_prompt: prompt for the background. By default it has none, see `Classes`.

    Raises:
        ValueError: if a value is in two of `names`, `ignore` and `background`, or a name belongs to
            two classes.
    """

    def __init__(
        self,
        names: Mapping[int, Sequence[str]],
        ignore: Values,
        background: Values | None,
        background_prompt: str | None = None,
    ) -> None:
        """Assign the class ids."""
        if background is None and background_prompt is not None:
            raise ValueError("background_prompt is set, but no value is background: set background")
        if ignore == "unnamed" and background == "unnamed":
            raise ValueError("ignore and background are both `unnamed`: list the values of one")
        phrasings: dict[str, tuple[str, ...]] = {}
        if background is not None:
            prompts = () if background_prompt is None else (class_phrase(background_prompt),)
            phrasings[BACKGROUND] = prompts
        for first, *others in names.values():
            words = tuple(dict.fromkeys(map(class_phrase, (first, *others))))
            if phrasings.setdefault(first, words) != words:
                raise ValueError(
                    f"classes: two values are named {first!r}, but their lists of names or their "
                    "roles differ; give them the same list to join them, or another name"
                )
        owner: dict[str, str] = {}
        for name, words in phrasings.items():
            for phrase in words:
                if not phrase:
                    raise ValueError(f"classes: {name!r} has a name without words")
                if owner.setdefault(phrase, name) != name:
                    raise ValueError(
                        f"classes: {phrase!r} is a name of both {owner[phrase]!r} and {name!r}"
                    )
        self.info = Classes(tuple(phrasings), phrasings=tuple(phrasings.values()))
        """names and phrasings"""
        ids = {name: number for number, name in enumerate(phrasings)}
        given = [(value, ids[words[0]], "classes") for value, words in names.items()]
        for setting, values, number in (
            ("ignore", ignore, NO_CLASS),
            ("background", background, ids.get(BACKGROUND, 0)),
        ):
            given += [(value, number, setting) for value in values or () if values != "unnamed"]  # type: ignore[misc]
        rest = NO_CLASS if ignore == "unnamed" else 0 if background == "unnamed" else _UNNAMED
        roles: dict[int, str] = {}
        self._ids = np.full(max(value for value, *_ in given) + 2, rest, np.int16)
        for value, number, setting in given:
            if value < 0:
                raise ValueError(f"{setting}: {value} is not a value of a label map")
            if roles.setdefault(value, setting) != setting:
                raise ValueError(f"value {value} is in both {roles[value]} and {setting}")
            self._ids[value] = number

    def ids(self, values: npt.NDArray[Any]) -> ClassIds:
        """Convert values of label maps to class ids; `NO_CLASS` for pixels to ignore."""
        # the last entry stands for all larger values
        places = np.minimum(values.astype(np.int64), len(self._ids) - 1)
        return np.asarray(self._ids[places])


class LabelFiles(NamedTuple):
    """Photos and their label maps."""

    images: Path
    labels: Path
    """folders that names are relative to"""
    photos: list[str]
    maps: list[str]
    """names of the files, in the same order"""
    unused: int = 0
    """number of photos without a label map; not counted (0) if a list or JSON file selects them"""


def find_label_maps(
    images: Path,
    labels: Path,
    photo_list: Path | None,
    image_suffix: str,
    label_suffix: str,
    split: str,
) -> LabelFiles:
    """List label maps and their photos.

    Args:
        images: folder of the photos, searched with its subfolders.
        labels: folder of the label maps with the same subfolders; or Pascal Context's JSON.
        photo_list: text file with a name per line, without suffix; by default all label maps of the
            folder are used.
        image_suffix: end of the file name of a photo after the part that its label map shares; ""
            for the ending of any image format.
        label_suffix: the same for label maps.
        split: split of the JSON file.

    Raises:
        DatasetNotFoundError: if a folder or the list is missing, or there is no label map.
        ValueError: if a list or JSON is malformed, or two photos belong to one label map.
    """
    found = [(images, images.is_dir()), (photo_list or labels, (photo_list or labels).exists())]
    missing = [str(path) for path, exists in (*found, (labels, labels.exists())) if not exists]
    if missing:
        raise DatasetNotFoundError(f"no such file or folder: {', '.join(dict.fromkeys(missing))}")
    listed = photo_list is not None or labels.suffix == ".json"
    if labels.suffix == ".json":
        labels, label_suffix = paint_label_maps(labels, split), ".png"
    if photo_list is not None:
        names = list(dict.fromkeys(read_list(photo_list, "the photo list", "")))
        check_names(photo_list, names)
    else:
        files = sorted(labels.rglob(f"*{label_suffix}"))
        names = [str(file.relative_to(labels))[: -len(label_suffix)] for file in files]
    if not names:
        raise DatasetNotFoundError(f"{photo_list or labels}: no label maps (*{label_suffix})")
    photo_of = {name: f"{name}{image_suffix or '.jpg'}" for name in names}
    every = {str(file.relative_to(images)) for file in images.rglob(f"*{image_suffix}")}
    if images == labels:
        every -= {f"{name}{label_suffix}" for name in names}
    if not image_suffix:
        every = {name for name in every if Path(name).suffix.lower() in ENDINGS}
        stems = defaultdict[str, list[str]](list)
        for name in sorted(every):
            stems[str(Path(name).with_suffix(""))].append(name)
        for name in names:
            if len(stems[name]) > 1:
                raise ValueError(
                    f"{images}: {' and '.join(stems[name])} belong to one label map; rename one"
                )
            photo_of[name] = next(iter(stems[name]), photo_of[name])
    unused = 0 if listed else len(every - set(photo_of.values()))
    maps = [f"{name}{label_suffix}" for name in names]
    return LabelFiles(images, labels, list(photo_of.values()), maps, unused)


class LabelMaps:
    """Photos and label maps, all of which are checked once; the results are cached.

    Args:
        files: photos and label maps.
        classes: classes of the values.

    Raises:
        DatasetNotFoundError: if photos or label maps are missing.
        UnreadableImageError: if a label map is unreadable or has colours.
        ValueError: if the size of a label map differs from its photo's, a value has no name, or no
            class is in any label map.
    """

    def __init__(self, files: LabelFiles, classes: LabelClasses) -> None:
        """Read all label maps, or the cached results."""
        self.files, self.classes = files, classes
        photos, every = Strings.pack(files.photos), np.arange(len(files.photos))
        masks = OwnMasks(files.labels, Strings.pack(files.maps), every, np.zeros_like(every))
        self.sizes, _, stored = check_files(files.labels, files.images, photos, every, masks)
        file, value = stored.T
        number = classes.ids(value).astype(np.int64)
        self._reject_unnamed(file[number == _UNNAMED], value[number == _UNNAMED])
        named = number != NO_CLASS
        self.present = np.unique(np.stack([file, number], 1)[named], axis=0)
        """(n, 2) int64, label map and class id, for each class in a label map"""
        occurs = np.unique(self.present[:, 1])
        names = classes.info.names
        if not len(occurs):
            values = ", ".join(map(str, np.unique(value)[:_LISTED]))
            raise ValueError(f"{files.labels}: no class is in any label map; values: {values}")
        self.absent = [names[place] for place in np.setdiff1d(np.arange(len(names)), occurs)]
        """names of the classes that are in no label map"""
        counts = {_ABSENT: len(self.absent), _UNUSED: files.unused}
        self.skipped = {reason: count for reason, count in counts.items() if count}
        """reason -> count"""

    def _reject_unnamed(self, file: Rows, value: Rows) -> None:
        if not len(file):
            return
        values, counts = np.unique(value, return_counts=True)
        pairs = zip(values[:_LISTED].tolist(), counts[:_LISTED].tolist(), strict=True)
        listed = ", ".join(f"{value} (in {count})" for value, count in pairs)
        more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
        raise ValueError(
            f"{self.files.labels}: {len(np.unique(file))} of {len(self)} label maps have values "
            f"without a name: {listed}{more}; first: {self.files.maps[file[0]]}; add them to "
            "classes, ignore or background"
        )

    def __len__(self) -> int:
        """Return the number of label maps."""
        return len(self.files.maps)

    def image(self, number: int) -> RGB:
        """Read a photo, (H, W, 3) uint8, after EXIF orientation.

        Raises:
            UnreadableImageError: if the file is unreadable or its size has changed.
        """
        file = self.files.images / self.files.photos[number]
        photo = load_photo(file)
        self._reject_changed(number, file, photo.shape[:2])
        return photo

    def ids(self, number: int) -> ClassIds:
        """Read a label map as class ids; raises the errors of `image`."""
        file = self.files.labels / self.files.maps[number]
        ids = self.classes.ids(read_label_map(file))
        self._reject_changed(number, file, ids.shape)
        return ids

    def _reject_changed(self, number: int, file: Path, size: tuple[int, ...]) -> None:
        if size != tuple(self.sizes[number]):
            raise UnreadableImageError(f"{file}: size has changed since it was checked")


class LabelMapDataset(Dataset[Sample]):
    """Samples for evaluation, one per photo, indexed by (epoch, photo); the epoch is ignored.

    A sample has a prompt for each phrasing of each class. Their target is the label map, at the
    size of its file. The photo is squashed to a square.

    Args:
        maps: photos and label maps.
        form: template of the text prompt, "{}" for the phrase.
        image_size: side of the square in pixels.
    """

    def __init__(self, maps: LabelMaps, form: str, image_size: int) -> None:
        """Prepare the prompts."""
        self.maps, self.resize = maps, PairedResize(image_size)
        self.coco_ids = coco_ids(maps.files.photos)
        phrasings = maps.classes.info.phrasings
        pairs = [(number, phrase) for number, words in enumerate(phrasings) for phrase in words]
        self._names = unique_names(slug(phrase) for _, phrase in pairs)
        self._photos = unique_names(
            slug(str(Path(name).with_suffix(""))) for name in maps.files.photos
        )
        no_mask = torch.empty(1, 0, 0, dtype=torch.bool)
        self._prompts = [
            Prompt(
                prompt_id="",
                query_mask=no_mask,
                valid_mask=no_mask,
                phrase=phrase,
                text_prompt=form.replace("{}", phrase),
                supports=[],
                mix_weight=1.0,
                class_id=number,
                negative=False,
            )
            for number, phrase in pairs
        ]

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.maps)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Load the sample of a photo."""
        number = key[1]
        photo, photo_id = self.maps.image(number), self._photos[number]
        prompts = [
            Prompt(**{**prompt, "prompt_id": f"{photo_id}__{name}"})
            for prompt, name in zip(self._prompts, self._names, strict=True)
        ]
        return Sample(
            query_image=to_tensor(self.resize.image(photo)),
            query_size=(photo.shape[0], photo.shape[1]),
            prompts=prompts,
            label_map=torch.from_numpy(self.maps.ids(number))[None],
        )


class LabelMapTasks(PhraseTable):
    """Tasks for training: one for each class in each label map.

    Label maps with a background without a prompt, and nothing else, are photos without annotations.

    Args:
        maps: photos and label maps.
    """

    def __init__(self, maps: LabelMaps) -> None:
        """List the tasks; a background without a prompt has none."""
        phrasings = maps.classes.info.phrasings
        asked = np.array([bool(words) for words in phrasings])
        self.maps = maps
        pairs = maps.present[asked[maps.present[:, 1]]]
        used, phrase = np.unique(pairs[:, 1], return_inverse=True)
        self._phrasings = [tuple(phrasings[number]) for number in used.tolist()]
        clean = np.setdiff1d(maps.present[:, 0], pairs[:, 0])
        phrase = np.append(phrase, np.full_like(clean, -1))
        nothing = np.full_like(clean, len(phrasings))  # the id of no class
        self.pairs = np.concatenate([pairs, np.column_stack([clean, nothing])])
        ids = coco_ids(maps.files.photos)[self.pairs[:, 0]]
        super().__init__([words[0] for words in self._phrasings], phrase, self.pairs[:, 0], ids)
        photos = [slug(str(Path(name).with_suffix(""))) for name in maps.files.photos]
        names = (f"{photos[photo]}__{number:03}" for photo, number in self.pairs.tolist())
        self._names = Strings.pack(unique_names(names))

    def phrasings(self, phrase: int) -> Sequence[str]:
        """Return all phrasings of a phrase. The first is the one in `phrases`."""
        return self._phrasings[int(self.phrase_ids[phrase])]

    def read_name(self, row: int) -> str:
        """Return a unique name made of photo and class id."""
        return self._names[row]

    def read_image(self, row: int) -> RGB:
        """Read the photo of a row, (H, W, 3) uint8; raises the errors of `LabelMaps.image`."""
        return self.maps.image(int(self.pairs[row, 0]))

    def read_mask(self, row: int) -> Mask:
        """Read the pixels of the class, (H, W) bool."""
        photo, number = self.pairs[row].tolist()
        return np.asarray(self.maps.ids(photo) == number)

    def read_valid(self, row: int) -> Mask:
        """Read the pixels that are not ignored, (H, W) bool."""
        return np.asarray(self.maps.ids(int(self.pairs[row, 0])) != NO_CLASS)
