"""Toy RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO and RefCOCO-M: sentences about toy COCO's photos."""

import json
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from datamodules.toy.language.captions import names_of
from datamodules.toy.language.sentences import place_of
from datamodules.toy.language.words import COLOUR_WORDS, NAMES
from datamodules.toy.scenes.kinds import PASCAL_KINDS, VARIANTS
from datamodules.toy.scenes.scene import Scene, Thing
from datamodules.toy.writers.coco import COCO_CLASSES, draw_coco
from datamodules.toy.writers.folder import Request, counts_of, describe, write_json, write_lines
from datamodules.toy.writers.pictures import outline

_FOLDERS = ("refcoco+", "refcocog", "grefcoco", "refcoco-m", "refcoco")
_SIZE = 160, 200  # height and width of toy COCO's photos in pixels
_REFCOCO = 0x4EFC0C0  # first part of every generator's seed, unique to this dataset
_PROTOCOL = 2  # pickle protocol of the published refs
_SENTENCES = 3  # maximum number of sentences of a ref; RefCOCO has 2.8 on average
_PERIOD = 10  # of ten photos, one each is in val, testA and testB
_HELD_OUT = {0: "val", 1: "testA", 2: "testB"}
_UMD = {"val": "val", "testA": "test", "testB": "test"}
_GOOGLE = {"val": "val", "testA": "val", "testB": "val"}

_Ref = dict[str, Any]


def refcoco_request(scenes: Mapping[str, int], seed: int) -> Request:
    """Return the request to build the five folders of the RefCOCO family below `<root>`.

    The photos are those of train2014 of the toy COCO2014 with the same seed and number of images,
    and are not written again. A ref is about one thing and has up to three sentences that fit no
    other thing in the photo, such as "red dog" or "dog on the left". Those of RefCOCO+ name no
    place, those of RefCOCOg are the longest. gRefCOCO also has a ref about two things and a ref
    without a target for each photo. RefCOCO-M is written as JSON Lines.

    Args:
        scenes: Split -> number of images; the only split is "train".
        seed: Equal seeds give equal files.

    Raises:
        ValueError: If `scenes` has an unknown split.
    """
    counts = counts_of(scenes, ("train",), "RefCOCO")
    fill = partial(_fill, scenes=counts["train"], seed=seed)
    return Request(_FOLDERS, describe(counts, _SIZE, seed), fill)


def sentences(scene: Scene, index: int, places: bool = True) -> list[str]:
    """Return the sentences that fit a thing and no other thing in its scene, the shortest first.

    Args:
        scene: The scene.
        index: Index of the thing in the scene.
        places: Whether sentences may name the place of the thing.
    """
    fitting = Counter(text for thing in scene.things for text in set(_descriptions(scene, thing)))
    own = dict.fromkeys(_descriptions(scene, scene.things[index], places))
    return sorted((text for text in own if fitting[text] == 1), key=lambda text: len(text.split()))


def _descriptions(scene: Scene, thing: Thing, places: bool = True) -> Iterator[str]:
    """Yield all combinations of texture, colour, name and place of a thing."""
    where = place_of(scene, thing)
    for name in names_of(thing):
        for texture in ("",) if thing.texture == "plain" else ("", thing.texture):
            for colour in ("", thing.colour):
                for place in ("", where) if where and places else ("",):
                    yield " ".join(filter(None, (texture, colour, name, place)))


