"""Callbacks of the page's fields."""

import tempfile
import warnings
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from clipseg_pl.demo import session
from clipseg_pl.inference.editing import Edits
from clipseg_pl.prompts.image_prompt import ImagePrompt

if TYPE_CHECKING:
    from clipseg_pl.inference.segmenter import Segmenter

NO_PHOTO = "Upload a photo and describe what to segment."
NO_PROMPT = "Describe what to segment, or paint over an example."
_LOADING = "The model is still loading. The photo is segmented as soon as it is ready."
_FAILED = "The model could not be loaded"
UNION, INVERT, CUTOUT = "Merge the masks", "Invert", "Cutouts instead of masks"
"""options of the masks"""


class Callbacks:
    """Callbacks of the page. User errors are shown as messages on the page.

    An "example" is a support image on which the user has painted the object.

    Args:
        model: segmenter that the page runs, possibly still loading.
        name: name of the model.
        folder: folder for the masks to download. The caller deletes it.
    """

    def __init__(self, model: "Future[Segmenter]", name: str, folder: Path) -> None:
        self.model, self.name, self.folder = model, name, folder

    def wait(self) -> tuple[str, Any, Any]:
        """Wait until the model is loaded; return its description, and show its thresholds."""
        try:
            segmenter = self.model.result()
        except Exception as error:
            return f"<b>{_FAILED}:</b> {escape(str(error))}", gr.skip(), gr.skip()
        dtype = str(segmenter.dtype).removeprefix("torch.")
        status = f"Model: <b>{escape(self.name)}</b>, on {segmenter.device} in {dtype}"
        threshold = gr.update(value=segmenter.threshold, visible=True)
        if segmenter.class_thresholds:
            threshold["info"] = (
                "Minimum probability in a mask. Phrases of trained classes use their own "
                "thresholds until you move the slider."
            )
        return status, threshold, gr.update(value=segmenter.absent_cut, visible=True)

    def encode(self, upload: Mapping[str, Any] | None) -> session.PagePhoto | None:
        """Encode the new photo when the user changes it.

        Args:
            upload: `path` of the uploaded file, as stored by Gradio.

        Returns:
            None if there is no photo, it is unreadable, or the model is not loaded yet. The page
            calls this again when it is.
        """
        if upload is None or not self.model.done() or self.model.exception():
            return None
        try:
            return session.encode(self.model.result(), uploaded(upload.get("path"), self.folder))
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
        minus: str,
    ) -> session.Result | None:
        """Segment after the photo or the prompts have changed; None if one of them is missing."""
        prompts = session.list_prompts(phrases, example, example_text, weight)
        if photo is None or not prompts:
            return None
        subtracted = session.split_phrases(minus)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                result = session.segment(self.model.result(), photo, prompts, subtracted)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        for warning in caught:
            if warning.category is UserWarning:  # e.g. that CLIP truncates a prompt
                gr.Warning(str(warning.message))
        return result

    def draw(
        self,
        photo: session.PagePhoto | None,
        result: session.Result | None,
        threshold: float,
        absent_cut: float,
        options: Collection[str],
        grow: float,
        feather: float,
    ) -> tuple[Image.Image | None, str, str | None]:
        """Return the overlay, the table and the zip file of masks, without running the model.

        Without a result, returns a hint instead of the table.
        """
        if photo is None or result is None:
            hint = NO_PHOTO if photo is None else NO_PROMPT
            if not self.model.done():
                hint = _LOADING
            elif self.model.exception():
                hint = f"{_FAILED}."
            return None, hint, None
        edits = Edits(UNION in options, grow, INVERT in options, feather)
        # thresholds of classes apply until the slider is moved
        moved = threshold if threshold != self.model.result().threshold else None
        settings = session.Settings(moved, absent_cut, edits, CUTOUT in options)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        overlay, table, masks = session.show(photo, result, settings, folder)
        return overlay, table, str(masks)


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
