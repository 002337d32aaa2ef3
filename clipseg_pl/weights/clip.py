"""Where CLIP's configuration, weights and vocabulary come from.

A name is looked up as a file first (`<name>.json`, an open_clip model configuration or the
`open_clip_config.json` of a model on Hugging Face, with `<name>.safetensors` or `.pt` beside it)
in the folder that `CLIPSEG_WEIGHTS` names and in the package, which holds the CLIP of the toy
world ("toy"). Then it is one of open_clip's, whose weights are looked for as `<name>-<tag>.*` in
the same folders and in open_clip's download cache. So a checkpoint needs to remember a name only,
no path.
"""

import difflib
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from clipseg_pl.weights.files import load_strictly, one_line, read_json, repeatable_weights
from clipseg_pl.weights.places import download_weights, find_file, find_weights

RGB = tuple[float, float, float]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
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
    and which are close; where with others, they are its own. Those of
    ViT-L-14's laion2b_s32b_b82k are 0.5: ImageNet's would double the contrast it has learned on.
    """
    own = _own_config(name)
    published = own.get("preprocess_cfg", {}) if own else open_clip.get_pretrained_cfg(name, tag)
    openai = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    mean, std = tuple(published.get("mean", openai[0])), tuple(published.get("std", openai[1]))
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
        file = weights_on_disk(name, tag) or download_weights(
            f"{tag!r} for {name}", f"{name}-{tag}", _repository(name, tag), _HUB_NAMES
        )
        load_strictly(clip, name, file, ignored=_SIZES)
    return clip


def new_clip(config: Mapping[str, Any]) -> CLIP:
    """Build a CLIP of random weights, drawn from a fixed seed, by an open_clip configuration.

    Raises:
        ValueError: if it is of none.
    """
    try:
        with repeatable_weights():
            return CLIP(**config)
    except Exception as error:  # open_clip checks nothing
        raise ValueError(f"its configuration is of no CLIP ({one_line(error)})") from error


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
    if not own:  # asked before a file is looked for, which would not tell
        _check_activation(name, tag, bool(config.get("quick_gelu")))
    stem = name if own else f"{name}-{tag}"
    return find_weights(stem, own, partial(_repository, name, tag), _HUB_NAMES)


def published_at(name: str, tag: str) -> str:
    """Address that weights are downloaded from; raises as `build_clip` does."""
    return f"https://huggingface.co/{_repository(name, tag)}"


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


def _repository(name: str, tag: str) -> str:
    """Where Hugging Face has weights: all plain ViTs of open_clip are there ("owner/name/").

    Raises:
        ValueError: if open_clip does not know them.
    """
    published: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag)
    if not published:
        known = ", ".join(usable_tags(name)) or "none"
        raise ValueError(f"open_clip knows no weights {tag!r} for {name} (known: {known})")
    return os.path.dirname(str(published["hf_hub"]))


def _check_activation(name: str, tag: str, quick: bool) -> None:
    """Refuse weights that were trained with the other activation function."""
    plain = name.removesuffix("-quickgelu")
    published = open_clip.get_pretrained_cfg(plain, tag)  # lists the quick ones too
    if published and bool(published.get("quick_gelu")) != quick:
        other = plain if quick else f"{plain}-quickgelu"
        raise ValueError(f"the weights {tag!r} belong to {other}: the activation differs")


class PrunedTokenizer:
    """Maps CLIP's token ids to the rows of a smaller embedding table.

    Args:
        tokenizer: the full one, open_clip's `SimpleTokenizer`.
        kept: token ids in row order; ids not among them get the row of the padding, id 0.
    """

    def __init__(self, tokenizer: Any, kept: list[int]) -> None:  # noqa: ANN401 - open_clip's
        """Invert the list of kept ids, which rise from 0: the end token must stay the largest."""
        self.tokenizer = tokenizer
        self.row = torch.full((tokenizer.vocab_size,), kept.index(0))
        self.row[torch.tensor(kept)] = torch.arange(len(kept))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text in the full vocabulary, without start and end."""
        ids: list[int] = self.tokenizer.encode(text)
        return ids

    def __call__(self, texts: list[str]) -> Tensor:
        """Rows of the pruned table: (len(texts), context length) int64."""
        return self.row[self.tokenizer(texts)]
