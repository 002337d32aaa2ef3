"""Where weights lie: CLIPSEG_WEIGHTS, the package, the download cache; imports no torch."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

TOY = "toy"
"""name of the weights that come with the package and know drawn scenes only"""
_PACKAGED = Path(__file__).parent / TOY
TOY_CHECKPOINT = _PACKAGED / "toy_pc_plus.ckpt"

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def weight_folders() -> list[Path]:
    """Folders that are searched for weights, in order: CLIPSEG_WEIGHTS, the package."""
    given = os.environ.get("CLIPSEG_WEIGHTS")
    return [*([Path(given).expanduser()] if given else []), _PACKAGED]


def find_checkpoint(name: str | Path) -> Path:
    """The file or folder of a checkpoint; "toy" names the one that comes with the package.

    Raises:
        FileNotFoundError: naming what is not there.
    """
    file = TOY_CHECKPOINT if str(name) == TOY else Path(name).expanduser()
    if not file.exists():
        raise FileNotFoundError(f"no checkpoint {file}")
    return file


def find_file(stem: str, suffixes: tuple[str, ...] = _SUFFIXES) -> Path | None:
    """The first file of that name, by default one of weights, in `weight_folders`.

    A name that is a path has none: names may come from checkpoints.
    """
    if Path(stem).name != stem:
        return None
    candidates = (folder / (stem + suffix) for folder in weight_folders() for suffix in suffixes)
    return next((file for file in candidates if file.is_file()), None)


def find_weights(
    stem: str, own: bool, repository: Callable[[], str], names: Iterable[str]
) -> Path | None:
    """The file of weights; None where it would have to be downloaded.

    Args:
        stem: name of the file in `weight_folders`, without its suffix.
        own: whether a configuration lies there, which must have its weights beside it.
        repository: says where Hugging Face has them; its cache is searched.
        names: of the file in that repository, of which the first is taken.

    Raises:
        FileNotFoundError: no weights beside a configuration.
    """
    from huggingface_hub import try_to_load_from_cache

    file = find_file(stem)
    if file:
        return file
    if own:
        folders = ", ".join(map(str, weight_folders()))
        raise FileNotFoundError(f"{stem}.json has no weights beside it (looked in {folders})")
    found = (try_to_load_from_cache(repository(), name) for name in names)
    return next((Path(file) for file in found if isinstance(file, str)), None)


def download_weights(what: str, stem: str, repository: str, names: Sequence[str]) -> Path:
    """Download the first of some files of a repository of Hugging Face into its cache.

    Raises:
        FileNotFoundError: if none is to be had; says what was looked for and where.
    """
    from huggingface_hub import hf_hub_download

    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except Exception as error:  # offline, or the repository has the next one
            reason = type(error).__name__
    folders = ", ".join(map(str, weight_folders()))
    raise FileNotFoundError(
        f"no weights {what}: not in CLIPSEG_WEIGHTS ({folders}), not in Hugging Face's cache, and "
        f"the download of {repository} failed ({reason}). Put the file there as "
        f"{stem}.safetensors or {stem}.pt"
    )
