"""Check that the weights of frozen backbones are on this machine, without downloading them."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from clipseg_pl.doctor.findings import Finding
from clipseg_pl.models import vit_backbone
from clipseg_pl.weights import clip as clip_weights
from clipseg_pl.weights.clip import PAPERS_CLIP, PAPERS_TAG
from clipseg_pl.weights.places import TOY_CLIP, weight_folders

PAPERS_VIT = "vit_base_patch16_384"


def check_clip(root: Path, every: bool) -> Iterator[Finding]:
    """Check CLIPSEG_WEIGHTS, and load the paper's CLIP (OpenAI's ViT-B/16) and the toy CLIP.

    Args:
        root: not used; weights are not in the dataset folder.
        every: not used.
    """
    variable, folder = "CLIPSEG_WEIGHTS", weight_folders()[0]
    if not os.environ.get(variable):
        message = "not set. Optional: a folder to search before the caches of open_clip and timm"
        yield Finding("ok", variable, message)
    elif not folder.is_dir():
        yield Finding(
            "wrong", variable, f"{folder} is not a folder: create it, or unset {variable}"
        )
    else:
        files = sorted(file.name for file in folder.iterdir() if file.is_file())
        listing = f"{', '.join(files[:6]) or 'nothing'}{', ...' if files[6:] else ''}"
        yield Finding("ok", variable, f"{folder} contains {listing}")
    yield find_clip_weights(PAPERS_CLIP, PAPERS_TAG)
    yield find_clip_weights(TOY_CLIP, PAPERS_TAG)


def check_vit(root: Path, every: bool) -> Iterator[Finding]:
    """Check the ImageNet ViT of the baseline ViTSeg; see `check_clip` for the arguments."""
    yield find_vit_weights(PAPERS_VIT)


def find_clip_weights(name: str, tag: str) -> Finding:
    """Find the weights of a CLIP and load them."""
    subject = f"{name} {tag}" if name != TOY_CLIP else name
    try:
        file = clip_weights.weights_on_disk(name, tag)
        if not file:
            return Finding(
                "missing",
                subject,
                _how_to_get(f"{name}-{tag}", clip_weights.download_url(name, tag)),
            )
        clip_weights.build_clip(name, tag=tag, pretrained=True)
    except (OSError, ValueError) as error:
        return Finding("wrong", subject, str(error))
    return Finding("ok", subject, str(file))


def find_vit_weights(name: str) -> Finding:
    """Find the weights of a ViT and load them."""
    try:
        file = vit_backbone.weights_on_disk(name)
        if not file:
            return Finding("missing", name, _how_to_get(name, vit_backbone.download_url(name)))
        vit_backbone.build_vit(name, pretrained=True)
    except (OSError, ValueError) as error:
        return Finding("wrong", name, str(error))
    return Finding("ok", name, str(file))


def check_backbone(description: object) -> Iterator[Finding]:
    """Find the weights of a backbone.

    Args:
        description: class_path and init_args, as in the hyper-parameters of a checkpoint.
    """
    entries = description if isinstance(description, Mapping) else {}
    path, options = entries.get("class_path"), entries.get("init_args", {})
    if not (isinstance(path, str) and isinstance(options, Mapping)):
        message = f"invalid description {description!r}: expected class_path and init_args"
        yield Finding("wrong", "backbone", message)
        return
    kind = path.rpartition(".")[2]
    vit, tag = options.get("name", PAPERS_VIT), options.get("tag", PAPERS_TAG)
    if not options.get("pretrained", True):
        message = f"{kind} {options.get('name')}, not pretrained: needs no weights file"
        found = [Finding("ok", "", message)]
    elif kind == "CLIPBackbone":
        found = [find_clip_weights(options.get("name", PAPERS_CLIP), tag)]
    elif kind == "ViTBackbone":
        clip = options.get("clip") or vit_backbone.default_clip(vit)
        found = [find_vit_weights(vit), find_clip_weights(clip, tag)]
    else:
        found = [Finding("note", path, "not a backbone of this package: not checked")]
    for state, name, message in found:
        yield Finding(state, "backbone", f"{name}: {message}" if name else message)


def _how_to_get(stem: str, source: str) -> str:
    return (
        f"not on this machine. The file is downloaded on first use from {source}. To install it by "
        f"hand, save it as {stem}.safetensors in the folder set by CLIPSEG_WEIGHTS"
    )
