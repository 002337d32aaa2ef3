"""Images for pre-training: single things, captioned scenes, held-out images, normalisation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.toy.language.sentences import (
    describe,
    place_of,
    relation_of,
    scene_caption,
    thing_caption,
)
from datamodules.toy.language.vocabulary import UNKNOWN_ROW, ToyTokenizer
from datamodules.toy.language.words import COLOUR_WORDS
from datamodules.toy.scenes.grammar import SLOTS
from datamodules.toy.scenes.kinds import KINDS
from datamodules.toy.scenes.paint import TEXTURES
from datamodules.toy.scenes.scene import Scene, Thing, draw_scene
from datamodules.toy.scenes.stuff import STUFF

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HELD_OUT = 2**31  # training seeds generators with (seed, step) and never reaches this step


def normalised(images: Tensor) -> Tensor:
    """Normalise images (B, 3, H, W) uint8 RGB to float32 by ImageNet's mean and std."""
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def stacked(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Stack images (H, W, 3) into a tensor (B, 3, H, W)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def held_out(seed: int) -> np.random.Generator:
    """Return the generator of images that training runs with this seed never draw."""
    return np.random.default_rng((seed, _HELD_OUT))


def single_things(
    rng: np.random.Generator, image_size: int, count: int
) -> tuple[Tensor, list[Thing]]:
    """Draw up to `count` images of one thing each.

    Returns:
        Images (B, 3, H, W) uint8 RGB, and the thing in each of them.
    """
    drawn = [draw_scene(rng, image_size, count=1) for _ in range(count)]
    drawn = [scene for scene in drawn if scene.things]  # a thing occasionally finds no place
    return stacked([scene.image for scene in drawn]), [scene.things[0] for scene in drawn]


CLASSES: dict[str, tuple[str, ...]] = {
    "kind": KINDS,
    "colour": COLOUR_WORDS,
    "texture": TEXTURES,
    **{slot: tuple(values) for slot, values in SLOTS.items()},
}
"""Column of `CaptionedBatch.labels` -> names of its classes."""


class CaptionedBatch(NamedTuple):
    """B images with captions, the T things in them with descriptions, and what each patch shows.

    Attributes:
        images: (B, 3, H, W) uint8 RGB.
        captions: (B, L) int64, vocabulary rows of the captions of images.
        thing_of_patch: (B, N) int64, index (0 to T - 1) of the thing that covers at least half of
            a patch, or -1.
        stuff_of_patch: (B, N) int64, index into `STUFF` of the stuff that covers more than 95 % of
            a patch, or -1.
        thing_captions: (T, L) int64, vocabulary rows of the descriptions of things.
        labels: (T, 9) int64, indices into the lists of `CLASSES`; -1 for no kind and for an empty
            slot.
        only_thing: (B,) int64, index (0 to T - 1) of the thing in an image with exactly one, or -1.
    """

    images: Tensor
    captions: Tensor
    thing_of_patch: Tensor
    stuff_of_patch: Tensor
    thing_captions: Tensor
    labels: Tensor
    only_thing: Tensor


def labels_of(thing: Thing) -> list[int]:
    """Return the row of `CaptionedBatch.labels` of a thing."""
    values = (thing.kind, thing.colour, thing.texture, *thing.parts)
    return [
        names.index(value) if value else -1
        for names, value in zip(CLASSES.values(), values, strict=True)
    ]


def _described(scene: Scene, thing: Thing, rng: np.random.Generator) -> str:
    """Return a description of a thing, with its place or a relation to another thing at times."""
    words, choice = describe(thing, rng, colour=0.6, texture=0.4, parts=0.4), rng.random()
    if choice < 0.1:
        return f"{words} {place_of(scene, thing)}".strip()
    others = [other for other in scene.things if other is not thing]
    if choice < 0.3 and others:
        other = others[rng.integers(len(others))]
        return f"{words} {relation_of(thing, other)} {describe(other, rng, colour=0.4)}"
    return words


def coverage(mask: NDArray[np.bool_], patch_size: int) -> NDArray[np.float64]:
    """Return the share of each patch, in row-major order, that a mask (H, W) covers."""
    rows, columns = mask.shape[0] // patch_size, mask.shape[1] // patch_size
    return np.asarray(mask.reshape(rows, patch_size, columns, patch_size).mean((1, 3)).ravel())


_GROUP = 8  # images
_MAGNIFIED = (0.35, 0.7)  # range of the longer side of large things, as a share of the image side
_CLOSE = (0.5, 1.0)  # the same for images of one thing, as in cropped visual prompts
_NEAR_MISSES = 0.3  # share of things that differ from a kind in one part
_TRIES = 3  # attempts to find a caption that is new in the batch


class CaptionedScenes(Dataset[CaptionedBatch]):
    """Dataset of whole batches by step, so that neither data workers nor a resume change them.

    35 % of the images show one large thing, 30 % show two or three things that are as large as in
    the images that a decoder sees, 2 % show only stuff, and the rest show one to six things. Images
    come in groups of 8. A third of the groups is limited to up to three kinds and four colours,
    another third to one colour. Images of such groups are hard negatives of each other: they show
    the same kind in another colour, or another kind in the same colour. 30 % of the things are near
    misses, which differ from a kind in one part and whose descriptions name parts.

    Args:
        seed: First part of every generator's seed.
        steps: Number of batches.
        batch_size: Images per batch.
        image_size: Side of the images in pixels.
        patch_size: Side of the model's patches in pixels.
        token_ids: BPE id of every row of the token embedding.
        context_length: Tokens per caption; longer captions are cut.
        unknown: Share of word tokens replaced by the unknown row, which keeps that row free of any
            specific meaning.
    """

    def __init__(
        self,
        seed: int,
        steps: int,
        batch_size: int,
        image_size: int,
        patch_size: int,
        token_ids: Sequence[int],
        context_length: int,
        unknown: float = 0.02,
    ) -> None:
        self.seed, self.steps, self.batch_size = seed, steps, batch_size
        self.image_size, self.patch_size = image_size, patch_size
        self.tokenize = ToyTokenizer(token_ids, context_length)
        self.words, self.unknown = len(token_ids) - 2, unknown

    def __len__(self) -> int:
        """Number of batches."""
        return self.steps

    def __getitem__(self, step: int) -> CaptionedBatch:
        """Return batch `step`."""
        rng = np.random.default_rng((self.seed, step))
        scenes: list[Scene] = []
        captions: list[str] = []
        kinds: Sequence[str] | None = None
        colours: Sequence[str] = COLOUR_WORDS
        while len(scenes) < self.batch_size:
            if len(scenes) % _GROUP == 0:
                pool = rng.integers(3)
                kinds = [str(kind) for kind in rng.choice(KINDS, 3)] if pool == 1 else None
                shuffled = [str(name) for name in rng.permutation(COLOUR_WORDS)]
                colours = shuffled[: (len(shuffled), 4, 1)[pool]]
            for _ in range(_TRIES):
                scene, caption = self._draw(rng, kinds, colours)
                if caption not in captions:
                    break
            captions.append(caption)
            scenes.append(scene)
        things = [thing for scene in scenes for thing in scene.things]
        patches = [self._patches(scene) for scene in scenes]
        counts = np.array([len(scene.things) for scene in scenes])
        first = np.cumsum(counts) - counts
        of_patch = np.stack([owner for owner, _ in patches])
        described = [_described(scene, thing, rng) for scene in scenes for thing in scene.things]
        return CaptionedBatch(
            stacked([scene.image for scene in scenes]),
            self._rows(captions, rng),
            torch.from_numpy(np.where(of_patch < 0, -1, of_patch + first[:, None])),
            torch.from_numpy(np.stack([ground for _, ground in patches])),
            self._rows(described, rng),
            torch.tensor([labels_of(t) for t in things], dtype=torch.int64).reshape(
                -1, len(CLASSES)
            ),
            torch.from_numpy(np.where(counts == 1, first, -1)),
        )

    def _rows(self, captions: list[str], rng: np.random.Generator) -> Tensor:
        rows = self.tokenize(captions)
        replaced = torch.from_numpy(rng.random(rows.shape) < self.unknown) & (rows < self.words)
        return rows.masked_fill(replaced, UNKNOWN_ROW)

    def _patches(self, scene: Scene) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the index of the thing and of the stuff of every patch, (N,) each."""
        count = (self.image_size // self.patch_size) ** 2
        owner, ground = np.full(count, -1), np.full(count, -1)
        for index, thing in enumerate(scene.things):
            owner[coverage(thing.mask, self.patch_size) >= 0.5] = index
        for name, mask in scene.stuff.items():
            ground[coverage(mask, self.patch_size) > 0.95] = STUFF.index(name)
        return owner, ground

    def _draw(
        self, rng: np.random.Generator, kinds: Sequence[str] | None, colours: Sequence[str]
    ) -> tuple[Scene, str]:
        choice = rng.random()
        count, lengths = None, None
        if choice < 0.35:
            count, lengths = 1, _CLOSE
        elif choice < 0.65:
            count, lengths = int(rng.integers(2, 4)), _MAGNIFIED
        elif choice < 0.67:
            count = 0
        scene = draw_scene(
            rng,
            self.image_size,
            count=count,
            kinds=kinds,
            colours=colours,
            lengths=lengths,
            near_misses=_NEAR_MISSES,
        )
        caption = thing_caption if count == 1 and scene.things else scene_caption
        return scene, caption(scene, rng)
