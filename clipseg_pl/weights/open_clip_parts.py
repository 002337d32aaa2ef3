"""The parts of open_clip that segmenting a photo needs: its tokenizer, and its lists of models.

`import open_clip` takes twice as long as `import torch`, because it also imports torchvision, timm
and transformers. The modules used here need none of them, so they are imported as modules of
another package, without running `open_clip/__init__.py`.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

_ALIAS = "clipseg_pl_open_clip"


def open_clip_part(name: str) -> Any:  # noqa: ANN401 - a module without types
    """Import a module of open_clip: "constants", "pretrained" or "tokenizer"."""
    if _ALIAS not in sys.modules:
        package = ModuleType(_ALIAS)
        package.__path__ = [str(_folder())]
        sys.modules[_ALIAS] = package
    return import_module(f"{_ALIAS}.{name}")


def config_file(name: str) -> Path:
    """Return the path of the configuration of an open_clip model; it may not exist."""
    return _folder() / "model_configs" / f"{name}.json"


def _folder() -> Path:
    spec = find_spec("open_clip")
    assert spec and spec.origin
    return Path(spec.origin).parent
