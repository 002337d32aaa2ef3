"""Photos of one's own, for `predict`."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from torch.utils.data import DataLoader, Dataset, Sampler

from clipseg_pl.photo_files import find_photos
from clipseg_pl.prompts.image_prompt import Blend, ImagePrompt, describe, split
from clipseg_pl.sample import Batch, Sample
from datamodules.base import BaseDataModule, Split
from datamodules.datasets.photos import Photos, collate_readable
from datamodules.samplers import Key

_PAPERS = 352
_PATCH = 16
"""side of the patches of the paper's backbone, for a look at the photos without a model"""


class SameSizeSampler(Sampler[list[Key]]):
    """Given batches, dealt to the ranks in turn.

    Args:
        batches: samples of each.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, batches: Sequence[Sequence[int]], rank: int, world_size: int) -> None:
        """Take this rank's share."""
        self.batches = batches[rank::world_size] or [[]]  # see EvaluationSampler

    def __len__(self) -> int:
        """Batches of this rank; one empty one where it has none."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield this rank's batches."""
        for batch in self.batches:
            yield [(0, number) for number in batch]


class PhotosDataModule(BaseDataModule):
    """Masks for photos of one's own, as `segment` writes them, on any number of devices.

    Args:
        photos: files, folders and globs, see `find_photos`.
        prompts: what to look for in each: words, an `ImagePrompt`, a list of these, which are
            averaged, or a `Blend` of words and examples.
        form: of the masks, see `MaskFiles`.
        overlay: write the masks laid over each photo too.
        threshold: probability above which a pixel counts; by default the checkpoint's own.
        absent_cut: presence below which a prompt is taken to be absent and its mask left empty;
            "kept" for the one in the checkpoint. By default no mask is left empty.
        root: not used; photos lie where `photos` says.
        image_size: side of a square with about the area of what the model sees, in pixels; by
            default the checkpoint's own under the command line, 352 where none says it.
        batch_size: photos a step and device, if the model sees them at one size.
        num_workers: processes that read photos; 0 does it in the main process.
        seed: not used; nothing is drawn.

    Raises:
        ValueError: for no prompt, an empty one, or a number out of range.
        FileNotFoundError: naming what is not there, or holds no photo.
    """

    def __init__(
        self,
        photos: list[str],
        prompts: list[str | ImagePrompt | Blend | list[ImagePrompt]],
        form: Literal["png", "npy", "rle", "labels"] = "png",
        overlay: bool = True,
        threshold: float | None = None,
        absent_cut: float | Literal["kept"] = 0.0,
        root: str = "data",
        image_size: int | None = None,
        batch_size: int = 8,
        num_workers: int = 4,
        seed: int = 0,
    ) -> None:
        """Find the photos."""
        side = _PAPERS if image_size is None else image_size
        super().__init__(root, side, batch_size, num_workers, seed)
        self.toy = False  # nothing is read below the root
        if not photos:
            raise ValueError("no photos: set --data.init_args.photos to files, folders or globs")
        if not prompts:
            raise ValueError("give --data.init_args.prompts at least one prompt")
        for prompt in prompts:
            split(prompt)  # raises for an empty one
        for name, number in (("threshold", threshold), ("absent_cut", absent_cut)):
            if isinstance(number, float | int) and not 0 <= number <= 1:
                raise ValueError(f"--data.init_args.{name} lies in [0, 1], not {number}")
        self.files, self.prompts = find_photos(photos), prompts
        self.output: dict[str, Any] = {
            "form": form,
            "overlay": overlay,
            "threshold": threshold,
            "absent_cut": absent_cut,
        }
        """how masks are to be written, see `PhotoMasks`"""

    @property
    def prompt_names(self) -> list[str]:
        """How results call the prompts."""
        return [describe(prompt) for prompt in self.prompts]

    def prepare_data(self) -> None:
        """Nothing: photos are there."""

    def build(self, split: Split) -> Dataset[Sample]:
        """Build what `predict` reads.

        Raises:
            ValueError: for other verbs; for examples that the model is not told to read.
        """
        if split != "test":
            raise ValueError("photos of one's own have no targets: `predict` is the verb for them")
        patch = _PATCH
        if self.trainer:
            module: Any = self.trainer.lightning_module
            by_example = any(not isinstance(prompt, str) for prompt in self.prompts)
            if by_example and module.protocol.readings[0] != "blend":
                raise ValueError(
                    "prompts with examples need --model.protocol.init_args.readings [blend]"
                )
            patch = module.model.backbone.shape.patch_size
        return Photos(self.files, self.prompts, self.image_size, patch)

    def split_name(self, split: Split) -> str:
        """There are no splits."""
        return "photos"

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Every photo once over all ranks."""
        dataset = self._dataset("test")
        assert isinstance(dataset, Photos)
        batches = dataset.batches(self.batch_size)
        sampler = SameSizeSampler(batches, *self._rank_and_world_size())
        return self._loader("test", sampler, collate_readable)
