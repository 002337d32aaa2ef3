"""What a checkpoint of `fit` says beside its weights, looked at before anything is made of it.

It may come from anywhere. Nothing in it is code, but lightning makes classes of its description,
and removes files that it names.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from torch import Tensor

_NEEDED = {"hyper_parameters", "state_dict", "threshold", "image_size", "global_step"}
_INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"  # the one that the command line writes
LARGEST_SIDE = 9_000
"""pixels; larger photos are not read"""
_MOST_VALUES = 10_000  # of a description; ours have less than a hundred


def check_parts(content: object) -> None:
    """Refuse what `fit` does not write.

    Raises:
        ValueError: saying what it is.
    """
    if not isinstance(content, dict) or not content.keys() >= _NEEDED:
        raise ValueError("not a checkpoint of clipseg_pl")
    given, state = content["hyper_parameters"], content["state_dict"]
    for name, part in (("hyper_parameters", given), ("state_dict", state)):
        if not isinstance(part, dict) or not all(isinstance(key, str) for key in part):
            raise ValueError(f"its {name} are of type {type(part).__name__}, not a dict of names")
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("its state_dict holds something else than tensors")
    if any(not isinstance(v, str | int | float | None) for v in _values(given)):
        raise ValueError("its hyper_parameters hold something else than plain values")
    if given.get("_instantiator", _INSTANTIATOR) != _INSTANTIATOR:
        raise ValueError(f"names {given['_instantiator']!r} to build its model")
    for name in ("threshold", "absent_cut"):
        share = content.get(name)
        if share is not None and not is_share(share):
            raise ValueError(f"its {name} is {share!r:.40}, not a number from 0 to 1")
    size, step = content["image_size"], content["global_step"]
    if size is not None and not (type(size) is int and 0 < size <= LARGEST_SIDE):
        raise ValueError(f"its image_size is {size!r:.40}, not a number of pixels")
    if type(step) is not int or step < 0:
        raise ValueError(f"its global_step is {step!r:.40}, not a number of steps")
    for name, kind in (("layers", int), ("excluded", str)):
        listed = content.get(name) or ()
        if not isinstance(listed, list | tuple) or not all(type(one) is kind for one in listed):
            raise ValueError(f"its {name} are {listed!r:.40}, not a list of {kind.__name__}")
    for value in _values(content.get("callbacks")):
        # lightning removes the files that it takes for its own of before
        if isinstance(value, str) and (".." in PurePath(value).parts or "://" in value):
            raise ValueError(f"a callback of it names the file {value!r:.200}")


def is_share(value: Any) -> bool:  # noqa: ANN401 - whatever is in a file
    """Whether it is a number from 0 to 1."""
    return type(value) in (int, float) and 0 <= value <= 1


def _values(given: object) -> Iterator[object]:
    """All that lies in dicts and lists, and the keys of dicts.

    Raises:
        ValueError: for more than any description has; lists that share parts can be endless.
    """
    waiting = [given]
    for _ in range(_MOST_VALUES):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        else:
            yield value
    raise ValueError(f"describes itself by more than {_MOST_VALUES} values")
