"""Where CLIP's configuration, weights and vocabulary come from.

A name is looked up as a file first (`<name>.json`, an open_clip model configuration, with
`<name>.safetensors` or `.pt` beside it) in the folder that `CLIPSEG_WEIGHTS` names and in the
package, which holds the CLIP of the toy world ("toy"). Then it is one of open_clip's, whose
weights are looked for as `<name>-<tag>.*` in the same folders and in open_clip's download cache.
So a checkpoint needs to remember a name only, no path.
"""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file
from torch import Tensor

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
# keys of the configurations that `CLIPBackbone` computes; others pool or tokenize differently
_PLAIN = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale"}
_TOWER = {"layers", "width", "mlp_ratio", "ls_init_value"}
_PLAIN_VISION = {"image_size", "patch_size", "head_width", *_TOWER}
_PLAIN_TEXT = {"context_length", "vocab_size", "heads", *_TOWER}
_INITIAL_SEED = 211210003  # the paper's arXiv number; any constant would do


def find_config(name: str) -> dict[str, Any]:
    """Return the open_clip configuration of that name.

    Raises:
        ValueError: if neither a file nor open_clip knows the name, or if it is no plain ViT CLIP.
    """
    file = _find_file(name, (".json",))
    config = json.loads(file.read_text()) if file else open_clip.get_model_config(name)
    if config is None:
        near = [known for known in open_clip.list_models() if known.lower().startswith("vit-b")]
        raise ValueError(
            f"unknown CLIP {name!r}: give a name of open_clip ({', '.join(near[:6])}, ...) or put "
            f"{name}.json and its weights into the folder that CLIPSEG_WEIGHTS names "
            f"({os.environ.get('CLIPSEG_WEIGHTS', 'not set')})"
        )
    vision, text = config["vision_cfg"], config["text_cfg"]
    plain = set(config) <= _PLAIN and set(vision) <= _PLAIN_VISION and set(text) <= _PLAIN_TEXT
    if not plain or not vision.get("patch_size"):  # ResNets have null
        raise ValueError(f"{name} is not a plain ViT CLIP with CLIP's own tokenizer and pooling")
    return dict(config)


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
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_INITIAL_SEED)  # torch.manual_seed reseeds GPUs too
        clip = CLIP(**config)
    if pretrained:
        file = _find_weights(name, tag, config)
        try:
            _load_strictly(clip, read_state_dict(file))
        except RuntimeError as error:
            first = str(error).splitlines()[1:2] or [str(error)]
            raise ValueError(f"{file}: not the weights of {name} ({first[0].strip()})") from error
    return clip


def build_tokenizer(name: str, context_length: int) -> "PrunedTokenizer | SimpleTokenizer":
    """CLIP's byte-pair tokenizer, cut down where `<name>_vocabulary.json` lists the rows kept."""
    file = _find_file(f"{name}_vocabulary", (".json",))
    tokenizer = SimpleTokenizer(context_length=context_length)
    return PrunedTokenizer(tokenizer, json.loads(file.read_text())) if file else tokenizer


class PrunedTokenizer:
    """Maps CLIP's token ids to the rows of a smaller embedding table.

    Args:
        tokenizer: the full one.
        kept: token ids in row order; ids not among them get the row of the padding, id 0.
    """

    def __init__(self, tokenizer: SimpleTokenizer, kept: list[int]) -> None:
        """Invert the list of kept ids.

        Raises:
            ValueError: if they do not rise; the end token must stay the largest.
        """
        if kept != sorted(set(kept)):
            raise ValueError("the token ids of a vocabulary must rise")
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


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """Read tensors from .safetensors, a torch file or OpenAI's TorchScript archives.

    Nothing but tensors is unpickled (`weights_only`).

    Raises:
        ValueError: naming the file, if it is none of these.
        FileNotFoundError: if there is no file.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if zipfile.is_zipfile(file) and _is_torchscript(file):
            archive = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
            return dict(archive.state_dict())
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{file}: not a file of weights ({type(error).__name__})") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file}: holds something else than named tensors")
    return dict(state)


def _is_torchscript(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _load_strictly(clip: CLIP, state: dict[str, Tensor]) -> None:
    sizes = ("input_resolution", "context_length", "vocab_size")  # OpenAI's archives carry them
    state = {key.removeprefix("module."): value for key, value in state.items()}
    clip.load_state_dict({key: value for key, value in state.items() if key not in sizes})


def _find_weights(name: str, tag: str, config: dict[str, Any]) -> Path:
    own = _find_file(name, (".json",)) is not None
    published = {} if own else open_clip.get_pretrained_cfg(name, tag)
    if not own:  # asked before a file is looked for, which would not tell
        _check_activation(name, tag, bool(config.get("quick_gelu")))
    stem = name if own else f"{name}-{tag}"
    file = _find_file(stem, _SUFFIXES)
    if file:
        return file
    folders = ", ".join(map(str, _folders()))
    if own:
        raise FileNotFoundError(f"{name}.json has no weights beside it (looked in {folders})")
    if not published:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise ValueError(f"open_clip knows no weights {tag!r} for {name} (known: {known})")
    try:
        return Path(open_clip.download_pretrained(published))
    except Exception as error:
        raise FileNotFoundError(
            f"no weights {tag!r} for {name}: not in CLIPSEG_WEIGHTS ({folders}), not in "
            f"open_clip's cache, and the download failed ({type(error).__name__}). Put the file "
            f"there as {stem}.safetensors or {stem}.pt"
        ) from error


def _check_activation(name: str, tag: str, quick: bool) -> None:
    """Refuse weights that were trained with the other activation function."""
    plain = name.removesuffix("-quickgelu")
    published = open_clip.get_pretrained_cfg(plain, tag)  # lists the quick ones too
    if published and bool(published.get("quick_gelu")) != quick:
        other = plain if quick else f"{plain}-quickgelu"
        raise ValueError(f"the weights {tag!r} belong to {other}: the activation differs")


def _find_file(stem: str, suffixes: tuple[str, ...]) -> Path | None:
    candidates = (folder / (stem + suffix) for folder in _folders() for suffix in suffixes)
    return next((file for file in candidates if file.is_file()), None)


def _folders() -> list[Path]:
    given = os.environ.get("CLIPSEG_WEIGHTS")
    return [*([Path(given).expanduser()] if given else []), Path(__file__).parent / "toy"]
