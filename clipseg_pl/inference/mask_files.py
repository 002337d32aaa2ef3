"""Write masks of photos to disk."""

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from typing_extensions import Self

from clipseg_pl.atomic import check_folders, write_text
from clipseg_pl.images import RGB
from clipseg_pl.inference.editing import UNEDITED, Edits, check_form
from clipseg_pl.inference.file_names import NAME_PATTERN, check_name_pattern, join_name
from clipseg_pl.inference.mask_formats import FORMATS, Form, Segmented, save_image
from clipseg_pl.inference.overlay import draw_overlay
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.photo_files import PhotoFile, is_url


class MaskFiles:
    """Write the masks of P prompts for any number of photos.

    Every file is written completely or not at all. All results have the size of the photo.

    ========  ===================================================================================
    png       `<photo>_<prompt>.png`: one mask per prompt, 0 or 255; 0 to 255 if feathered
    soft      `<photo>_<prompt>_soft.png`: probabilities mapped to 0 to 255, see `Segmentation.soft`
    cutout    `<photo>_<prompt>_cutout.png`: the photo with the mask as its alpha channel
    npy       `<photo>.npy`: (P, H, W) float16 probabilities, without a threshold
    rle       `masks.json`: the masks of all photos in COCO results format, with the extra keys
              `file_name` (photo) and `prompt`; `score` is the presence score, the confidence
              that the prompted object is in the photo
    labels    `<photo>_labels.png`: indexed image, 0 is background, p + 1 is prompt p
    coco      `annotations.coco.json`: a COCO dataset of all photos. Prompts are categories; masks
              are polygons, see `trace`; an empty mask has no annotation; `score` as in rle
    yolo      `labels/<photo>.txt` and `data.yaml`: a dataset of Ultralytics, with one polygon per
              connected part of a mask. The photos belong in the folder `images` beside `labels`
    ========  ===================================================================================

    With npy and labels, `prompts.json` lists the prompts in the order of the rows or labels. With
    `edits.union`, <prompt> is `union`, and `score` is the highest presence of all prompts.

    Args:
        folder: output folder, created with the first file.
        prompts: names of the prompts.
        form: output format, see above.
        overlay: also write `<photo>_overlay.png`, the masks drawn on the photo with a legend. The
            masks are edited, but not feathered.
        edits: edits of the masks.
        name_pattern: replaces `<photo>_<prompt>` in file names, see `check_name_pattern`.

    Raises:
        ValueError: if the format cannot show the edits or the prompts: a label map has 255 labels,
            and the names in a dataset are unique; or if the name pattern is invalid.
    """

    def __init__(
        self,
        folder: Path,
        prompts: Sequence[str],
        form: Form,
        overlay: bool,
        edits: Edits = UNEDITED,
        name_pattern: str = NAME_PATTERN,
    ) -> None:
        """Choose the format."""
        check_form(form, edits)
        check_name_pattern(name_pattern, form, len(prompts) > 1 and not edits.union)
        self.folder, self.prompts, self.overlay, self.edits = folder, prompts, overlay, edits
        self._format = FORMATS[form](prompts, edits, name_pattern)
        self.names = self._format.names
        """names of the Q masks of a photo"""
        self.entries: list[tuple[int, Any]] = []
        """number of each written photo and its entry in the file of all photos"""

    def photo_files(self, photo: PhotoFile) -> list[Path]:
        """Return the result files of one photo, without shared files; the overlay is the last."""
        names = self._format.files(photo)
        if self.overlay:
            names = [*names, join_name(photo.stem, "{photo}_overlay.png")]
        return [self.folder / name for name in names]

    def mask_file(self, photo: PhotoFile, mask: int) -> Path:
        """Return the file that contains a mask, by its index from 0."""
        names = self._format.files(photo)
        return self._collection or self.folder / names[mask if len(names) > 1 else 0]

    @property
    def needs_pixels(self) -> bool:
        """Whether `write` needs the pixels of the photo."""
        return self.overlay or self._format.needs_pixels

    def check(
        self, photos: Sequence[PhotoFile], overwrite: bool, examples: Sequence[Path] = ()
    ) -> None:
        """Check that all results can be written. Call this before the first photo is segmented.

        Args:
            photos: all photos.
            overwrite: whether results of earlier runs may be replaced. Photos and examples are
                never replaced.
            examples: support images and support masks.

        Raises:
            OSError: if a folder is not writable, a file exists and may not be overwritten, or
                the existing `prompts.json` or `data.yaml` lists other prompts.
            ValueError: if two results have the same file name, or a result would replace a photo
                or an example.
        """
        files = [file for photo in photos for file in self.photo_files(photo)]
        check_folders((self.folder, *(file.parent for file in files)))
        duplicates = [file for file, times in Counter(files).items() if times > 1]
        if duplicates:
            raise ValueError(f"{duplicates[0]} would be written twice: rename a photo or a prompt")
        sources = [photo.source for photo in photos if not is_url(photo.source)]
        inputs = {Path(file).resolve() for file in (*sources, *examples)}
        legend, collection = self._legend, self._collection
        for file in [*files, *filter(None, (legend, collection))]:
            if file.resolve() in inputs:
                raise ValueError(
                    f"{file} would replace a photo or an example: choose another folder"
                )
            if file.exists() and not overwrite and file != legend:
                raise FileExistsError(f"{file} exists; --overwrite replaces it")
        if legend and legend.exists() and legend.read_text() != self._format.list_prompts():
            raise FileExistsError(f"{legend} lists other prompts: choose another --out")

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Call `finish` on success or KeyboardInterrupt, not after other errors."""
        if error is None or issubclass(error, KeyboardInterrupt):
            self.finish()

    def write(
        self, photo: PhotoFile, number: int, pixels: RGB | None, result: Segmentation
    ) -> tuple[list[float], list[float]]:
        """Write the results of one photo. Those for the file of all photos wait for `finish`.

        Args:
            photo: the photo.
            number: index of the photo among all photos, from 0.
            pixels: (H, W, 3) uint8, see `needs_pixels`.
            result: segmentation of the photo. The masks of prompts after the first P are
                subtracted from those of the first P.

        Returns:
            For each mask, the fraction of the photo that it covers before feathering, and its
            presence score, both 0 to 1.
        """
        result, minus = result.split(len(self.prompts))
        masks = self._format.masks(result, minus)
        presence = result.presence.tolist()
        if self.edits.union:
            presence = [max(presence)]
        files, legend = self.photo_files(photo), self._legend
        for file in filter(None, (*files, legend)):
            file.parent.mkdir(parents=True, exist_ok=True)
        if legend and not legend.exists():
            write_text(legend, self._format.list_prompts())
        shown = Segmented(photo, number, pixels, result, minus, masks, presence)
        entry = self._format.write(shown, files[: len(files) - self.overlay])
        self.entries.append((number, entry))
        if self.overlay:
            assert pixels is not None
            titles = [f"all but {name}" for name in self.names] if self.edits.invert else self.names
            save_image(draw_overlay(pixels, masks, titles), files[-1])
        return [float(mask.mean()) for mask in masks], presence

    def finish(self) -> None:
        """Write the file of all photos, if the format has one and a photo was segmented."""
        if self._collection and self.entries:
            in_order = sorted(self.entries, key=itemgetter(0))
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self._collection, self._format.collect([entry for _, entry in in_order]))

    @property
    def _legend(self) -> Path | None:
        return self.folder / self._format.legend if self._format.legend else None

    @property
    def _collection(self) -> Path | None:
        return self.folder / self._format.collection if self._format.collection else None
