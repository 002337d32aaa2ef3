"""Reading and writing weights files, and reproducible random weights."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_INITIAL_SEED = 211210003  # the paper's arXiv number; any constant works


def content_hash(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) of a file, or of a folder's file names and contents."""
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    named = [(str(file.relative_to(path)), content_hash(file)) for file in files]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """Read named tensors from a `.safetensors` or torch file (with `weights_only`).

    OpenAI's TorchScript archives are rejected, because loading one runs the code in it.
    `docs/backbones.md` describes how to convert them.

    Raises:
        ValueError: if the file has another format or content.
        FileNotFoundError: if there is no file.
    """
    try:
        content = load_file(file) if file.suffix == ".safetensors" else load_plain(file)
    except FileNotFoundError:
        raise
    except Exception as error:
        archive = "TorchScript" in str(error)
        hint = ". To convert a TorchScript archive, see docs/backbones.md" if archive else ""
        kind = type(error).__name__
        raise ValueError(f"{file}: not a weights file ({kind}){hint}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not (state and isinstance(state, dict) and all(map(_is_tensor, state.values()))):
        raise ValueError(f"{file}: must contain named tensors only")
    return dict(state)


def read_json(file: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Read a JSON file.

    Raises:
        ValueError: if the file is not JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error})") from error


def load_plain(file: Path) -> Any:  # noqa: ANN401 - any content
    """Read a torch file of tensors and plain Python values (with `weights_only`).

    Raises:
        Exception: any exception of `torch.load` if the file has another format or content.
    """
    return torch.load(file, map_location="cpu", weights_only=True)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def write_tensors(file: Path, state: Mapping[str, Tensor]) -> None:
    """Write a `.safetensors` file with contiguous tensors and the metadata transformers needs."""
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    file.touch()
    mode = file.stat().st_mode
    save_file(plain, file, metadata={"format": "pt"})
    file.chmod(mode)  # safetensors makes the file readable for its owner only


@contextmanager
def repeatable_weights() -> Iterator[None]:
    """Context manager in which modules always get the same random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_INITIAL_SEED)  # torch.manual_seed reseeds GPUs too
        yield


def load_strictly(model: nn.Module, name: str, file: Path, ignored: tuple[str, ...]) -> None:
    """Load a weights file into a model, with strict checks of keys and shapes.

    Args:
        model: model whose weights are replaced by those in the file, in float32.
        name: name of the model for error messages.
        file: weights file.
        ignored: prefixes of keys to skip.

    Raises:
        ValueError: if the file is unreadable or belongs to another model.
    """
    state = {key.removeprefix("module."): value for key, value in read_state_dict(file).items()}
    state = {key: value.float() for key, value in state.items() if not key.startswith(ignored)}
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = first_mismatch(error)
        raise ValueError(f"{file}: not the weights of {name} ({reason})") from error


def first_mismatch(error: RuntimeError) -> str:
    """Shorten the error of `load_state_dict` to the first key and the number of other keys."""
    first = (str(error).splitlines()[1:2] or [str(error)])[0].strip()
    named, *others = first.split('", "')
    return f'{named}" and {len(others)} more' if others else first


def one_line(error: Exception) -> str:
    """Return the message of an error in one line of at most 160 characters."""
    return f"{' '.join(str(error).split()):.160}"
