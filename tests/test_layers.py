"""Imports follow the rules of CONTRIBUTING.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("clipseg_pl/**/*.py"), *ROOT.glob("datamodules/**/*.py")])

# component -> other components that it may import from, all of them above it
MAY_IMPORT: dict[str, str] = {
    "sample": "",
    "atomic": "",
    "threads": "",
    "metrics": "",
    "weights": "",
    "photo_files": "",
    "images": "photo_files",
    "models": "weights",
    "convert": "weights models",
    "prompts": "photo_files images",
    "protocols": "sample metrics images models prompts",
    "inference": "atomic metrics weights photo_files images models convert prompts",
    "datamodules.datasets": "sample atomic photo_files images prompts",
    "datamodules.toy": "weights prompts datamodules.datasets",
    "datamodules": "sample weights photo_files images prompts datamodules.datasets datamodules.toy",
    "training": (
        "sample atomic metrics weights photo_files images models convert protocols inference"
    ),
    "runs": "atomic weights convert protocols inference",
    "demo": "images prompts inference",
    "doctor": (
        "atomic weights images models convert inference datamodules.datasets datamodules.toy "
        "datamodules"
    ),
    "cli": "*",
    "__main__": "*",
}
ONLY_IN = {
    "lightning": ("training", "runs", "cli", "datamodules"),
    "open_clip": ("weights", "datamodules.toy"),
    "timm": ("models", "datamodules.toy"),
    "wandb": ("training",),
}


def component_of(module: str) -> str:
    """Return the component of a module, for example `models` for `clipseg_pl.models.decoder`."""
    package, _, inside = module.partition(".")
    first = inside.partition(".")[0]
    if package == "datamodules":
        return f"datamodules.{first}" if first in ("datasets", "toy") else "datamodules"
    return first


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(source: str) -> set[str]:
    """Return the full names of imported modules and objects."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide what is imported"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def violations(module: str, imported: set[str]) -> list[str]:
    component, found = component_of(module), []
    for name in imported:
        package = name.partition(".")[0]
        if package in ("clipseg_pl", "datamodules") and name != "clipseg_pl":
            other = component_of(name)
            allowed = "cli" not in (component, other) and other in MAY_IMPORT[component].split()
            if other != component and not allowed and MAY_IMPORT[component] not in ("*", other):
                found.append(name)
        elif component not in ONLY_IN.get(package, (component,)):
            found.append(name)
    return found


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_module_imports_allowed_components_only(file):
    if component_of(module_name(file)):  # clipseg_pl/__init__.py imports lazily
        assert not violations(module_name(file), imports(file.read_text()))


def test_components_have_no_cycle():
    """Components are listed after all components that they import from."""
    components = list(MAY_IMPORT)
    for component, others in MAY_IMPORT.items():
        for other in others.replace("*", "").split():
            assert components.index(other) < components.index(component)


def test_components_are_few_and_complete():
    assert len(MAY_IMPORT) <= 24
    assert {component_of(module_name(file)) for file in FILES} - {""} == {*MAY_IMPORT}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("clipseg_pl.models.decoder", "import lightning.pytorch"),
        ("clipseg_pl.models.decoder", "from clipseg_pl import sample"),
        ("clipseg_pl.inference.segmenter", "from clipseg_pl.training.module import CLIPSegModule"),
        ("clipseg_pl.prompts.text", "from clipseg_pl.metrics.functional import THRESHOLDS"),
        ("clipseg_pl.training.module", "from clipseg_pl.cli.arguments import leaves"),
        ("clipseg_pl.runs.run", "from wandb import init"),
        ("clipseg_pl.training.module", "import datamodules.base"),
        ("datamodules.base", "from clipseg_pl.training import module"),
        ("datamodules.datasets.files", "from datamodules import base"),
    ],
)
def test_check_finds_violation(module, line):
    assert violations(module, imports(line))


def test_check_accepts_allowed_import():
    assert not violations("clipseg_pl.cli.main", imports("from datamodules.base import Split"))


@pytest.mark.slow
def test_package_imports_lazily_and_segmenting_needs_no_slow_packages():
    code = (
        "import sys, clipseg_pl\n"
        "assert 'torch' not in sys.modules\n"
        "from clipseg_pl import Blend, ImagePrompt, Segmenter\n"
        "import numpy as np\n"
        "Segmenter.from_pretrained('toy')(np.zeros((64, 64, 3), np.uint8), ['a dog'])\n"
        "slow = 'lightning datamodules albumentations open_clip torchvision timm transformers'\n"
        "slow += ' scipy matplotlib pandas sympy torch._dynamo torchmetrics'\n"
        "found = sys.modules.keys() & set(slow.split())\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_modules_have_specific_names(file):
    assert file.stem not in ("utils", "helpers", "common", "misc", "tools")
