"""The picture in CONTRIBUTING.md, held against the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("clipseg_pl/**/*.py"), *ROOT.glob("datamodules/**/*.py")])

# module prefix -> what of ours it may import; of several prefixes the longest counts
CONTRACT = tuple(
    f"clipseg_pl.{name}"
    for name in ("sample", "images", "pixel_values", "photo_files", "photo_formats", "prompts")
)
MAY_IMPORT = {
    "clipseg_pl.sample": (),
    "clipseg_pl.pixel_values": (),
    "clipseg_pl.photo_files": (),
    "clipseg_pl.photo_formats": ("clipseg_pl.photo_files",),
    "clipseg_pl.images": ("clipseg_pl.pixel_values", "clipseg_pl.photo_formats"),
    "clipseg_pl.prompts": ("clipseg_pl.prompts", "clipseg_pl.images", "clipseg_pl.pixel_values"),
    "clipseg_pl.models": ("clipseg_pl.models",),
    "clipseg_pl.metrics": ("clipseg_pl.metrics",),
    "datamodules.datasets": ("datamodules.datasets", *CONTRACT),
    "datamodules.toy": ("datamodules.toy", "datamodules.datasets", "clipseg_pl.prompts"),
    "datamodules": ("datamodules", *CONTRACT),
    "clipseg_pl": ("clipseg_pl",),
    "clipseg_pl.cli": ("clipseg_pl", "datamodules"),
    "clipseg_pl.arguments": ("clipseg_pl", "datamodules"),
    "clipseg_pl.commands": ("clipseg_pl", "datamodules"),
    "clipseg_pl.doctor": ("clipseg_pl", "datamodules"),
}
OWN = ("clipseg_pl", "datamodules")
WITHOUT_LIGHTNING = (
    *(*CONTRACT, "clipseg_pl.models", "clipseg_pl.metrics"),
    *("datamodules.datasets", "datamodules.toy"),
)
ONLY_IN = {
    "open_clip": (
        "clipseg_pl.models.clip_weights",
        "clipseg_pl.models.new_clip",
        "clipseg_pl.models.attention",
        "clipseg_pl.models.clip_text",
        "datamodules.toy",
    ),
    "timm": ("clipseg_pl.models.vit_backbone", "datamodules.toy.pretrain_vit"),
    "wandb": ("clipseg_pl.loggers",),
}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(source: str) -> set[str]:
    """Full names of what is imported, as far down as the statement says."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide what is imported"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def violations(name: str, imported: set[str]) -> list[str]:
    own = [i for i in imported if within(i, OWN)]
    layer = max((prefix for prefix in MAY_IMPORT if within(name, (prefix,))), key=len)
    found = [i for i in own if not within(i, MAY_IMPORT[layer])]
    if within(name, WITHOUT_LIGHTNING):
        found += [i for i in imported if within(i, ("lightning",))]
    for package, homes in ONLY_IN.items():
        found += [i for i in imported if within(i, (package,)) and not within(name, homes)]
    return found


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_modules_import_only_what_lies_below_them(file):
    assert not violations(module_name(file), imports(file.read_text()))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("clipseg_pl.models.decoder", "import lightning.pytorch"),
        ("clipseg_pl.models.decoder", "from clipseg_pl import sample"),
        ("clipseg_pl.prompts.text", "from clipseg_pl.metrics.functional import THRESHOLDS"),
        ("clipseg_pl.module", "from wandb import init"),
        ("clipseg_pl.module", "import datamodules.base"),
        ("datamodules.base", "from clipseg_pl import module"),
        ("datamodules.datasets.files", "from datamodules import base"),
    ],
)
def test_the_check_sees_a_violation(name, line):
    assert violations(name, imports(line))


def test_the_check_lets_pass_what_is_allowed():
    assert not violations("clipseg_pl.cli", imports("from datamodules.base import BaseDataModule"))


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_files_are_short_and_named_for_what_they_hold(file):
    assert len(file.read_text().splitlines()) <= 250
    assert file.stem not in ("utils", "helpers", "common", "misc", "tools")
