"""docs/backbones.md, held against the code."""

import re

import open_clip
import pytest

from clipseg_pl.cli.resolve import resolve
from clipseg_pl.weights.clip import find_config, usable_tags
from tests.backbones import published, sizes, tables, weights
from tests.command import EXPERIMENTS

ROOT = EXPERIMENTS.parent
PAGE = (ROOT / "docs" / "backbones.md").read_text()
ROWS = re.findall(r"^\| (ViT-\S+) \| (.*) \|$", PAGE, re.MULTILINE)
COMMANDS = re.findall(r"^    python -m clipseg_pl (.*)$", PAGE, re.MULTILINE)
LISTED = re.search(r"open_clip (\d[\d.]+\d)", PAGE)[1]


@pytest.mark.parametrize(("name", "cells"), ROWS)
def test_every_row_is_what_the_code_comes_to(name, cells):
    if cells[0].isdigit():
        assert sizes(name) == f"| {name} | {cells} |"
    else:
        assert set(cells.split(", ")) <= set(usable_tags(name))


@pytest.mark.slow
def test_nothing_is_missing_from_the_tables():
    if open_clip.__version__ != LISTED:
        pytest.skip(f"the tables list open_clip {LISTED}, this is {open_clip.__version__}")
    assert "\n".join(tables()) in PAGE


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_weights_that_exist_and_images_that_fit(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = resolve(command.split())
    backbone = config["model"]["backbone"]["init_args"]
    assert backbone["name"] in published() and backbone["tag"] in usable_tags(backbone["name"])
    patch = find_config(backbone["name"])["vision_cfg"]["patch_size"]
    assert config["data"]["init_args"]["image_size"] % patch == 0
    assert config["model"]["decoder"]["init_args"]["layers"] is None


def test_the_page_has_commands_and_rows():
    assert len(COMMANDS) >= 5 and len(ROWS) >= 30
    assert {sizes("ViT-B-16"), weights("ViT-B-16")} <= set(PAGE.splitlines())
