"""Segment your own photos with text and image prompts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from typing_extensions import Self

from clipseg_pl.convert.loading import load_model
from clipseg_pl.images import RGB, Picture, load_photo, resize, size_for_model
from clipseg_pl.inference.editing import Edits
from clipseg_pl.inference.embedding import EmbeddedPrompts, embed_prompts
from clipseg_pl.inference.segmentation import Segmentation, thresholds_of
from clipseg_pl.inference.tiles import Window, merge, views
from clipseg_pl.inference.work_ahead import work_ahead
from clipseg_pl.metrics.functional import PAPER_THRESHOLD, cut_in_use, presence, threshold_in_use
from clipseg_pl.models.backbone import PAPER_SIZE, Backbone
from clipseg_pl.models.clipseg import CLIPSeg, Encoding
from clipseg_pl.models.precision import best_dtype
from clipseg_pl.prompts.image_prompt import Blend, ImagePrompt, Prompt
from clipseg_pl.prompts.text import PrefixName, normalise_phrase, prefix_list
from clipseg_pl.weights.places import default_checkpoint

__all__ = [
    "Blend",
    "Edits",
    "EmbeddedPrompts",
    "EncodedPhoto",
    "ImagePrompt",
    "Segmentation",
    "Segmenter",
]

_GPU_BATCH = 8  # images encoded together on a GPU
_READERS = 2  # threads that load photos while the model computes on a CPU

Precision = Literal["auto", "float32", "bfloat16", "float16"]


class EncodedPhoto(NamedTuple):
    """Height and width of a photo, and the encodings of the whole photo and of its tiles."""

    size: tuple[int, int]
    parts: list[tuple[Window, Encoding]]


class Segmenter:
    """Segment photos with text prompts, image prompts or both.

    Examples:
        >>> segmenter = Segmenter.from_pretrained("toy")
        >>> cat = ImagePrompt("cat.jpg", mask="cat_mask.png")
        >>> result = segmenter("photo.jpg", ["a dog", cat, Blend("a cat", cat, weight=0.5)])
        >>> result.masks.shape  # at the size of the photo
        (3, 128, 128)

        To reuse a photo or prompts, encode the photo and embed the prompts once:

        >>> encoded, prompts = segmenter.encode("photo.jpg"), segmenter.embed(["a dog", "grass"])
        >>> segmenter.segment(encoded, prompts).argmax().shape
        (128, 128)

        To segment many photos, stream them. The next photos are read while one is segmented:

        >>> for result in segmenter.stream(["photo.jpg", "cat.jpg"], ["a dog", "grass"]):
        ...     print(result.masks.shape)
        (2, 128, 128)
        (2, 128, 128)

    Args:
        model: CLIPSeg model with its weights.
        image_size: size of the model's input. Photos are resized to an area of about
            `image_size` x `image_size` pixels; their aspect ratio is kept.
        threshold: probability above which a pixel belongs to a mask, 0 to 1.
        absent_cut: presence score below which a prompt is considered absent and its mask is empty;
            0 disables the cut. The cut is calibrated on whole photos and is ignored if a photo is
            split into tiles, because presence scores are higher in tiles.
        class_thresholds: phrase -> threshold of its class. A text prompt that equals one of these
            phrases, apart from case and white space, uses its threshold instead of `threshold`.
        prefixes: name of a list of sentence templates. Each text is inserted into all templates,
            and the embeddings of the sentences are averaged. "plain" uses the text itself, as in
            the evaluation.
        tile: side length in pixels of overlapping square tiles that are segmented in addition to
            the whole photo; the results are averaged. Helps to find small objects in large photos.
            None disables tiles.
        device: "auto" uses a CUDA GPU if there is one, else the CPU.
        precision: number format of the computations; "auto" uses the fastest format that the
            device supports well. The results of the formats differ by rounding only.
    """

    def __init__(
        self,
        model: CLIPSeg,
        *,
        image_size: int = PAPER_SIZE,
        threshold: float = PAPER_THRESHOLD,
        absent_cut: float = 0.0,
        class_thresholds: Mapping[str, float] | None = None,
        prefixes: PrefixName = "plain",
        tile: int | None = None,
        device: str | torch.device = "auto",
        precision: Precision = "auto",
    ) -> None:
        """Move the model to its device.

        Raises:
            ValueError: if a setting is out of range or a name is unknown.
        """
        if not (0 <= threshold <= 1 and 0 <= absent_cut <= 1):
            raise ValueError(
                f"threshold and absent_cut must be in [0, 1], not {threshold} and {absent_cut}"
            )
        if tile is not None and tile < 1:
            raise ValueError(f"tile must be at least 1 pixel, not {tile}")
        prefix_list(prefixes)  # raises ValueError for unknown names
        if precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise ValueError(f"precision must be one of {known}, not {precision!r}")
        if image_size < 1:
            raise ValueError(f"image_size must be at least 1 pixel, not {image_size}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device)
        except RuntimeError as error:
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, not {device!r}") from error
        self.model = model.eval().to(self.device)
        self.image_size, self.threshold, self.absent_cut = image_size, threshold, absent_cut
        self.class_thresholds = {
            normalise_phrase(phrase): value for phrase, value in (class_thresholds or {}).items()
        }
        self.prefixes, self.tile = prefixes, tile
        auto = precision == "auto"
        self.dtype: torch.dtype = best_dtype(self.device) if auto else getattr(torch, precision)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        *,
        backbone: Backbone | None = None,
        absent_cut: float | Literal["stored"] = 0.0,
        device: str | torch.device = "auto",
        precision: Precision = "auto",
    ) -> Self:
        """Load a model by name, or from a file or folder.

        Args:
            name: a model on Hugging Face's hub (`owner/name` or `owner/name@revision`), which is
                downloaded on first use; a `.ckpt` file of this project, which stores the decoder,
                the name of the backbone, the image size and the best thresholds; or "toy", a small
                model included in the package that works on generated scenes only. See `load_model`
                for other files and folders. The default is the environment variable
                CLIPSEG_CHECKPOINT, else the authors' model "CIDAS/clipseg-rd64-refined".
            backbone: backbone to use with a published file. The default is the CLIP stored in the
                file or, if there is none, OpenAI's ViT-B/16.
            absent_cut: see `Segmenter`; "stored" uses the cut in the checkpoint.
            device: see `Segmenter`.
            precision: see `Segmenter`.

        Raises:
            ValueError: if the file has none of these formats.
            FileNotFoundError: if the file or CLIP's weights do not exist, or a download fails.
        """
        loaded = load_model(default_checkpoint() if name is None else name, backbone)
        return cls(
            loaded.model,
            image_size=loaded.image_size or PAPER_SIZE,
            threshold=threshold_in_use(None, loaded.threshold)[0],
            absent_cut=cut_in_use(absent_cut, loaded.absent_cut)[0],
            class_thresholds=loaded.class_thresholds,
            device=device,
            precision=precision,
        )

    def __call__(self, image: Picture, prompts: Sequence[Prompt] | EmbeddedPrompts) -> Segmentation:
        """Segment a photo with all prompts. The photo is encoded once.

        Args:
            image: photo of any size: a path, a URL, bytes or a binary file object (EXIF
                orientation is applied), a PIL image, an array or a tensor; grey, RGB or with
                transparency (see `load_picture`).
            prompts: list of prompts. A prompt is a text, an `ImagePrompt`, a list of
                `ImagePrompt` (their embeddings are averaged), or a `Blend` of a text and image
                prompts.

        Raises:
            ValueError: if there is no prompt, a prompt is empty, `prompts` is a single prompt
                instead of a list, or an array is not an image; see also `ImagePrompt.load`.
            UnreadableImageError: if an image file cannot be downloaded or read.
        """
        embedded = self.embed(prompts)
        return self.segment(self.encode(image), embedded)

    def stream(
        self, photos: Iterable[Picture], prompts: Sequence[Prompt] | EmbeddedPrompts
    ) -> Iterator[Segmentation]:
        """Segment any number of photos with the same prompts, and yield the results in order.

        The prompts are embedded once. Photos are taken from `photos` as they are needed, and only a
        few are in memory. Paths, URLs and bytes are loaded in threads while the model computes. All
        other photos are loaded when they are taken, so that a generator may close a file object or
        a PIL image afterwards. On a GPU, up to 8 photos are loaded together, and those of equal
        input size are encoded as one batch.

        Args:
            photos: photos as in `Segmenter.__call__`; the iterable may be endless.
            prompts: see `Segmenter.__call__`.

        Raises:
            UnreadableImageError: in place of the result of a photo that cannot be downloaded or
                read. To skip the photo, catch the error and call `next` again.
            ValueError: in place of the result of an array that is not an image, or if `photos` is a
                single photo; see also `Segmenter.__call__`.
            TypeError: if a photo has another type. It ends the stream.
        """
        return map(_result, self.stream_with_pixels(photos, prompts))

    def stream_with_pixels(
        self, photos: Iterable[Picture], prompts: Sequence[Prompt] | EmbeddedPrompts
    ) -> Iterator[tuple[RGB | None, Segmentation | OSError | ValueError]]:
        """Like `stream`, but yield the pixels (H, W, 3), too, and yield errors instead of raising.

        The pixels of unreadable photos are None.
        """
        if isinstance(photos, str | PathLike | bytes):
            raise ValueError(f"photos must be a list or another iterable, not {photos!r:.60}")
        embedded = self.embed(prompts)
        taken = (p if isinstance(p, str | PathLike | bytes) else _load(p) for p in photos)
        loaded = work_ahead(_load, taken, threads=max(_READERS, self._batch_size))
        while chunk := list(islice(loaded, self._batch_size)):
            readable = [pixels for pixels in chunk if not isinstance(pixels, Exception)]
            encoded = iter(self._encode(readable))
            for pixels in chunk:
                if isinstance(pixels, Exception):
                    yield None, pixels
                else:
                    yield pixels, self.segment(next(encoded), embedded)

    def encode(self, image: Picture) -> EncodedPhoto:
        """Encode a photo for `segment`; accepts the same images as `Segmenter.__call__`."""
        return self._encode([load_photo(image)])[0]

    @torch.inference_mode()
    def embed(self, prompts: Sequence[Prompt] | EmbeddedPrompts) -> EmbeddedPrompts:
        """Embed prompts for `segment`; accepts the same prompts as `Segmenter.__call__`."""
        if isinstance(prompts, EmbeddedPrompts):
            return prompts
        with self._autocast():
            return embed_prompts(self.model, prompts, self.image_size, self.prefixes)

    @torch.inference_mode()
    def segment(
        self, photo: EncodedPhoto, prompts: Sequence[Prompt] | EmbeddedPrompts
    ) -> Segmentation:
        """Segment a photo that was encoded with `encode`."""
        names, conditional, phrases = self.embed(prompts)
        decoded = [(window, self._decode(part, conditional)) for window, part in photo.parts]
        scores = torch.stack([presence(probability) for _, probability in decoded]).amax(0)
        return Segmentation(
            names,
            merge(decoded[0][1], decoded[1:], photo.size).numpy(),
            scores.cpu().numpy(),
            thresholds_of(phrases, self.threshold, self.class_thresholds),
            self.absent_cut if len(decoded) == 1 else 0.0,
        )

    @property
    def _batch_size(self) -> int:
        """Number of images encoded together; batches are not faster on a CPU."""
        return 1 if self.device.type == "cpu" else _GPU_BATCH

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32)

    @torch.inference_mode()
    def _encode(self, photos: Sequence[RGB]) -> list[EncodedPhoto]:
        windows = [views(len(photo), photo.shape[1], self.tile) for photo in photos]
        pairs = list(zip(photos, windows, strict=True))
        crops = [photo[window.slices] for photo, photo_windows in pairs for window in photo_windows]
        encodings = iter(self._encode_crops(crops))
        return [
            EncodedPhoto(
                (len(photo), photo.shape[1]),
                [(window, next(encodings)) for window in photo_windows],
            )
            for photo, photo_windows in pairs
        ]

    def _encode_crops(self, images: Sequence[RGB]) -> list[Encoding]:
        """Encode images of any sizes, batched by their size after resizing."""
        patch = self.model.backbone.shape.patch_size
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            sides = size_for_model(image.shape[:2], self.image_size, patch)
            by_size.setdefault(sides, []).append(index)
        encodings = {}
        for sides, indices in by_size.items():
            for first in range(0, len(indices), self._batch_size):
                batch = indices[first : first + self._batch_size]
                pixels = torch.stack([resize(images[index], sides) for index in batch])
                with self._autocast():
                    projected, grid = self.model.encode(pixels.to(self.device))
                for row, index in enumerate(batch):
                    tokens = [part[row : row + 1] for part in projected]
                    encodings[index] = Encoding(tokens, grid)
        return [encodings[index] for index in range(len(images))]

    def _decode(self, encoding: Encoding, conditional: Tensor) -> Tensor:
        """Return (P, 1, h, w) float32 probabilities at the size of the model's input."""
        owner = torch.zeros(len(conditional), dtype=torch.long, device=self.device)
        with self._autocast():
            return self.model.decode(encoding, conditional, owner).float().sigmoid()


def _load(photo: Picture | OSError | ValueError) -> RGB | OSError | ValueError:
    """Load a photo that is not loaded yet; return errors, so that they are raised in their turn."""
    try:
        return photo if isinstance(photo, OSError | ValueError) else load_photo(photo)
    except (OSError, ValueError) as error:
        return error


def _result(streamed: tuple[RGB | None, Segmentation | OSError | ValueError]) -> Segmentation:
    if isinstance(streamed[1], OSError | ValueError):
        raise streamed[1]
    return streamed[1]
