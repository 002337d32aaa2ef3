"""CLIP's configuration, weights and vocabulary, by name.

Checkpoints store the name of their CLIP and no path. A name is resolved as follows:

1. Custom CLIP: `<name>.json` with weights `<name>.safetensors` or `<name>.pt` in the folder
   $CLIPSEG_WEIGHTS or in the package. The JSON file is an open_clip model configuration or the
   `open_clip_config.json` of a model on Hugging Face. The package contains the CLIP of the toy
   world, named `TOY_CLIP`.
2. Model of open_clip: its weights are searched as `<name>-<tag>.*` in the same folders, then in
   Hugging Face's download cache. If they are in neither, they are downloaded. The tag is
   open_clip's name of the training of the weights, like "openai".
"""

import difflib
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipseg_pl.weights.clip_layers import CLIP
from clipseg_pl.weights.files import load_strictly, one_line, read_json, repeatable_weights
from clipseg_pl.weights.open_clip_parts import config_file, open_clip_part
from clipseg_pl.weights.places import download_weights, find_custom, find_file, find_weights

RGB = tuple[float, float, float]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PAPERS_CLIP, PAPERS_TAG = "ViT-B-16-quickgelu", "openai"
# configuration keys that `CLIPBackbone` supports; other keys change the pooling or the tokenizer
_PLAIN = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale"}
_TOWER = {"layers", "width", "mlp_ratio", "ls_init_value"}
_PLAIN_VISION = {"image_size", "patch_size", "head_width", *_TOWER}
_PLAIN_TEXT = {"context_length", "vocab_size", "heads", *_TOWER}
_HUB_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_SIZES = ("input_resolution", "context_length", "vocab_size")  # no weights, but in OpenAI's files


def find_config(name: str) -> dict[str, Any]:
    """Return the open_clip configuration of a CLIP.

    Args:
        name: name of a custom configuration or of an open_clip model.

    Raises:
        ValueError: if the name is unknown or belongs to an older toy CLIP, or the model is not a
            plain ViT CLIP.
    """
    own = _own_config(name)
    config = own.get("model_cfg", own) if own else _published_config(name)
    if config is None:
        near = difflib.get_close_matches(name, plain_names(), 4, cutoff=0)
        raise ValueError(
            f"unknown CLIP {name!r}: use a model of open_clip ({', '.join(near)}, ...) or put "
            f"{name}.json and its weights into the folder $CLIPSEG_WEIGHTS "
            f"({os.environ.get('CLIPSEG_WEIGHTS', 'not set')})"
        )
    if not _is_plain(config):
        raise ValueError(
            f"{name} is not a plain ViT CLIP with CLIP's own tokenizer and pooling; see the "
            "supported models in docs/backbones.md"
        )
    return dict(config)


def plain_names() -> list[str]:
    """Return the names of the open_clip models that `CLIPBackbone` supports."""
    import open_clip  # slow

    return [name for name in open_clip.list_models() if _is_plain(open_clip.get_model_config(name))]


def usable_tags(name: str) -> list[str]:
    """Return the tags of the weights that were trained with the model's activation function."""
    quick = bool((_published_config(name) or {}).get("quick_gelu"))
    tags = open_clip_part("pretrained").list_pretrained_tags_by_model(name)
    known = ((tag, _pretrained_config(name, tag)) for tag in tags)
    return [tag for tag, published in known if bool(published.get("quick_gelu")) == quick]


def find_normalisation(name: str, tag: str) -> tuple[RGB, RGB]:
    """Return the mean and standard deviation for normalising images with values in [0, 1].

    For CLIPs trained with OpenAI's constants, these are the similar constants of ImageNet, which
    the authors use for OpenAI's CLIP. For other CLIPs, they are the constants of the CLIP's own
    training. For example, ViT-L-14 laion2b_s32b_b82k was trained with 0.5 for both. ImageNet's
    constants would double the contrast of its images. See `docs/deviations.md` (normalisation).
    """
    own = _own_config(name)
    published = own.get("preprocess_cfg", {}) if own else _pretrained_config(name, tag)
    constants = open_clip_part("constants")
    openai = constants.OPENAI_DATASET_MEAN, constants.OPENAI_DATASET_STD
    mean, std = tuple(published.get("mean", openai[0])), tuple(published.get("std", openai[1]))
    return (IMAGENET_MEAN, IMAGENET_STD) if (mean, std) == openai else (mean, std)


def build_clip(name: str, *, tag: str, pretrained: bool) -> CLIP:
    """Build a CLIP with pretrained or random weights.

    Args:
        name: see `find_config`.
        tag: open_clip's tag of the weights; the paper uses "openai".
        pretrained: false for random weights, which depend on the sizes only. Their seed is fixed,
            because checkpoints do not store the backbone and loading must give the same weights.

    Raises:
        ValueError: if the name or tag is unknown, the weights were trained with another activation
            function, or the file is unreadable or belongs to another model.
        FileNotFoundError: if the weights are not on disk and the download fails.
    """
    config = find_config(name)
    if not pretrained:
        return random_clip(config)
    file = weights_on_disk(name, tag) or download_weights(
        f"{tag!r} for {name}", f"{name}-{tag}", _repository(name, tag), _HUB_NAMES
    )
    clip = empty_clip(config)
    load_strictly(clip, name, file, ignored=_SIZES)
    return clip


