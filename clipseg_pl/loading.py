"""Models with their settings, from checkpoints and what is published."""

from pathlib import Path
from typing import NamedTuple

from clipseg_pl.metrics.functional import kept_or_paper
from clipseg_pl.models.backbone import PAPER_SIZE, Backbone
from clipseg_pl.models.checkpoints import read_checkpoint
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.published import load_published
from clipseg_pl.models.weights import one_line
from clipseg_pl.module import CLIPSegModule
from clipseg_pl.paths import find_checkpoint


class Loaded(NamedTuple):
    """A model, and how it is to be used where nothing else is said; see `Segmenter`."""

    model: CLIPSeg
    image_size: int
    threshold: float
    absent_cut: float


def load_model(file: str | Path, backbone: Backbone | None = None) -> Loaded:
    """Load a checkpoint of this project, a decoder of the authors or Hugging Face's CLIPSeg.

    Args:
        file: see `Segmenter.from_checkpoint`.
        backbone: for a published file.

    Raises:
        ValueError: naming the file, if it is none of these.
        FileNotFoundError: naming the file, or where CLIP's weights were looked for.
    """
    file = find_checkpoint(file)
    if file.suffix != ".ckpt":
        found = load_published(file, backbone)
        threshold, cut = kept_or_paper(found.threshold), found.absent_cut or 0.0
        return Loaded(found.model, found.image_size, threshold, cut)
    content = read_checkpoint(file)
    if "backbone" not in content["hyper_parameters"]:
        raise ValueError(
            f"{file}: does not name its backbone, as it was not made by the command line; "
            "compose the model in Python and give it to Segmenter(model)"
        )
    try:
        module = CLIPSegModule.load_from_checkpoint(file, map_location="cpu", weights_only=True)
    except (OSError, ValueError):
        raise
    except Exception as error:  # classes take what a checkpoint says of them as it is
        raise ValueError(f"{file}: does not fit its description ({one_line(error)})") from error
    size = content["image_size"] or PAPER_SIZE
    cut = content.get("absent_cut") or 0.0
    return Loaded(module.model, size, kept_or_paper(content["threshold"]), cut)
