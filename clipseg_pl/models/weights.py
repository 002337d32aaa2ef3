"""Files of weights, where they lie and how they are read; random weights that never differ."""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clipseg_pl.models.torchscript import read_torchscript

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_INITIAL_SEED = 211210003  # the paper's arXiv number; any constant would do
_MOST_UNPACKED = 2, 1 << 24
"""times its size, and bytes beside, that an archive holds; torch packs nothing but code"""


def weight_folders() -> list[Path]:
    """Where files are looked for, in this order: CLIPSEG_WEIGHTS, the package."""
    given = os.environ.get("CLIPSEG_WEIGHTS")
    return [*([Path(given).expanduser()] if given else []), Path(__file__).parent / "toy"]


def find_file(stem: str, suffixes: tuple[str, ...] = _SUFFIXES) -> Path | None:
    """The first file of that name, by default one of weights, in `weight_folders`.

    A name that is a path has none: names may come from checkpoints.
    """
    if Path(stem).name != stem:
        return None
    candidates = (folder / (stem + suffix) for folder in weight_folders() for suffix in suffixes)
    return next((file for file in candidates if file.is_file()), None)


def no_weights_beside(stem: str) -> FileNotFoundError:
    """The error for a configuration of one's own that has no weights."""
    folders = ", ".join(map(str, weight_folders()))
    return FileNotFoundError(f"{stem}.json has no weights beside it (looked in {folders})")


def find_downloaded(repository: str, names: Iterable[str]) -> Path | None:
    """The first of some files of a repository in Hugging Face's cache; nothing is downloaded."""
    found = (try_to_load_from_cache(repository, name) for name in names)
    return next((Path(file) for file in found if isinstance(file, str)), None)


def content_hash(path: Path) -> str:
    """SHA-256 of a file; of a folder, of its files and their names: 64 hexadecimal digits."""
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    named = [(str(file.relative_to(path)), content_hash(file)) for file in files]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """Read tensors from .safetensors, a torch file or OpenAI's TorchScript archives.

    Nothing but tensors is unpickled (`weights_only`), no code of an archive is run, and memory is
    taken for what the file holds, not for what it declares.

    Raises:
        ValueError: naming the file, if it is none of these.
        FileNotFoundError: if there is no file.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if zipfile.is_zipfile(file) and _is_torchscript(file):
            refuse_bomb(file)
            content: object = read_torchscript(file)
        else:
            content = load_plain(file)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{file}: not a file of weights ({type(error).__name__})") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not (isinstance(state, dict) and state and all(_is_stored(*item) for item in state.items())):
        raise ValueError(f"{file}: holds something else than named tensors")
    return dict(state)


def read_json(file: Path) -> Any:  # noqa: ANN401 - whatever is in it
    """Read a file of JSON.

    Raises:
        ValueError: naming the file, if it is none.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not JSON ({error})") from error


def load_plain(file: Path) -> Any:  # noqa: ANN401 - whatever is in it
    """Read a torch file of tensors and plain values; nothing else is unpickled (`weights_only`).

    Raises:
        Exception: of many kinds, where it is something else.
    """
    if zipfile.is_zipfile(file):
        refuse_bomb(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def refuse_bomb(file: Path) -> None:
    """Refuse a zip that unpacks to far more than its size.

    Raises:
        ValueError: saying so.
    """
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    times, beside = _MOST_UNPACKED
    if unpacked > times * file.stat().st_size + beside:
        raise ValueError(f"unpacks to {unpacked} bytes")


def _is_stored(name: object, value: object) -> bool:
    """Whether it is a named tensor all of whose numbers are there, not one that repeats a few."""
    if not isinstance(name, str) or not isinstance(value, Tensor):
        return False
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def write_tensors(file: Path, state: Mapping[str, Tensor]) -> None:
    """Write `.safetensors` that everything reads: contiguous, on the CPU, marked as torch's."""
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    file.touch()
    mode = file.stat().st_mode
    save_file(plain, file, metadata={"format": "pt"})
    file.chmod(mode)  # safetensors lets nobody but the owner read


def _is_torchscript(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


@contextmanager
def repeatable_weights() -> Iterator[None]:
    """Have what is built inside draw the same random weights whenever it is built."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_INITIAL_SEED)  # torch.manual_seed reseeds GPUs too
        yield


def load_strictly(model: nn.Module, name: str, file: Path, ignored: tuple[str, ...]) -> None:
    """Load a file of weights, whose every key must fit but for those with an ignored beginning.

    Raises:
        ValueError: naming the file, if it is unreadable or of another model.
    """
    state = {key.removeprefix("module."): value for key, value in read_state_dict(file).items()}
    try:
        model.load_state_dict({k: v for k, v in state.items() if not k.startswith(ignored)})
    except RuntimeError as error:
        reason = first_mismatch(error)
        raise ValueError(f"{file}: not the weights of {name} ({reason})") from error


def first_mismatch(error: RuntimeError) -> str:
    """The first of the reasons, a line each, for which `load_state_dict` refused: one key of it."""
    first = (str(error).splitlines()[1:2] or [str(error)])[0].strip()
    named, *others = first.split('", "')
    return f'{named}" and {len(others)} more' if others else first


def one_line(error: Exception) -> str:
    """The beginning of what a library says, which may have many lines."""
    return f"{' '.join(str(error).split()):.160}"
