"""The picture in CONTRIBUTING.md, held against the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("clipseg_pl/**/*.py"), *ROOT.glob("datamodules/**/*.py")])

# module prefix -> what it must not import
FORBIDDEN = {
    "clipseg_pl.sample": ("lightning", "clipseg_pl", "datamodules"),
    "clipseg_pl.prompts": ("lightning", "clipseg_pl.models", "clipseg_pl.metrics", "datamodules"),
    "clipseg_pl.models": ("lightning", "clipseg_pl.prompts", "clipseg_pl.metrics", "datamodules"),
    "clipseg_pl.metrics": ("lightning", "clipseg_pl.prompts", "clipseg_pl.models", "datamodules"),
    "datamodules.datasets": ("lightning", "open_clip", "clipseg_pl.models", "datamodules.base"),
    "clipseg_pl": ("datamodules",),
    "datamodules": ("clipseg_pl.module", "clipseg_pl.models", "clipseg_pl.cli"),
}
# exceptions to the line of their package
ALLOWED = {
    "clipseg_pl.cli": ("datamodules",),
    "clipseg_pl.arguments": ("datamodules",),
    "clipseg_pl.commands": ("datamodules",),
}
ONLY_IN = {
    "open_clip": (
        "clipseg_pl.models.clip_weights",
        "clipseg_pl.models.attention",
        "datamodules.toy",
    ),
    "timm": ("clipseg_pl.models.vit_backbone",),
    "wandb": ("clipseg_pl.loggers",),
}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def violations(name: str, imported: set[str]) -> list[str]:
    allowed = tuple(p for prefix, ps in ALLOWED.items() if within(name, (prefix,)) for p in ps)
    found = []
    for prefix, forbidden in FORBIDDEN.items():
        if within(name, (prefix,)):
            found += [i for i in imported if within(i, forbidden) and not within(i, allowed)]
    for package, homes in ONLY_IN.items():
        found += [i for i in imported if within(i, (package,)) and not within(name, homes)]
    return found


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_modules_import_only_what_lies_below_them(file):
    assert not violations(module_name(file), imports(file))


def test_the_check_sees_a_violation():
    assert violations("clipseg_pl.models.decoder", {"lightning.pytorch"})
    assert violations("datamodules.base", {"clipseg_pl.module"})
    assert violations("clipseg_pl.module", {"wandb"})
    assert not violations("clipseg_pl.cli", {"datamodules.base"})


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_files_are_short_and_named_for_what_they_hold(file):
    assert len(file.read_text().splitlines()) <= 250
    assert file.stem not in ("utils", "helpers", "common", "misc", "tools")
