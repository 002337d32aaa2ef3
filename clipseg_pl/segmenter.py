"""Masks for photos of one's own, at their own size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

from clipseg_pl.images import RGB, read_image, to_tensor
from clipseg_pl.metrics.functional import PAPER_THRESHOLD
from clipseg_pl.models.backbone import Backbone
from clipseg_pl.models.checkpoints import build_decoder, clip_state, read_checkpoint
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.weights import read_state_dict
from clipseg_pl.module import CLIPSegModule

PAPER_SIZE = 352
TOY = "toy"
_TOY_CHECKPOINT = Path(__file__).parent / "models" / "toy" / "toy_pc_plus.ckpt"


@dataclass(frozen=True)
class Segmentation:
    """What a photo shows of each prompt.

    Args:
        prompts: P of them.
        probability: (P, H, W) float32 at the photo's own size, 0 to 1.
        threshold: above which a pixel belongs to the mask.
    """

    prompts: Sequence[str]
    probability: npt.NDArray[np.float32]
    threshold: float

    @property
    def masks(self) -> npt.NDArray[np.bool_]:
        """(P, H, W) bool."""
        return self.probability > self.threshold


class Segmenter:
    """Segments photos by text.

        segmenter = Segmenter.from_checkpoint("runs/pc_plus/checkpoints/best.ckpt")
        result = segmenter("photo.jpg", ["a dog", "grass"])
        result.masks  # (2, H, W) bool, at the photo's own size

    Args:
        model: with its weights.
        image_size: what photos are brought to before the model sees them: their aspect is kept,
            their area becomes about the square of it.
        threshold: above which a pixel belongs to a mask.
    """

    def __init__(
        self, model: CLIPSeg, image_size: int = PAPER_SIZE, threshold: float = PAPER_THRESHOLD
    ) -> None:
        """Move the model to the fastest device there is."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.eval().to(self.device)
        self.image_size, self.threshold = image_size, threshold

    @classmethod
    def from_checkpoint(cls, file: str | Path, backbone: Backbone | None = None) -> Self:
        """Load a checkpoint of this project, a decoder of the authors or Hugging Face's CLIPSeg.

        Args:
            file: "toy" for the weights that come with the package and know drawn scenes only. A
                `.ckpt` remembers its backbone, decoder, image size and best threshold. A
                published decoder (`.pth`) or whole CLIPSeg (`model.safetensors`,
                `pytorch_model.bin`) is taken for one on layers 3, 7 and 9.
            backbone: for a published file. By default the CLIP that the file holds, as Hugging
                Face's do, else OpenAI's ViT-B/16.

        Raises:
            ValueError: naming the file, if it is none of these.
            FileNotFoundError: naming the file, or where CLIP's weights were looked for.
        """
        file = _TOY_CHECKPOINT if file == TOY else Path(file).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"no checkpoint {file}")
        if file.suffix == ".ckpt":
            return cls._from_lightning(file)
        state = read_state_dict(file)
        backbone = backbone or _published_backbone(state, file)
        try:
            return cls(CLIPSeg(backbone, partial(build_decoder, state)))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error

    @classmethod
    def _from_lightning(cls, file: Path) -> Self:
        content = read_checkpoint(file)
        if "backbone" not in content["hyper_parameters"]:
            raise ValueError(
                f"{file}: does not name its backbone, as it was not made by the command line; "
                "compose the model in Python and give it to Segmenter(model)"
            )
        module = CLIPSegModule.load_from_checkpoint(file, map_location="cpu", weights_only=True)
        return cls(
            module.model,
            content["image_size"] or PAPER_SIZE,
            PAPER_THRESHOLD if content["threshold"] is None else content["threshold"],
        )

    @torch.inference_mode()
    def __call__(self, image: str | Path | RGB, prompts: Sequence[str]) -> Segmentation:
        """Segment a photo by all prompts, encoding it once.

        Args:
            image: a file (turned as its EXIF orientation says), or (H, W, 3) uint8 RGB.
            prompts: a list of what to look for, at least one, none of them empty.

        Raises:
            ValueError: for no prompt, an empty one or a bare string; for an array that is no
                (H, W, 3) uint8 RGB.
            UnreadableImageError: naming the file.
        """
        if isinstance(prompts, str):
            raise ValueError(f"prompts is a list of texts: [{prompts!r}]")
        if not prompts or not all(prompt.strip() for prompt in prompts):
            raise ValueError("give at least one prompt, none of them empty")
        photo = read_image(Path(image), upright=True) if isinstance(image, str | Path) else image
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
            raise ValueError(f"an image is (H, W, 3) uint8, not {photo.shape} {photo.dtype}")
        size = photo.shape[0], photo.shape[1]
        pixels = to_tensor(np.ascontiguousarray(photo))[None]
        encoding = self.model.encode(self._resized(pixels).to(self.device))
        conditional = self.model.backbone.embed_text(prompts)
        owner = torch.zeros(len(prompts), dtype=torch.long, device=self.device)
        probability = self.model.decode(encoding, conditional, owner).sigmoid()
        at_size = F.interpolate(probability, size, mode="bilinear", align_corners=False)
        return Segmentation(prompts, at_size[:, 0].float().cpu().numpy(), self.threshold)

    def _resized(self, pixels: Tensor) -> Tensor:
        """(1, 3, H, W) uint8 with sides that are multiples of the patch."""
        patch = self.model.backbone.shape.patch_size
        height, width = pixels.shape[2:]
        scale = self.image_size / (height * width) ** 0.5
        sides = [max(1, round(side * scale / patch)) * patch for side in (height, width)]
        return F.interpolate(pixels, sides, mode="bilinear", antialias=True)


def _published_backbone(state: Mapping[str, Tensor], file: Path) -> CLIPBackbone:
    """The CLIP that the file holds beside its decoder, else OpenAI's."""
    clip = clip_state(state)
    backbone = CLIPBackbone(pretrained=not clip)
    if clip:
        try:
            backbone.clip.load_state_dict(clip)
        except RuntimeError as error:
            raise ValueError(f"{file}: its CLIP is no ViT-B/16 of OpenAI's kind") from error
    return backbone
