"""CLIPs by their configurations, which may come from anywhere and say anything."""

from collections.abc import Mapping
from typing import Any

import torch
from open_clip.model import CLIP

from clipseg_pl.models.weights import one_line, repeatable_weights

_MOST_LAYERS, _MOST_WEIGHTS = 1000, 10**10  # the largest of open_clip has 2.5 billion


def new_clip(config: Mapping[str, Any]) -> CLIP:
    """Build a CLIP of random weights, drawn from a fixed seed, by an open_clip configuration.

    Raises:
        ValueError: if it is of none, or of one beyond all that there are or that memory holds.
    """
    weights = sum(parameter.numel() for parameter in outline(config).parameters())
    try:
        if weights > _MOST_WEIGHTS:
            raise MemoryError(f"{_MOST_WEIGHTS:,} at most")
        with repeatable_weights():
            return CLIP(**config)
    except (MemoryError, RuntimeError) as error:
        raise ValueError(f"a CLIP of {weights:,} weights: {one_line(error)}") from error


def outline(config: Mapping[str, Any]) -> CLIP:
    """A CLIP without numbers, which takes no memory.

    Raises:
        ValueError: if the configuration is of none.
    """
    try:
        layers = max(config[tower]["layers"] for tower in ("vision_cfg", "text_cfg"))
        if layers > _MOST_LAYERS:
            raise ValueError(f"{layers} layers")
        with torch.device("meta"):
            return CLIP(**config)
    except Exception as error:  # open_clip checks nothing
        raise ValueError(f"its configuration is of no CLIP ({one_line(error)})") from error
