"""Print the tables of docs/backbones.md: python -m tests.backbones."""

from collections.abc import Iterator

import torch
from open_clip.model import CLIP
from torch import nn

from clipseg_pl.inference.segmenter import PAPER_SIZE
from clipseg_pl.models.backbone import BackboneShape
from clipseg_pl.models.decoder import FiLMDecoder, default_layers
from clipseg_pl.weights.clip import find_config, plain_names, usable_tags

SIZES = (
    "| name | patch | blocks | tapped | C | image sizes | decoder, D = 64 | CLIP (million) |",
    "|---|---:|---:|---|---:|---|---:|---:|",
)
WEIGHTS = ("| name | tags |", "|---|---|")


def published() -> list[str]:
    """Return the open_clip names that `CLIPBackbone` supports and that have weights."""
    return [name for name in plain_names() if usable_tags(name)]


def sizes(name: str) -> str:
    """Return the row of a name: shape, own image size, and the size nearest to the paper's 352."""
    config = find_config(name)
    vision = config["vision_cfg"]
    patch = vision["patch_size"]
    shape = BackboneShape(vision["width"], config["embed_dim"], patch, vision["layers"])
    with torch.device("meta"):
        decoder, clip = count(FiLMDecoder(shape)), count(CLIP(**config))
    layers = ", ".join(map(str, default_layers(shape)))
    images = f"{vision['image_size']}, {round(PAPER_SIZE / patch) * patch}"
    cells = (patch, shape.depth, layers, shape.embed_dim, images, f"{decoder:,}", clip // 10**6)
    return f"| {' | '.join(map(str, (name, *cells)))} |"


def weights(name: str) -> str:
    """Return the row of a name with its tags."""
    return f"| {name} | {', '.join(usable_tags(name))} |"


def count(model: nn.Module) -> int:
    """Return the number of parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def tables() -> Iterator[str]:
    """Yield the lines of both tables."""
    yield from (*SIZES, *map(sizes, published()), "", *WEIGHTS, *map(weights, published()))


if __name__ == "__main__":
    print(*tables(), sep="\n")
