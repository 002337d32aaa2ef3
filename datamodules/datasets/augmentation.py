"""Augmentation of training samples by a pipeline of albumentations."""

import random
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import albumentations as A
import numpy as np
import numpy.typing as npt
import torch

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask
from clipseg_pl.sample import Prompt

Masks = npt.NDArray[np.uint8]

_TRIALS = 5
"""number of times that a pipeline is tried before training"""
_MIRRORED = {"left": "right", "right": "left"}
_VERTICAL = re.compile(r"\b(top|bottom|upper|lower|above|below)", re.IGNORECASE)
_SIDES = re.compile(
    r"\b(top|bottom|upper|lower)?(left|right)"
    r"(?=(?:most|hand|side|wards?)?\b)(?![ -](?:angle|over\b))",
    re.IGNORECASE,
)


class Augmentation:
    """Random transforms of training photos and their masks.

    The random numbers come from a child of the sample's generator. They depend only on the sample,
    and a sample has the same crop, phrases and support images as without augmentation.

    If a transform moves an object out of view, the sample stays as it was. Pixels outside of the
    photo are ignored where a transform fills them with a colour.

    Args:
        file: the pipeline, written by `A.save(pipeline, file, data_format="yaml")`.
        size: side of the square samples in pixels.

    Raises:
        ValueError: if the file is not a pipeline, or the pipeline fails, changes the size of the
            photo or gives anything but uint8.
        OSError: if the file cannot be read.
    """

    def __init__(self, file: Path, size: int) -> None:
        """Load the pipeline, and try it on noise."""
        self.file, self.pipeline = file, _load(file)
        trial = _load(file)
        for part in _parts(trial):
            part.p = float(part.p > 0)  # no transform is missed by chance
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        for _ in range(_TRIALS):
            self._apply(trial, image, image.transpose(2, 0, 1) // 128, rng)

    def query(
        self, image: RGB, prompts: list[Prompt], rng: np.random.Generator
    ) -> tuple[RGB, list[Prompt]]:
        """Augment a query image and the targets of its prompts.

        Where the transforms swap left and right, so do the words in phrases and text prompts. The
        sample stays as it was if a phrase has such a word and the transforms turn left and right
        into up and down, or if a phrase has a word like "top" and they do not keep up and down.

        Args:
            image: (H, W, 3) uint8.
            prompts: prompts with targets and valid masks of the image's size.
            rng: generator of the sample.
        """
        targets = torch.cat([prompt["query_mask"] for prompt in prompts]).numpy()  # (P, H, W)
        valid = torch.cat([prompt["valid_mask"] for prompt in prompts]).numpy()
        masks = np.concatenate([targets, valid]).astype(np.uint8)
        texts = [prompt["text_prompt"] for prompt in prompts]
        sided = any(mirrored(text) != text for text in texts)
        vertical = any(map(_VERTICAL.search, texts))
        if sided or vertical:
            across, down = (
                np.linspace(1, 254, side).astype(np.uint8) for side in image.shape[1::-1]
            )
            masks = np.concatenate([masks, np.stack(np.meshgrid(across, down))])
        moved, masks = self._apply(self.pipeline, image, masks, rng)
        direction = _direction(masks[-2]) if sided else 1.0
        upright = _direction(masks[-1].T) if vertical else 1.0
        # a target is 1; transforms may fill masks with other values
        targets_after, valid_after = (masks[: 2 * len(prompts)] == 1).reshape(2, *targets.shape)
        visible = (targets & valid).any((1, 2))
        lost = visible & ~(targets_after & valid_after).any((1, 2))
        if lost.any() or abs(direction) < 0.5 or upright < 0.5:
            return image, prompts
        for prompt, target, seen in zip(prompts, targets_after, valid_after, strict=True):
            prompt["query_mask"] = torch.from_numpy(target)[None]
            prompt["valid_mask"] = torch.from_numpy(seen)[None]
            if direction < 0:
                prompt["phrase"] = mirrored(prompt["phrase"])
                prompt["text_prompt"] = mirrored(prompt["text_prompt"])
        return moved, prompts

    def support(self, image: RGB, mask: Mask, rng: np.random.Generator) -> tuple[RGB, Mask]:
        """Augment a support image, (H, W, 3) uint8, and its mask, (H, W) bool."""
        moved, masks = self._apply(self.pipeline, image, mask[None].astype(np.uint8), rng)
        moved_mask: Mask = masks[0] == 1
        return (moved, moved_mask) if moved_mask.any() else (image, mask)

    def _apply(
        self, pipeline: A.Compose, image: RGB, masks: Masks, rng: np.random.Generator
    ) -> tuple[RGB, Masks]:
        """Apply a pipeline to an image, (H, W, 3), and masks, (N, H, W)."""
        child = rng.spawn(1)[0]  # draws nothing from `rng`
        # one generator for all transforms: `set_random_seed` would give each its own generator with
        # the same seed, so that transforms of equal probability are applied together
        pipeline.set_random_state(child, random.Random(int(child.integers(2**63))))
        try:
            output = pipeline(image=image, masks=masks)
        except Exception as error:  # depends on the transform
            raise ValueError(f"{self.file}: the pipeline fails with {_reason(error)}") from error
        for name, before in (("image", image), ("masks", masks)):
            after = output[name]
            if not isinstance(after, np.ndarray) or after.dtype != np.uint8:
                kind = getattr(after, "dtype", type(after).__name__)
                raise ValueError(
                    f"{self.file}: the pipeline turns uint8 {name} into {kind}; remove transforms "
                    "such as Normalize, ToFloat and ToTensorV2, because the model normalises images"
                )
            if after.shape != before.shape:
                raise ValueError(
                    f"{self.file}: the pipeline changes the {name} from {before.shape} to "
                    f"{after.shape}; end it with A.Resize({len(image)}, "
                    f"{len(image)}), or remove the transform that changes the shape"
                )
        return output["image"], output["masks"]


def mirrored(text: str) -> str:
    """Swap left and right in a text, also inside "leftmost", "left-hand" or "topleft".

    "right angle" and "left over" stay as they are.
    """

    def swap(match: re.Match[str]) -> str:
        word = match[2]
        other = _MIRRORED[word.lower()]
        other = other.upper() if word.isupper() else other.title() if word.istitle() else other
        return (match[1] or "") + other

    return _SIDES.sub(swap, text)


def _direction(ramp: npt.NDArray[np.uint8]) -> float:
    """Correlate a ramp that grew from left to right with its columns: -1 if it was mirrored."""
    step = max(1, len(ramp) // 32)
    ramp = ramp[::step, ::step]
    seen = (ramp > 0) & (ramp < 255)  # not filled
    if not seen.any():
        return 0.0
    columns, values = np.nonzero(seen)[1].astype(np.float64), ramp[seen].astype(np.float64)
    columns, values = columns - columns.mean(), values - values.mean()
    norm = np.linalg.norm(columns) * np.linalg.norm(values)
    return float(columns @ values / norm) if norm else 0.0


def _load(file: Path) -> A.Compose:
    """Load a pipeline; misspelt arguments, of which albumentations only warns, are errors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return A.load(file, data_format="yaml")
    except OSError:
        raise
    except Exception as error:  # depends on the transform
        unknown = isinstance(error, KeyError)
        reason = f"unknown transform or missing key {error}" if unknown else _reason(error)
        raise ValueError(
            f"{file}: not a pipeline of albumentations {A.__version__} ({reason}); write it with "
            'A.save(pipeline, file, data_format="yaml")'
        ) from error


def _parts(pipeline: A.Compose) -> Iterator[A.Compose]:
    """Iterate over a pipeline and all transforms in it."""
    yield pipeline
    for part in getattr(pipeline, "transforms", ()):
        yield from _parts(part)


def _reason(error: Exception) -> str:
    """Return the start of an error message in one line; pydantic's have many."""
    return f"{type(error).__name__}: {' '.join(' '.join(str(error).splitlines()[:3]).split())}"
