"""placeholder until export lands"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from clipseg_pl.models.backbone import Backbone
from clipseg_pl.models.checkpoints import build_decoder, clip_state
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.weights import read_state_dict


class Published(NamedTuple):
    model: CLIPSeg
    image_size: int


def load_published(file: Path, backbone: Backbone | None = None) -> Published:
    state = read_state_dict(file)
    backbone = backbone or _published_backbone(state, file)
    try:
        return Published(CLIPSeg(backbone, partial(build_decoder, state)), 352)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _published_backbone(state: Mapping[str, Tensor], file: Path) -> CLIPBackbone:
    clip = clip_state(state)
    backbone = CLIPBackbone(pretrained=not clip)
    if clip:
        try:
            backbone.clip.load_state_dict(clip)
        except RuntimeError as error:
            raise ValueError(f"{file}: its CLIP is no ViT-B/16 of OpenAI's kind") from error
    return backbone
