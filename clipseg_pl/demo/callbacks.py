"""What the page calls when its fields change."""

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
    """What a user can mend becomes a message on the page.

    Args:
        segmenter: is asked.
        folder: for masks to download; whoever gives it empties it.
    """

    def __init__(self, segmenter: Segmenter, folder: Path) -> None:
        self.segmenter, self.folder = segmenter, folder

    def see(self, upload: Mapping[str, Any] | None) -> session.SeenPhoto | None:
        """A photo was chosen, or taken away: encode it; None where there is nothing to ask about.

        Args:
            upload: `path` of the file that Gradio keeps.
        """
        if upload is None:
            return None
        try:
            return session.see(self.segmenter, uploaded(upload.get("path"), self.folder))
        except ValueError as error:  # not raised: what the page knows of the last photo must go
            gr.Warning(str(error))
            return None

    def show(self, editor: Mapping[str, Any] | None) -> ImagePrompt:
        """An example was painted."""
        try:
            return session.read_example(editor)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def ask(
        self,
        seen: session.SeenPhoto | None,
        words: str,
        example: ImagePrompt | None,
        example_words: str,
        weight: float,
    ) -> Segmentation | None:
        """Photo or prompts have changed: segment; None where there is no photo."""
        if seen is None:
            return None
        prompts = session.list_prompts(words, example, example_words, weight)
        try:
            with warnings.catch_warnings(record=True) as noticed:
                warnings.simplefilter("always")
                segmentation = session.ask(self.segmenter, seen, prompts)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        for warning in noticed:
            if warning.category is UserWarning:  # such as that of a prompt that CLIP cuts
                gr.Warning(str(warning.message))
        return segmentation

    def draw(
        self,
        seen: session.SeenPhoto | None,
        segmentation: Segmentation | None,
        threshold: float,
        least_presence: float,
    ) -> tuple[Image.Image | None, str, str | None]:
        """Picture, table and file of masks; no model is asked."""
        if seen is None or segmentation is None:
            return None, NO_PHOTO, None
        shown = replace(segmentation, threshold=threshold, absent_cut=least_presence)
        overlay = draw_overlay(seen.photo, shown.masks, list(shown.prompts))
        masks = write_masks(shown, overlay, Path(tempfile.mkdtemp(dir=self.folder)))
        height, width = seen.photo.shape[:2]  # the table is the legend
        return overlay.crop((0, 0, width, height)), write_table(shown), str(masks)


def uploaded(named: object, folder: Path) -> Path:
    """The file that a request names.

    Gradio lets requests name any file of this machine, where they leave out its mark of a file.

    Args:
        named: a path.
        folder: that Gradio keeps uploads in.

    Raises:
        ValueError: if it lies elsewhere.
    """
    if isinstance(named, str) and "\0" not in named:
        file = Path(named).resolve()
        if file.is_relative_to(folder.resolve()):
            return file
    raise ValueError(NO_PHOTO)
