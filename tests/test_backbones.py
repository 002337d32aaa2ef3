"""The tables and commands of docs/backbones.md match the code."""

import re

import open_clip
import pytest

from clipseg_pl.cli.resolve import resolve
from clipseg_pl.weights.clip import find_config, usable_tags
from tests.backbones import published, sizes, tables, weights
from tests.command import EXPERIMENTS
from tests.docs.commands import commands

ROOT = EXPERIMENTS.parent
PAGE = (ROOT / "docs" / "backbones.md").read_text()
ROWS = re.findall(r"^\| (ViT-\S+) \| (.*) \|$", PAGE, re.MULTILINE)
COMMANDS = [" ".join(args) for args in commands(ROOT / "docs" / "backbones.md")]
LISTED = re.search(r"open_clip (\d[\d.]+\d)", PAGE)[1]


@pytest.mark.parametrize(("name", "cells"), ROWS)
def test_every_row_matches_the_code(name, cells):
    if cells[0].isdigit():
        assert sizes(name) == f"| {name} | {cells} |"
    else:
        assert set(cells.split(", ")) <= set(usable_tags(name))


@pytest.mark.slow
def test_tables_are_complete():
    if open_clip.__version__ != LISTED:
        pytest.skip(f"the tables list open_clip {LISTED}; {open_clip.__version__} is installed")
    assert "\n".join(tables()) in PAGE


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_existing_weights_and_a_valid_image_size(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = resolve(command.split())
    backbone = config["model"]["backbone"]["init_args"]
    assert backbone["name"] in published() and backbone["tag"] in usable_tags(backbone["name"])
    patch = find_config(backbone["name"])["vision_cfg"]["patch_size"]
    assert config["data"]["init_args"]["image_size"] % patch == 0
    assert config["model"]["decoder"]["init_args"]["layers"] is None


def test_page_has_commands_and_rows():
    assert len(COMMANDS) >= 5 and len(ROWS) >= 30
    assert {sizes("ViT-B-16"), weights("ViT-B-16")} <= set(PAGE.splitlines())