def _fill(building: Path, advance: Callable[[], None], scenes: int, seed: int) -> None:
    """Draw every scene again and write its annotations."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    refs: dict[str, list[_Ref]] = {folder: [] for folder in _FOLDERS}
    rows: list[str] = []
    ids = count(1)
    for index in range(scenes):
        scene = draw_coco(seed, "train", index)
        rng = np.random.default_rng((_REFCOCO, seed, index))
        image, name = index + 1, f"COCO_train2014_{index + 1:012d}.jpg"
        height, width = _SIZE
        images.append({"id": image, "file_name": name, "height": height, "width": width})
        first = len(annotations) + 1
        annotations += [_annotation(first + k, image, t) for k, t in enumerate(scene.things)]
        split, samples = _HELD_OUT.get(index % _PERIOD, "train"), []
        for number, thing in enumerate(scene.things):
            target = first + number, COCO_CLASSES[thing.kind] + 1
            every = sentences(scene, number)
            chosen = {
                "refcoco": _sample(rng, every),
                "refcoco+": _sample(rng, sentences(scene, number, places=False)),
                "refcocog": every[-2:],
            }
            for folder, texts in chosen.items():
                if texts:
                    refs[folder].append(_ref(ids, image, split, *target, texts))
            if texts := chosen["refcoco"]:
                refs["grefcoco"].append(_ref(ids, image, split, [target[0]], [target[1]], texts))
                samples.append(_sample_of_m(first + number, thing, texts))
        refs["grefcoco"] += _general_refs(ids, image, split, first, scene, rng)
        if split == "val" and samples:
            rows.append(json.dumps({"image_id": image, "file_name": name, "samples": samples}))
        advance()
    categories = [{"id": COCO_CLASSES[kind] + 1, "name": kind} for kind in PASCAL_KINDS]
    content = {"images": images, "annotations": annotations, "categories": categories}
    for folder in ("refcoco", "refcoco+", "refcocog", "grefcoco"):
        write_json(building / folder / "instances.json", content)
    _write_refs(building / "refcoco" / "refs(unc).p", refs["refcoco"])
    _write_refs(building / "refcoco" / "refs(google).p", refs["refcoco"], _GOOGLE)
    _write_refs(building / "refcoco+" / "refs(unc).p", refs["refcoco+"])
    _write_refs(building / "refcocog" / "refs(umd).p", refs["refcocog"], _UMD)
    _write_refs(building / "refcocog" / "refs(google).p", refs["refcocog"], _GOOGLE)
    write_json(building / "grefcoco" / "grefs(unc).json", refs["grefcoco"])
    write_lines(building / "refcoco-m" / "val.jsonl", rows)


def _sample(rng: np.random.Generator, texts: Sequence[str]) -> list[str]:
    return [texts[index] for index in rng.permutation(len(texts))[:_SENTENCES]]


def _general_refs(
    ids: Iterator[int], image: int, split: str, first: int, scene: Scene, rng: np.random.Generator
) -> Iterator[_Ref]:
    """Yield a ref about two things, if two things have sentences, and one without a target."""
    named = [index for index in range(len(scene.things)) if sentences(scene, index)]
    if len(named) > 1:
        pair = sorted(rng.permutation(named)[:2].tolist())
        text = " and ".join(_sample(rng, sentences(scene, index))[0] for index in pair)
        kinds = [COCO_CLASSES[scene.things[index].kind] + 1 for index in pair]
        yield _ref(ids, image, split, [first + index for index in pair], kinds, [text])
    present = {name for thing in scene.things for name in names_of(thing)}
    looks = [look for kind in PASCAL_KINDS for look in VARIANTS[kind]]
    absent = [look for look in looks if present.isdisjoint(NAMES[look])]
    name = NAMES[str(rng.choice(absent))][0]
    yield _ref(ids, image, split, [-1], [-1], [f"{rng.choice(COLOUR_WORDS)} {name}", name])


def _ref(
    ids: Iterator[int],
    image: int,
    split: str,
    annotation: int | list[int],
    category: int | list[int],
    texts: Sequence[str],
) -> _Ref:
    """Return a ref. As published, its `file_name` is not that of its photo."""
    found = [{"sent_id": next(ids), "sent": t, "raw": t, "tokens": t.split()} for t in texts]
    number = found[0]["sent_id"]
    return {
        "ref_id": number,
        "ann_id": annotation,
        "category_id": category,
        "image_id": image,
        "file_name": f"COCO_train2014_{image:012d}_{number}.jpg",
        "split": split,
        "sent_ids": [one["sent_id"] for one in found],
        "sentences": found,
    }


def _annotation(number: int, image: int, thing: Thing) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": COCO_CLASSES[thing.kind] + 1,
        "iscrowd": 0,
        **outline(thing),
    }


def _sample_of_m(number: int, thing: Thing, texts: Sequence[str]) -> dict[str, Any]:
    """Return an object of RefCOCO-M, with its mask as COCO's compressed RLE."""
    encoded = coco_mask.encode(np.asfortranarray(thing.mask.astype(np.uint8)))
    return {
        "id": str(number),
        "category": thing.kind,
        "sentences": list(texts),
        "bbox": [float(value) for value in thing.box],
        "mask": {"counts": encoded["counts"].decode(), "size": list(_SIZE)},
    }


def _write_refs(file: Path, refs: Sequence[_Ref], splits: Mapping[str, str] | None = None) -> None:
    """Write a pickle of refs, whose splits are renamed by `splits`."""
    renamed = [{**ref, "split": (splits or {}).get(ref["split"], ref["split"])} for ref in refs]
    file.write_bytes(pickle.dumps(renamed, _PROTOCOL))
