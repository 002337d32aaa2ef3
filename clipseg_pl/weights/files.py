"""How files of weights are read and written; random weights that never differ."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_INITIAL_SEED = 211210003  # the paper's arXiv number; any constant would do


def content_hash(path: Path) -> str:
    """SHA-256 of a file; of a folder, of its files and their names: 64 hexadecimal digits."""
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    named = [(str(file.relative_to(path)), content_hash(file)) for file in files]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """Read tensors from .safetensors or a torch file; nothing else is unpickled (`weights_only`).

    Raises:
        ValueError: naming the file, if it is neither. OpenAI's TorchScript archives are not read,
            since loading one runs the code in it; docs/backbones.md says how to convert them.
        FileNotFoundError: if there is no file.
    """
    try:
        content = load_file(file) if file.suffix == ".safetensors" else load_plain(file)
    except FileNotFoundError:
        raise
    except Exception as error:
        hint = "; convert TorchScript archives first: docs/backbones.md"
        said = hint if "TorchScript" in str(error) else ""
        kind = type(error).__name__
        raise ValueError(f"{file}: not a file of weights ({kind}){said}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not (state and isinstance(state, dict) and all(map(_is_tensor, state.values()))):
        raise ValueError(f"{file}: holds something else than named tensors")
    return dict(state)


def read_json(file: Path) -> Any:  # noqa: ANN401 - whatever is in it
    """Read a file of JSON.

    Raises:
        ValueError: naming the file, if it is none.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error})") from error


def load_plain(file: Path) -> Any:  # noqa: ANN401 - whatever is in it
    """Read a torch file of tensors and plain values; nothing else is unpickled (`weights_only`).

    Raises:
        Exception: of many kinds, where it is something else.
    """
    return torch.load(file, map_location="cpu", weights_only=True)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def write_tensors(file: Path, state: Mapping[str, Tensor]) -> None:
    """Write `.safetensors` that everything reads: contiguous, on the CPU, marked as torch's."""
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    file.touch()
    mode = file.stat().st_mode
    save_file(plain, file, metadata={"format": "pt"})
    file.chmod(mode)  # safetensors lets nobody but the owner read


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
