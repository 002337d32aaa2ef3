"""Masks for photos of one's own, at their own size."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from typing_extensions import Self

from clipseg_pl.convert.loading import load_model
from clipseg_pl.images import RGB, Picture, load_photo, resize, sides_seen
from clipseg_pl.inference.embedding import EmbeddedPrompts, embed_prompts
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.inference.tiles import Window, merge, views
from clipseg_pl.metrics.functional import PAPER_THRESHOLD, cut_in_use, presence, threshold_in_use
from clipseg_pl.models.backbone import PAPER_SIZE, Backbone
from clipseg_pl.models.clipseg import CLIPSeg, Encoding
from clipseg_pl.models.precision import best_dtype
from clipseg_pl.prompts.image_prompt import Blend, ImagePrompt, Prompt
from clipseg_pl.prompts.text import PrefixName, prefix_list

__all__ = ["Blend", "EmbeddedPrompts", "EncodedPhoto", "ImagePrompt", "Segmentation", "Segmenter"]

_AT_ONCE = 8  # images that are encoded together, on a GPU

Precision = Literal["auto", "float32", "bfloat16", "float16"]


class EncodedPhoto(NamedTuple):
    """A photo, seen: its height and width, what was kept of the whole of it and of its tiles."""

    size: tuple[int, int]
    parts: list[tuple[Window, Encoding]]


class Segmenter:
    """Segments photos by text, by example, or by both.

    >>> segmenter = Segmenter.from_checkpoint("toy")
    >>> cat = ImagePrompt("cat.jpg", mask="cat_mask.png")
    >>> result = segmenter("photo.jpg", ["a dog", cat, Blend("a cat", cat, weight=0.5)])
    >>> result.masks.shape  # at the photo's own size
    (3, 128, 128)

    A photo that is asked about again and again is encoded once, as prompts for many photos are:

    >>> encoded, prompts = segmenter.encode("photo.jpg"), segmenter.embed(["a dog", "grass"])
    >>> segmenter.segment(encoded, prompts).argmax().shape
    (128, 128)

    Args:
        model: with its weights.
        image_size: what photos are brought to before the model sees them: their aspect is kept,
            their area becomes about the square of it.
        threshold: above which a pixel belongs to a mask.
        absent_cut: presence below which a prompt is taken to be absent, and its mask left empty;
            0 never. The cut is calibrated on whole photos and is not used with tiles, where
            presence is higher.
        prefixes: sentences that words are put into, whose embeddings are averaged; "plain" reads
            the words alone, as evaluation does.
        tile: look also at squares of this side in pixels, which overlap and cover the photo, each
            as at a photo, and average: finds what is small in large photos. None looks at the
            photo whole only.
        device: by default the GPU, where there is one of CUDA.
        precision: "auto" is the fastest that the device does well; masks differ by rounding.
    """

    def __init__(
        self,
        model: CLIPSeg,
        *,
        image_size: int = PAPER_SIZE,
        threshold: float = PAPER_THRESHOLD,
        absent_cut: float = 0.0,
        prefixes: PrefixName = "plain",
        tile: int | None = None,
        device: str | torch.device = "auto",
        precision: Precision = "auto",
    ) -> None:
        """Move the model to its device.

        Raises:
            ValueError: for a setting out of range or an unknown name.
        """
        if not (0 <= threshold <= 1 and 0 <= absent_cut <= 1):
            raise ValueError(f"threshold and absent_cut lie in [0, 1]: {threshold}, {absent_cut}")
        if tile is not None and tile < 1:
            raise ValueError(f"tile is a side in pixels, at least 1, not {tile}")
        prefix_list(prefixes)  # it must be there
        if precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise ValueError(f"precision is one of {known}, not {precision!r}")
        if image_size < 1:
            raise ValueError(f"image_size is a side in pixels, at least 1, not {image_size}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device)
        except RuntimeError as error:
            raise ValueError(f"device is auto, cpu, cuda or cuda:1, not {device!r}") from error
        self.model = model.eval().to(self.device)
        self.image_size, self.threshold, self.absent_cut = image_size, threshold, absent_cut
        self.prefixes, self.tile = prefixes, tile
        best = precision == "auto"
        self.dtype: torch.dtype = best_dtype(self.device) if best else getattr(torch, precision)

    @classmethod
    def from_checkpoint(
        cls,
        file: str | Path,
        backbone: Backbone | None = None,
        *,
        absent_cut: float | Literal["kept"] = 0.0,
        device: str | torch.device = "auto",
        precision: Precision = "auto",
    ) -> Self:
        """Load a checkpoint of this project, a decoder of the authors or Hugging Face's CLIPSeg.

        Args:
            file: "toy" for the weights that come with the package and know drawn scenes only. A
                `.ckpt` stores the name of its backbone, its decoder, image size and best
                threshold. What other files and folders may be: see `load_model`.
            backbone: for a published file. By default the CLIP in it, else OpenAI's ViT-B/16.
            absent_cut: see `Segmenter`; "kept" for the one in the checkpoint.
            device: see `Segmenter`.
            precision: see `Segmenter`.

        Raises:
            ValueError: naming the file, if it is none of these.
            FileNotFoundError: naming the file, or where CLIP's weights were looked for.
        """
        loaded = load_model(file, backbone)
        return cls(
            loaded.model,
            image_size=loaded.image_size or PAPER_SIZE,
            threshold=threshold_in_use(None, loaded.threshold)[0],
            absent_cut=cut_in_use(absent_cut, loaded.absent_cut)[0],
            device=device,
            precision=precision,
        )

    def __call__(self, image: Picture, prompts: Sequence[Prompt] | EmbeddedPrompts) -> Segmentation:
        """Segment a photo by all prompts, encoding it once.

        Args:
            image: of any size: a file (turned as its EXIF orientation says), a PIL image, an array
                or a tensor, grey, RGB or with transparency (see `load_picture`).
            prompts: a list of what to look for: words, an `ImagePrompt`, a list of those, which
                are averaged, or a `Blend` of words and examples.

        Raises:
            ValueError: for no prompt, an empty one or a bare string; for numbers that are no
                image; for what `ImagePrompt.load` refuses.
            UnreadableImageError: naming the file.
        """
        return next(self.many([image], prompts))

    def many(
        self, images: Iterable[Picture], prompts: Sequence[Prompt] | EmbeddedPrompts
    ) -> Iterator[Segmentation]:
        """Segment photos one after the other by the same prompts, which are read once.

        On a GPU, a few photos are encoded together where their sizes allow it.
        """
        embedded, remaining = self.embed(prompts), iter(images)
        while some := list(islice(remaining, self._at_once)):
            for photo in self._encode(some):
                yield self.segment(photo, embedded)

    def encode(self, image: Picture) -> EncodedPhoto:
        """See a photo, to be asked about by `segment`; takes what `Segmenter.__call__` does."""
        return self._encode([image])[0]

    @torch.inference_mode()
    def embed(self, prompts: Sequence[Prompt] | EmbeddedPrompts) -> EmbeddedPrompts:
        """Read prompts, to ask about photos by `segment`; takes what `Segmenter.__call__` does."""
        if isinstance(prompts, EmbeddedPrompts):
            return prompts
        with self._autocast():
            return embed_prompts(self.model, prompts, self.image_size, self.prefixes)

    @torch.inference_mode()
    def segment(
        self, photo: EncodedPhoto, prompts: Sequence[Prompt] | EmbeddedPrompts
    ) -> Segmentation:
        """Ask about a photo that `encode` has seen."""
        names, conditional = self.embed(prompts)
        answers = [(window, self._decode(part, conditional)) for window, part in photo.parts]
        found = torch.stack([presence(answer) for _, answer in answers]).amax(0)
        return Segmentation(
            names,
            merge(answers[0][1], answers[1:], photo.size).numpy(),
            found.cpu().numpy(),
            self.threshold,
            self.absent_cut if len(answers) == 1 else 0.0,
        )

    @property
    def _at_once(self) -> int:
        """How many images are encoded together; a CPU gains nothing by it."""
        return 1 if self.device.type == "cpu" else _AT_ONCE

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32)

    @torch.inference_mode()
    def _encode(self, images: Sequence[Picture]) -> list[EncodedPhoto]:
        photos = [load_photo(image) for image in images]
        windows = [views(len(photo), photo.shape[1], self.tile) for photo in photos]
        looks = list(zip(photos, windows, strict=True))
        seen = iter(self._see([photo[part.part] for photo, parts in looks for part in parts]))
        return [
            EncodedPhoto((len(photo), photo.shape[1]), [(part, next(seen)) for part in parts])
            for photo, parts in looks
        ]

    def _see(self, images: Sequence[RGB]) -> list[Encoding]:
        """Encode images of any sizes, those together that the model sees at one size."""
        patch = self.model.backbone.shape.patch_size
        alike: dict[tuple[int, int], list[int]] = {}
        for place, image in enumerate(images):
            sides = sides_seen(image.shape[:2], self.image_size, patch)
            alike.setdefault(sides, []).append(place)
        seen = {}
        for sides, places in alike.items():
            for first in range(0, len(places), self._at_once):
                some = places[first : first + self._at_once]
                pixels = torch.stack([resize(images[place], sides) for place in some])
                with self._autocast():
                    projected, grid = self.model.encode(pixels.to(self.device))
                for row, place in enumerate(some):
                    seen[place] = Encoding([tokens[row : row + 1] for tokens in projected], grid)
        return [seen[place] for place in range(len(images))]

    def _decode(self, encoding: Encoding, conditional: Tensor) -> Tensor:
        """(P, 1, h, w) float32 probabilities, at the size that the model saw."""
        owner = torch.zeros(len(conditional), dtype=torch.long, device=self.device)
        with self._autocast():
            return self.model.decode(encoding, conditional, owner).float().sigmoid()
