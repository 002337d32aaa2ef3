"""Run the examples in docstrings."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    file for folder in ("clipseg_pl", "datamodules") for file in ROOT.glob(f"{folder}/**/*.py")
]
WITH_EXAMPLES = sorted(file for file in FILES if ">>> " in file.read_text())


@pytest.mark.parametrize("file", WITH_EXAMPLES, ids=lambda file: file.stem)
def test_docstring_examples(file, pictures):
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    result = doctest.testmod(import_module(name))
    assert result.attempted and not result.failed