def random_clip(config: Mapping[str, Any]) -> CLIP:
    """Build a CLIP from an open_clip configuration, with random weights from a fixed seed.

    Raises:
        ValueError: if the configuration is invalid.
    """
    import open_clip  # slow

    clip = empty_clip(config)
    with repeatable_weights():
        clip.load_state_dict(open_clip.CLIP(**config).state_dict(), assign=True)
    return clip


def empty_clip(config: Mapping[str, Any]) -> CLIP:
    """Build a CLIP without weights from an open_clip configuration; see `CLIP`.

    Raises:
        ValueError: if the configuration is invalid.
    """
    try:
        return CLIP(**config)
    except Exception as error:  # values are not validated
        raise ValueError(f"not a valid CLIP configuration ({one_line(error)})") from error


def build_tokenizer(name: str, context_length: int) -> Any:  # noqa: ANN401 - open_clip's
    """Build CLIP's tokenizer; if `<name>_vocabulary.json` exists, only with the token ids in it."""
    file = find_file(f"{name}_vocabulary", (".json",))
    tokenizer = open_clip_part("tokenizer").SimpleTokenizer(context_length=context_length)
    return PrunedTokenizer(tokenizer, read_json(file)) if file else tokenizer


def weights_on_disk(name: str, tag: str) -> Path | None:
    """Return the local weights file of `build_clip`, or None if it needs a download.

    Raises:
        ValueError: if the name or tag is unknown or the weights were trained with another
            activation function.
        FileNotFoundError: if there is a `<name>.json` without weights.
    """
    config, own = find_config(name), find_custom(name) is not None
    if not own:  # checked by name, because a weights file does not store its activation function
        _check_activation(name, tag, bool(config.get("quick_gelu")))
    stem = name if own else f"{name}-{tag}"
    return find_weights(stem, own, partial(_repository, name, tag), _HUB_NAMES)


def download_url(name: str, tag: str) -> str:
    """Return the URL of the Hugging Face repository with the weights.

    Raises:
        ValueError: if open_clip has no such weights.
    """
    return f"https://huggingface.co/{_repository(name, tag)}"


def _own_config(name: str) -> dict[str, Any] | None:
    """Read `<name>.json`; None if there is no such file."""
    file = find_custom(name)
    own = read_json(file) if file else None
    if file and not (isinstance(own, dict) and isinstance(own.get("model_cfg", own), dict)):
        raise ValueError(f"{file}: not an open_clip configuration")
    return own


def _published_config(name: str) -> dict[str, Any] | None:
    """Read open_clip's configuration of a model; None if there is no such model."""
    file = config_file(name)
    return dict(read_json(file)) if Path(name).name == name and file.is_file() else None


def _pretrained_config(name: str, tag: str) -> dict[str, Any]:
    """Return what open_clip knows about the weights of a model; empty if it has no such weights."""
    published: dict[str, Any] = open_clip_part("pretrained").get_pretrained_cfg(name, tag)
    return published


def _is_plain(config: dict[str, Any]) -> bool:
    """Whether `CLIPBackbone` supports a configuration."""
    vision, text = config.get("vision_cfg"), config.get("text_cfg")
    if not (isinstance(vision, dict) and isinstance(text, dict)):
        return False
    plain = set(config) <= _PLAIN and set(vision) <= _PLAIN_VISION and set(text) <= _PLAIN_TEXT
    return plain and bool(vision.get("patch_size"))  # null for ResNets


def _repository(name: str, tag: str) -> str:
    """Return the Hugging Face repository ("owner/name") of a pretrained model of open_clip.

    Raises:
        ValueError: if open_clip has no such weights.
    """
    published = _pretrained_config(name, tag)
    if not published:
        known = ", ".join(usable_tags(name)) or "none"
        raise ValueError(f"open_clip has no weights {tag!r} for {name} (available: {known})")
    return os.path.dirname(str(published["hf_hub"]))  # "owner/name/", set for all plain ViTs


def _check_activation(name: str, tag: str, quick: bool) -> None:
    """Reject weights that were trained with the other activation function."""
    plain = name.removesuffix("-quickgelu")
    # open_clip also lists the weights of `<plain>-quickgelu` under the plain name
    published = _pretrained_config(plain, tag)
    if published and bool(published.get("quick_gelu")) != quick:
        other = plain if quick else f"{plain}-quickgelu"
        raise ValueError(
            f"the weights {tag!r} belong to {other}: the activation differs (GELU or QuickGELU)"
        )


class PrunedTokenizer:
    """Tokenizer for a CLIP with a smaller vocabulary.

    Args:
        tokenizer: open_clip's `SimpleTokenizer` with the full vocabulary.
        kept: ids of the tokens in the smaller vocabulary. They are in ascending order, so that the
            end token still has the largest id. The first is 0, the padding token, which replaces
            all tokens that are not in the list.
    """

    def __init__(self, tokenizer: Any, kept: list[int]) -> None:  # noqa: ANN401 - open_clip's
        """Build the map from ids of the full vocabulary to rows of the embedding table."""
        self.tokenizer = tokenizer
        self.row = torch.full((tokenizer.vocab_size,), kept.index(0))
        self.row[torch.tensor(kept)] = torch.arange(len(kept))

    def encode(self, text: str) -> list[int]:
        """Return a text's token ids in the full vocabulary, without start and end token."""
        ids: list[int] = self.tokenizer.encode(text)
        return ids

    def __call__(self, texts: list[str]) -> Tensor:
        """Return rows of the pruned embedding table: (len(texts), context length) int64."""
        return self.row[self.tokenizer(texts)]
