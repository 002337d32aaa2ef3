"""Whether the weights of frozen backbones are on this machine; nothing is downloaded."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from clipseg_pl.doctor.findings import Finding
from clipseg_pl.models import vit_backbone
from clipseg_pl.weights import clip as clip_weights
from clipseg_pl.weights.clip import PAPERS_CLIP, PAPERS_TAG
from clipseg_pl.weights.places import TOY, weight_folders

PAPERS_VIT = "vit_base_patch16_384"


def check_clip(root: Path, every: bool) -> Iterator[Finding]:
    """OpenAI's ViT-B/16, the paper's, and the toy world's CLIP, built with their weights.

    Args:
        root: not used; weights have folders of their own.
        every: not used.
    """
    given = os.environ.get("CLIPSEG_WEIGHTS")
    folder = weight_folders()[0]
    if not given:
        says = "not set; a folder that it names is searched before the caches of open_clip and timm"
        yield Finding("ok", "CLIPSEG_WEIGHTS", says)
    elif not folder.is_dir():
        yield Finding("wrong", "CLIPSEG_WEIGHTS", f"{folder} is no folder: make it, or unset it")
    else:
        files = sorted(file.name for file in folder.iterdir() if file.is_file())
        says = f"{folder} holds {', '.join(files[:6]) or 'nothing'}{', ...' if files[6:] else ''}"
        yield Finding("ok", "CLIPSEG_WEIGHTS", says)
    yield clip_weights_found(PAPERS_CLIP, PAPERS_TAG)
    yield clip_weights_found(TOY, PAPERS_TAG)


def check_vit(root: Path, every: bool) -> Iterator[Finding]:
    """The ImageNet ViT of the baseline ViTSeg; arguments as of `check_clip`."""
    yield vit_weights_found(PAPERS_VIT)


def clip_weights_found(name: str, tag: str) -> Finding:
    """Where the weights of a CLIP are, and whether they are its."""
    thing = f"{name} {tag}" if name != TOY else name
    try:
        file = clip_weights.weights_on_disk(name, tag)
        if not file:
            return Finding(
                "missing", thing, _to_be_had(f"{name}-{tag}", clip_weights.published_at(name, tag))
            )
        clip_weights.build_clip(name, tag=tag, pretrained=True)
    except (OSError, ValueError) as error:
        return Finding("wrong", thing, str(error))
    return Finding("ok", thing, str(file))


def vit_weights_found(name: str) -> Finding:
    """Where the weights of a ViT are, and whether they are its."""
    try:
        file = vit_backbone.weights_on_disk(name)
        if not file:
            return Finding("missing", name, _to_be_had(name, vit_backbone.published_at(name)))
        vit_backbone.build_vit(name, pretrained=True)
    except (OSError, ValueError) as error:
        return Finding("wrong", name, str(error))
    return Finding("ok", name, str(file))


def backbone_found(described: object) -> Iterator[Finding]:
    """The weights of a backbone that is described as in a checkpoint's hyper-parameters."""
    given = described if isinstance(described, Mapping) else {}
    path, options = given.get("class_path"), given.get("init_args", {})
    if not (isinstance(path, str) and isinstance(options, Mapping)):
        yield Finding("wrong", "backbone", f"described as {described!r}, no class and its options")
        return
    kind = path.rpartition(".")[2]
    vit, tag = options.get("name", PAPERS_VIT), options.get("tag", PAPERS_TAG)
    if not options.get("pretrained", True):
        says = f"{kind} {options.get('name')}, untrained: its random weights need no file"
        found = [Finding("ok", "", says)]
    elif kind == "CLIPBackbone":
        found = [clip_weights_found(options.get("name", PAPERS_CLIP), tag)]
    elif kind == "ViTBackbone":
        clip = options.get("clip") or vit_backbone.clip_beside(vit)
        found = [vit_weights_found(vit), clip_weights_found(clip, tag)]
    else:
        found = [Finding("note", path, "none of this package: not looked for")]
    for state, name, says in found:
        yield Finding(state, "backbone", f"{name}: {says}" if name else says)


def _to_be_had(stem: str, source: str) -> str:
    return (
        f"not on this machine: the first use downloads it from {source}, or put it as "
        f"{stem}.safetensors into the folder that CLIPSEG_WEIGHTS names"
    )
