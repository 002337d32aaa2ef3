"""Where CLIP's configuration, weights and vocabulary come from.

A name is looked up as a file first (`<name>.json`, an open_clip model configuration or the
`open_clip_config.json` of a model on Hugging Face, with `<name>.safetensors` or `.pt` beside it)
in the folder that `CLIPSEG_WEIGHTS` names and in the package, which holds the CLIP of the toy
world ("toy"). Then it is one of open_clip's, whose weights are looked for as `<name>-<tag>.*` in
the same folders and in open_clip's download cache. So a checkpoint needs to remember a name only,
no path.
"""

import difflib
import math
import os
from pathlib import Path
from typing import Any

import open_clip
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer

from clipseg_pl.models.backbone import IMAGENET_MEAN, IMAGENET_STD, RGB
from clipseg_pl.models.new_clip import new_clip
from clipseg_pl.models.pruned_tokenizer import PrunedTokenizer
from clipseg_pl.models.weights import (
    find_downloaded,
    find_file,
    load_strictly,
    no_weights_beside,
    read_json,
    weight_folders,
)

PAPERS_CLIP, PAPERS_TAG = "ViT-B-16-quickgelu", "openai"
# keys of the configurations that `CLIPBackbone` computes; others pool or tokenize differently
_PLAIN = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale"}
_TOWER = {"layers", "width", "mlp_ratio", "ls_init_value"}
_PLAIN_VISION = {"image_size", "patch_size", "head_width", *_TOWER}
_PLAIN_TEXT = {"context_length", "vocab_size", "heads", *_TOWER}
_HUB_NAMES = (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
_SIZES = ("input_resolution", "context_length", "vocab_size")  # OpenAI's archives carry them


def find_config(name: str) -> dict[str, Any]:
    """Return the open_clip configuration of that name.

    Raises:
        ValueError: if neither a file nor open_clip knows the name, or if it is no plain ViT CLIP.
    """
    own = _own_config(name)
    # by a colon open_clip would read folders and the network
    known = None if ":" in name else open_clip.get_model_config(name)
    config = own.get("model_cfg", own) if own else known
    if config is None:
        near = difflib.get_close_matches(name, plain_names(), 4, cutoff=0)
        raise ValueError(
            f"unknown CLIP {name!r}: give a name of open_clip ({', '.join(near)}, ...) or put "
            f"{name}.json and its weights into the folder that CLIPSEG_WEIGHTS names "
            f"({os.environ.get('CLIPSEG_WEIGHTS', 'not set')})"
        )
    if not _is_plain(config):
        raise ValueError(
            f"{name} is not a plain ViT CLIP with CLIP's own tokenizer and pooling; "
            "docs/backbones.md lists those that are"
        )
    return dict(config)


def plain_names() -> list[str]:
    """open_clip's names that `CLIPBackbone` computes."""
    return [name for name in open_clip.list_models() if _is_plain(open_clip.get_model_config(name))]


def usable_tags(name: str) -> list[str]:
    """Tags of open_clip's weights that were trained with the activation function of that name."""
    quick = bool(open_clip.get_model_config(name).get("quick_gelu"))
    tags = open_clip.list_pretrained_tags_by_model(name)
    known = ((tag, open_clip.get_pretrained_cfg(name, tag)) for tag in tags)
    return [tag for tag, published in known if bool(published.get("quick_gelu")) == quick]


def find_normalisation(name: str, tag: str) -> tuple[RGB, RGB]:
    """Mean and standard deviation, on the scale 0 to 1, of the pixels that a CLIP is given.

    Where it was trained with OpenAI's they are ImageNet's, which the authors give OpenAI's CLIP
    (paper.md 1.3) and which are close; where with others, they are its own. Those of
    ViT-L-14's laion2b_s32b_b82k are 0.5: ImageNet's would double the contrast it has learned on.
    """
    own = _own_config(name)
    published = own.get("preprocess_cfg", {}) if own else open_clip.get_pretrained_cfg(name, tag)
    openai = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    try:
        mean, std = tuple(published.get("mean", openai[0])), tuple(published.get("std", openai[1]))
        plain = len(mean) == len(std) == 3 and all(map(math.isfinite, mean + std)) and min(std) > 0
    except (AttributeError, TypeError, OverflowError):
        plain = False
    if not plain:
        raise ValueError(f"{name}.json: its preprocess_cfg has no mean and std of three numbers")
    return (IMAGENET_MEAN, IMAGENET_STD) if (mean, std) == openai else (mean, std)


def build_clip(name: str, *, tag: str, pretrained: bool) -> CLIP:
    """Build a CLIP with its weights, or with random ones that depend on nothing but the sizes.

    Args:
        name: see `find_config`.
        tag: which of open_clip's weights of that name, "openai" for the paper's.
        pretrained: false for random weights, drawn from a fixed seed, so that a decoder trained
            on them can be evaluated in another process: checkpoints do not hold the backbone.

    Raises:
        ValueError: unknown name or tag; weights trained with another activation function; a file
            that is unreadable or of another model.
        FileNotFoundError: weights neither on disk nor to be had; says where they were looked for.
    """
    config = find_config(name)
    clip = new_clip(config)
    if pretrained:
        load_strictly(clip, name, _find_weights(name, tag, config), ignored=_SIZES)
    return clip


def build_tokenizer(name: str, context_length: int) -> "PrunedTokenizer | SimpleTokenizer":
    """CLIP's byte-pair tokenizer, cut down where `<name>_vocabulary.json` lists the rows kept."""
    file = find_file(f"{name}_vocabulary", (".json",))
    tokenizer = SimpleTokenizer(context_length=context_length)
    return PrunedTokenizer(tokenizer, read_json(file)) if file else tokenizer


def weights_on_disk(name: str, tag: str) -> Path | None:
    """The file that `build_clip` would read; None where it would have to download one.

    Raises:
        ValueError: unknown name or tag; weights trained with another activation function.
        FileNotFoundError: no weights beside a `<name>.json`.
    """
    config, own = find_config(name), find_file(name, (".json",)) is not None
    if not own:
        _check_activation(name, tag, bool(config.get("quick_gelu")))
    file = find_file(name if own else f"{name}-{tag}")
    if file:
        return file
    if own:
        raise no_weights_beside(name)
    return find_downloaded(_repository(_published(name, tag)), _HUB_NAMES)


def published_at(name: str, tag: str) -> str:
    """Address that weights are downloaded from; raises as `build_clip` does."""
    return f"https://huggingface.co/{_repository(_published(name, tag))}"


def _own_config(name: str) -> dict[str, Any] | None:
    """What `<name>.json` says, if there is one."""
    file = find_file(name, (".json",))
    own = read_json(file) if file else None
    if file and not (isinstance(own, dict) and isinstance(own.get("model_cfg", own), dict)):
        raise ValueError(f"{file}: not a configuration of open_clip")
    return own


def _is_plain(config: dict[str, Any]) -> bool:
    """Whether `CLIPBackbone` computes what a model of that configuration does."""
    vision, text = config.get("vision_cfg"), config.get("text_cfg")
    if not (isinstance(vision, dict) and isinstance(text, dict)):
        return False
    plain = set(config) <= _PLAIN and set(vision) <= _PLAIN_VISION and set(text) <= _PLAIN_TEXT
    return plain and bool(vision.get("patch_size"))  # ResNets have null


def _find_weights(name: str, tag: str, config: dict[str, Any]) -> Path:
    own = find_file(name, (".json",)) is not None
    if not own:  # asked before a file is looked for, which would not tell
        _check_activation(name, tag, bool(config.get("quick_gelu")))
    stem = name if own else f"{name}-{tag}"
    file = find_file(stem)
    if file:
        return file
    if own:
        raise no_weights_beside(name)
    published = _published(name, tag)
    folders = ", ".join(map(str, weight_folders()))
    try:
        return Path(open_clip.download_pretrained(published))
    except Exception as error:
        raise FileNotFoundError(
            f"no weights {tag!r} for {name}: not in CLIPSEG_WEIGHTS ({folders}), not in "
            f"open_clip's cache, and the download failed ({type(error).__name__}). Put the file "
            f"there as {stem}.safetensors or {stem}.pt"
        ) from error


def _published(name: str, tag: str) -> dict[str, Any]:
    """open_clip's entry of weights.

    Raises:
        ValueError: if it has none.
    """
    published: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag)
    if not published:
        known = ", ".join(usable_tags(name)) or "none"
        raise ValueError(f"open_clip knows no weights {tag!r} for {name} (known: {known})")
    return published


def _repository(published: dict[str, Any]) -> str:
    """Where Hugging Face has weights: all plain ViTs of open_clip are there ("owner/name/")."""
    return os.path.dirname(str(published["hf_hub"]))


def _check_activation(name: str, tag: str, quick: bool) -> None:
    """Refuse weights that were trained with the other activation function."""
    plain = name.removesuffix("-quickgelu")
    published = open_clip.get_pretrained_cfg(plain, tag)  # lists the quick ones too
    if published and bool(published.get("quick_gelu")) != quick:
        other = plain if quick else f"{plain}-quickgelu"
        raise ValueError(f"the weights {tag!r} belong to {other}: the activation differs")
