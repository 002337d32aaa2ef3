"""Callbacks of the page's fields."""

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from clipseg_pl.demo import session
from clipseg_pl.demo.session import write_masks, write_table
from clipseg_pl.inference.overlay import draw_overlay
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.prompts.image_prompt import ImagePrompt

NO_PHOTO = "Choose a photo first."


class Callbacks:
    """Callbacks of the page. User errors are shown as messages on the page.

    An "example" is a support image on which the user has painted the object.

    Args:
        segmenter: segmenter that the page runs.
        folder: folder for the masks to download. The caller deletes it.
    """

    def __init__(self, segmenter: Segmenter, folder: Path) -> None:
        self.segmenter, self.folder = segmenter, folder

    def encode(self, upload: Mapping[str, Any] | None) -> session.PagePhoto | None:
        """Encode the new photo when the user changes it; None if it was removed or is unreadable.

        Args:
            upload: `path` of the uploaded file, as stored by Gradio.
        """
        if upload is None:
            return None
        try:
            return session.encode(self.segmenter, uploaded(upload.get("path"), self.folder))
        except ValueError as error:  # after gr.Error, the page would keep using the previous photo
            gr.Warning(str(error))
            return None

    def use_example(self, editor: Mapping[str, Any] | None) -> ImagePrompt:
        """Convert the painted example to an image prompt."""
        try:
            return session.read_example(editor)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def segment(
        self,
        photo: session.PagePhoto | None,
        phrases: str,
        example: ImagePrompt | None,
        example_text: str,
        weight: float,
    ) -> Segmentation | None:
        """Segment after the photo or the prompts have changed; None if there is no photo."""
        if photo is None:
            return None
        prompts = session.list_prompts(phrases, example, example_text, weight)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                segmentation = session.segment(self.segmenter, photo, prompts)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        for warning in caught:
            if warning.category is UserWarning:  # e.g. that CLIP truncates a prompt
                gr.Warning(str(warning.message))
        return segmentation

    def draw(
        self,
        photo: session.PagePhoto | None,
        segmentation: Segmentation | None,
        threshold: float,
        absent_cut: float,
    ) -> tuple[Image.Image | None, str, str | None]:
        """Return the overlay, the table and the zip file of masks, without running the model."""
        if photo is None or segmentation is None:
            return None, NO_PHOTO, None
        shown = replace(segmentation, threshold=threshold, absent_cut=absent_cut)
        overlay = draw_overlay(photo.pixels, shown.masks, list(shown.prompts))
        masks = write_masks(shown, overlay, Path(tempfile.mkdtemp(dir=self.folder)))
        height, width = photo.pixels.shape[:2]  # without the legend: the table replaces it
        return overlay.crop((0, 0, width, height)), write_table(shown), str(masks)


def uploaded(path: object, folder: Path) -> Path:
    """Check that a path in a request is an uploaded file, and return it.

    Gradio only checks paths that a request marks as files (`meta`). Without the check in this
    function, a request that omits the mark could open any file of this machine.

    Args:
        path: path in the request.
        folder: folder in which Gradio stores uploads.

    Raises:
        ValueError: if the path is not inside the folder.
    """
    if isinstance(path, str) and "\0" not in path:
        file = Path(path).resolve()
        if file.is_relative_to(folder.resolve()):
            return file
    raise ValueError(NO_PHOTO)
