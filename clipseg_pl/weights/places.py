"""Search for weights by name: files, $CLIPSEG_WEIGHTS, the package and Hugging Face's hub.

This module does not import torch, so that commands which do not need torch start fast.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from clipseg_pl.weights.hub import find_model, is_hub_name

TOY = "toy"
"""name of the checkpoint in the package, which was trained on drawn scenes only"""
TOY_CLIP = "toy2"
"""name of the CLIP and the ViT in the package; change it when the CLIP is retrained, see
`find_custom`"""
_OLDER_TOY_CLIPS = ("toy",)
_PACKAGED = Path(__file__).parent / TOY
TOY_CHECKPOINT = _PACKAGED / "toy_pc_plus.ckpt"
PUBLISHED = "CIDAS/clipseg-rd64-refined"
"""the authors' model on Hugging Face's hub that most projects use"""

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def weight_folders() -> list[Path]:
    """Return the folders to search for weights, in order: $CLIPSEG_WEIGHTS, the package."""
    custom = os.environ.get("CLIPSEG_WEIGHTS")
    return [*([Path(custom).expanduser()] if custom else []), _PACKAGED]


def default_checkpoint() -> str:
    """Return the name of the checkpoint for photos: $CLIPSEG_CHECKPOINT, else `PUBLISHED`."""
    return os.environ.get("CLIPSEG_CHECKPOINT") or PUBLISHED


def find_checkpoint(name: str | Path) -> Path:
    """Return the path of a checkpoint. A model of Hugging Face's hub is downloaded on first use.

    Args:
        name: path of a file or folder; "toy", the checkpoint in the package; or the name of a model
            on the hub, `owner/name` or `owner/name@revision`. Existing paths take precedence.

    Raises:
        FileNotFoundError: if there is no such file or folder; see also `find_model`.
    """
    return find_local(name) or find_model(str(name))


def find_local(name: str | Path) -> Path | None:
    """Return the path of a checkpoint, or None for a model of the hub; see `find_checkpoint`.

    Raises:
        FileNotFoundError: if there is no such file or folder.
    """
    file = TOY_CHECKPOINT if str(name) == TOY else Path(name).expanduser()
    if file.exists():
        return file
    if isinstance(name, str) and is_hub_name(name) and file.suffix not in (".ckpt", *_SUFFIXES):
        return None
    raise FileNotFoundError(f"no checkpoint {file}")


def find_file(stem: str, suffixes: tuple[str, ...] = _SUFFIXES) -> Path | None:
    """Return the first file `<stem><suffix>` in `weight_folders`, or None.

    The stem may come from an untrusted checkpoint. For security, a stem that is a path gives None.
    """
    if Path(stem).name != stem:
        return None
    candidates = (folder / (stem + suffix) for folder in weight_folders() for suffix in suffixes)
    return next((file for file in candidates if file.is_file()), None)


def find_custom(name: str, kind: Literal["CLIP", "ViT"] = "CLIP") -> Path | None:
    """Return the JSON file that describes a custom CLIP or ViT, or None for a published one.

    Raises:
        ValueError: if there is no file and the name belongs to an earlier version of the toy world.
            Checkpoints store this name, and their decoders do not work with a newer CLIP.
    """
    file = find_file(name if kind == "CLIP" else f"{name}_vit", (".json",))
    if not file and name in _OLDER_TOY_CLIPS:
        raise ValueError(
            f"the {kind} {name!r} belongs to an earlier version of the toy world and is no longer "
            f"included: use {TOY_CLIP!r}, and train decoders of {name!r} again "
            "(experiments/toy.yaml)"
        )
    return file


def find_weights(
    stem: str, own: bool, repository: Callable[[], str], names: Iterable[str]
) -> Path | None:
    """Return the local weights file, or None if a download is needed.

    Args:
        stem: name of the file in `weight_folders`, without its suffix.
        own: whether the weights belong to a custom configuration, which has no download.
        repository: function that returns the Hugging Face repository, whose cache is searched.
        names: possible file names in the repository, in order of preference.

    Raises:
        FileNotFoundError: if a custom configuration has no weights.
    """
    file = find_file(stem)
    if file:
        return file
    if own:
        folders = ", ".join(map(str, weight_folders()))
        raise FileNotFoundError(f"{stem}.json has no weights beside it (searched {folders})")
    from huggingface_hub import try_to_load_from_cache

    cached = (try_to_load_from_cache(repository(), name) for name in names)
    return next((Path(file) for file in cached if isinstance(file, str)), None)


def download_weights(what: str, stem: str, repository: str, names: Sequence[str]) -> Path:
    """Download weights from a Hugging Face repository into its cache.

    Args:
        what: description of the weights for the error message.
        stem: name without suffix under which a user can put the file into $CLIPSEG_WEIGHTS instead.
        repository: name of the repository.
        names: possible file names in the repository, in order of preference.

    Raises:
        FileNotFoundError: if no file can be downloaded.
    """
    from huggingface_hub import hf_hub_download

    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except Exception as error:  # offline, or no file of this name
            reason = type(error).__name__
    folders = ", ".join(map(str, weight_folders()))
    raise FileNotFoundError(
        f"no weights {what} in {folders} or in Hugging Face's cache, and the download of "
        f"{repository} failed ({reason}). Put the file into the folder $CLIPSEG_WEIGHTS as "
        f"{stem}.safetensors or {stem}.pt"
    )
