"""Images for pre-training: single things, captioned scenes, held-out images, normalisation."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.toy.language.sentences import scene_caption, thing_caption
from datamodules.toy.language.vocabulary import UNKNOWN_ROW, ToyTokenizer
from datamodules.toy.language.words import COLOUR_WORDS
from datamodules.toy.scenes.kinds import KINDS
from datamodules.toy.scenes.scene import Scene, Thing, draw_scene

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


_GROUP = 8  # images
_POOLS = ((20, 10), (3, 4), (20, 1))  # (kinds, colours): each group samples one of these pairs
_TRIES = 3  # attempts to find a caption that is new in the batch
_MAGNIFIED = (0.35, 0.7)  # range of the longer side of large things, as a share of the image side


class CaptionedScenes(Dataset[tuple[Tensor, Tensor]]):
    """Dataset of whole batches by step, so that neither data workers nor a resume change them.

    35 % of the images show one large thing, 30 % show two or three things that are as large as in
    the images that a decoder sees, 2 % show only stuff, and the rest show one to six things. Images
    come in groups of 8. A third of the groups is limited to three kinds and four colours, another
    third to one colour. Images of such groups are hard negatives of each other: they show the same
    kind in another colour, or another kind in the same colour.

    Args:
        seed: First part of every generator's seed.
        steps: Number of batches.
        batch_size: Images per batch.
        image_size: Side of the images in pixels.
        token_ids: BPE id of every row of the token embedding.
        context_length: Tokens per caption.
        unknown: Share of word tokens replaced by the unknown row, which keeps that row free of any
            specific meaning.
    """

    def __init__(
        self,
        seed: int,
        steps: int,
        batch_size: int,
        image_size: int,
        token_ids: Sequence[int],
        context_length: int,
        unknown: float = 0.02,
    ) -> None:
        self.seed, self.steps, self.batch_size, self.image_size = (
            seed,
            steps,
            batch_size,
            image_size,
        )
        self.tokenize = ToyTokenizer(token_ids, context_length)
        self.words, self.unknown = len(token_ids) - 2, unknown

    def __len__(self) -> int:
        """Number of batches."""
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, H, W) uint8 RGB and token rows (B, T) int64 of batch `step`."""
        rng = np.random.default_rng((self.seed, step))
        images: list[np.ndarray] = []
        captions: list[str] = []
        kinds: Sequence[str] = KINDS
        colours: Sequence[str] = COLOUR_WORDS
        while len(images) < self.batch_size:
            if len(images) % _GROUP == 0:
                kind_count, colour_count = _POOLS[rng.integers(len(_POOLS))]
                kinds = [str(kind) for kind in rng.permutation(KINDS)[:kind_count]]
                colours = [str(name) for name in rng.permutation(COLOUR_WORDS)[:colour_count]]
            for _ in range(_TRIES):
                scene, caption = self._draw(rng, kinds, colours)
                if caption not in captions:
                    break
            captions.append(caption)
            images.append(scene.image)
        pictures = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        rows = self.tokenize(captions)
        replaced = torch.from_numpy(rng.random(rows.shape) < self.unknown) & (rows < self.words)
        return pictures, rows.masked_fill(replaced, UNKNOWN_ROW)

    def _draw(
        self, rng: np.random.Generator, kinds: Sequence[str], colours: Sequence[str]
    ) -> tuple[Scene, str]:
        choice = rng.random()
        count, lengths = None, None
        if choice < 0.35:
            count = 1
        elif choice < 0.65:
            count, lengths = int(rng.integers(2, 4)), _MAGNIFIED
        elif choice < 0.67:
            count = 0
        scene = draw_scene(
            rng, self.image_size, count=count, kinds=kinds, colours=colours, lengths=lengths
        )
        caption = thing_caption if count == 1 and scene.things else scene_caption
        return scene, caption(scene, rng)
