"""Your own photos for `predict`."""

from typing import Any, Literal

from torch.utils.data import DataLoader, Dataset

from clipseg_pl.photo_files import find_photos, is_url
from clipseg_pl.prompts.image_prompt import Blend, ImagePrompt, describe, split
from clipseg_pl.sample import Batch, Sample
from datamodules.base import BaseDataModule, Split
from datamodules.datasets.photos import Photos, collate_readable
from datamodules.samplers import EvaluationSampler

_DEFAULT_IMAGE_SIZE = 352  # the paper's
_DEFAULT_PATCH = 16
"""patch size in pixels if no model is attached; that of the paper's backbone"""


class PhotosDataModule(BaseDataModule):
    """Your own photos for `predict`: it writes masks as `segment` does, on any number of devices.

    Args:
        photos: files, folders and globs, see `find_photos`.
        prompts: prompts for every photo: a phrase, an `ImagePrompt`, a list of `ImagePrompt`
            (their embeddings are averaged), or a `Blend` of phrases and image prompts.
        form: file format of the masks, see `MaskFiles`.
        overlay: also write each photo with its masks drawn on top.
        threshold: probability above which a pixel is foreground; by default the thresholds stored
            in the checkpoint, for the class of a text prompt or for all prompts.
        absent_cut: presence score below which a prompt is considered absent and its mask is empty;
            "stored" uses the checkpoint's value. The default 0 never empties a mask.
        root: not used.
        image_size: side in pixels of a square. Each photo keeps its aspect ratio and is resized to
            about the area of this square. The command line uses the checkpoint's value by default.
            If there is none, 352 is used.
        batch_size: photos per step and device; a batch contains photos of one input size only.
        num_workers: data worker processes; 0 reads the photos in the main process.
        seed: not used; nothing is random.
        name_pattern: file name of a mask without its ending, see `MaskFiles`.

    Raises:
        ValueError: if there is no prompt, a prompt is empty, a photo is a URL, or a number is out
            of range.
        FileNotFoundError: if a path does not exist or contains no photo.
    """

    def __init__(
        self,
        photos: list[str],
        prompts: list[str | ImagePrompt | Blend | list[ImagePrompt]],
        form: Literal["png", "soft", "cutout", "npy", "rle", "labels", "coco", "yolo"] = "png",
        overlay: bool = True,
        threshold: float | None = None,
        absent_cut: float | Literal["stored"] = 0.0,
        root: str = "data",
        image_size: int | None = None,
        batch_size: int = 8,
        num_workers: int = 4,
        seed: int = 0,
        name_pattern: str = "{photo}_{prompt}",
    ) -> None:
        """Find the photos."""
        side = _DEFAULT_IMAGE_SIZE if image_size is None else image_size
        super().__init__(root, side, batch_size, num_workers, seed)
        self.toy = False  # `root` is not used
        if not photos:
            raise ValueError("no photos: set --data.init_args.photos to files, folders or globs")
        if urls := [photo for photo in photos if is_url(photo)]:
            raise ValueError(
                f"{urls[0]}: `predict` does not download photos; use `segment`, or a file"
            )
        if not prompts:
            raise ValueError("no prompts: set --data.init_args.prompts to at least one prompt")
        for prompt in prompts:
            split(prompt)  # raises ValueError if the prompt is empty
        for name, number in (("threshold", threshold), ("absent_cut", absent_cut)):
            if isinstance(number, float | int) and not 0 <= number <= 1:
                raise ValueError(f"--data.init_args.{name} must be in [0, 1], not {number}")
        self.files, self.prompts = find_photos(photos), prompts
        self.output: dict[str, Any] = {
            "form": form,
            "overlay": overlay,
            "threshold": threshold,
            "absent_cut": absent_cut,
            "name_pattern": name_pattern,
        }
        """output settings, see `PhotoMasks`"""

    @property
    def prompt_names(self) -> list[str]:
        """Names of the prompts in results."""
        return [describe(prompt) for prompt in self.prompts]

    def prepare_data(self) -> None:
        """Do nothing: the photos need no preparation."""

    def build(self, split: Split) -> Dataset[Sample]:
        """Build the dataset for `predict`.

        Raises:
            ValueError: for other commands, or if there are image prompts and the protocol's first
                prompt type is not "blend".
        """
        if split != "test":
            raise ValueError("photos without targets can only be used with the `predict` command")
        patch = _DEFAULT_PATCH
        if self.trainer:
            module: Any = self.trainer.lightning_module
            by_example = any(not isinstance(prompt, str) for prompt in self.prompts)
            if by_example and module.protocol.prompt_types[0] != "blend":
                raise ValueError(
                    "image prompts need --model.protocol.init_args.prompt_types [blend]"
                )
            patch = module.model.backbone.shape.patch_size
        return Photos(self.files, self.prompts, self.image_size, patch)

    def split_name(self, split: Split) -> str:
        """Return "photos": there are no splits."""
        return "photos"

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the batches; every photo occurs once over all ranks."""
        dataset = self._dataset("test")
        assert isinstance(dataset, Photos)
        batches = dataset.batches(self.batch_size)
        sampler = EvaluationSampler(batches, *self._rank_and_world_size())
        return self._loader("test", sampler, collate_readable)
