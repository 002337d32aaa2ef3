"""CLIPSeg (Lüddecke & Ecker, CVPR 2022): image segmentation using text and image prompts."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipseg_pl.inference.editing import Edits as Edits
    from clipseg_pl.inference.segmenter import Segmenter as Segmenter
    from clipseg_pl.prompts.image_prompt import Blend as Blend
    from clipseg_pl.prompts.image_prompt import ImagePrompt as ImagePrompt

__version__ = "0.1.0"
__all__ = ["Blend", "Edits", "ImagePrompt", "Segmenter"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - returns classes; imports torch on first use
    if name in __all__:
        from clipseg_pl.inference import segmenter

        return getattr(segmenter, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
