"""The tensors of TorchScript archives, such as OpenAI's CLIP, without running what is in them.

`torch.jit.load` runs the archive's own code (`__setstate__`), which can write files
(`torch.from_file`). Here its pickle is read by an unpickler that knows tensors and nothing else;
of its code the lists of parameters and buffers are read, as text.
"""

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_CODE = "__torch__"  # what the names of all classes in an archive begin with
_MOST_PATHS = 100_000  # to submodules; those that are shared could be reached by any number
_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_CLASS = re.compile(
    r"^class (\w+)\(Module\):\n  __parameters__ = \[(.*)\]\n  __buffers__ = \[(.*)\]", re.M
)


def read_torchscript(file: Path) -> dict[str, Tensor]:
    """Read the parameters and buffers of an archive that `torch.jit.save` wrote.

    Returns:
        What `state_dict` of the loaded module would have, on the CPU.

    Raises:
        ValueError: for what is no such archive.
    """
    with zipfile.ZipFile(file) as archive:
        root, names = archive.namelist()[0].split("/")[0], set(archive.namelist())
        module = _Unpickler(archive, root).load()
        if not isinstance(module, _Object):
            raise ValueError("its pickle is no module")
        listed: dict[str, list[str]] = {}
        for name in names:
            path = name.removeprefix(f"{root}/code/")
            if path != name and path.endswith(".py"):
                owner = path.removesuffix(".py").replace("/", ".")
                for kind, *lists in _CLASS.findall(archive.read(name).decode()):
                    listed[f"{owner}.{kind}"] = re.findall(r'"([^"]+)"', " ".join(lists))
    return {
        f"{prefix}{name}": part.fields[name]
        for prefix, part in _submodules(module, listed)
        for name in listed[part.kind]
        if isinstance(part.fields.get(name), Tensor)  # an absent bias is None
    }


class _Object:
    """What an archive's class has become: its name and its fields."""

    kind = ""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.fields = state if isinstance(state, dict) else {}


class _Unpickler(pickle._Unpickler):
    """Builds tensors, lists, dicts and `_Object`s; a pickle that names anything else is refused.

    It is Python's own in Python: the one in C takes gigabytes for some pickles of a few bytes.
    """

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self.archive, self.root = archive, root
        self._storages: dict[str, Tensor] = {}  # many tensors may lie in one

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - pickle's
        """Give what stands for a name."""
        if module.partition(".")[0] == _CODE:
            return type(name, (_Object,), {"kind": f"{module}.{name}"})
        known: dict[str, Callable[..., object]] = {
            "torch._utils._rebuild_tensor_v2": _view,
            "collections.OrderedDict": OrderedDict,
            "torch.jit._pickle.restore_type_tag": _first,
            "torch.jit._pickle.build_intlist": _first,
            "torch.jit._pickle.build_doublelist": _first,
            "torch.jit._pickle.build_boollist": _first,
            "torch.jit._pickle.build_tensorlist": _first,
        }
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        try:
            return known[f"{module}.{name}"]
        except KeyError as error:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from error

    def persistent_load(self, pid: Sequence[Any]) -> Tensor:
        """Read a storage: ("storage", type, name, device, length)."""
        _, dtype, name, _, length = pid
        if name not in self._storages:
            content = bytearray(self.archive.read(f"{self.root}/data/{name}"))
            whole = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0)
            self._storages[name] = whole.view(dtype)
        if self._storages[name].dtype != dtype or len(self._storages[name]) != length:
            raise pickle.UnpicklingError(f"storage {name} is not {length} numbers of {dtype}")
        return self._storages[name]


def _submodules(module: _Object, listed: dict[str, list[str]]) -> Iterator[tuple[str, _Object]]:
    """A module and all below it, with the beginnings of their keys."""
    waiting = [("", module)]
    for _ in range(_MOST_PATHS):
        if not waiting:
            return
        prefix, part = waiting.pop()
        yield prefix, part
        waiting += [
            (f"{prefix}{name}.", value)
            for name, value in part.fields.items()
            if isinstance(value, _Object) and value.kind in listed
        ]
    raise ValueError("it has modules without end")


def _view(
    storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: object
) -> Tensor:
    """A tensor in its storage; torch refuses what would reach beyond."""
    return storage.as_strided(size, stride, offset)


def _first(value: object, *_: object) -> object:
    return value
