"""Commands and Python examples of the README and the guide.

Commands that train or evaluate are parsed only, since tests/test_experiments.py runs every config.
All other commands are run.
"""

import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch

from clipseg_pl.cli.commands import COMMANDS
from clipseg_pl.cli.commands.export import main as export
from clipseg_pl.cli.commands.toy import main as toy
from clipseg_pl.cli.resolve import resolve
from clipseg_pl.weights.places import PUBLISHED
from tests.command import EXPERIMENTS
from tests.docs.commands import ROOT, commands

PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("segment", "train", "evaluate", "datasets")),
]
LIGHTNING = ("fit", "validate", "test", "predict")
EXTRA_OPTIONS = {
    "segment": ["--overwrite"],
    "toy": ["--scenes=1"],
    "tables": ["--only=T3", "--dry-run"],  # run by tests/cli/test_tables.py
    "sweep": ["--dry-run"],  # run by tests/cli/test_sweeps.py
    "alignment": ["--samples=2", "--backbone=toy2", "--out=alignment.json"],
}
SKIPPED = {
    "demo": "tests/demo/test_demo.py",  # serves until it is stopped
    "report": "tests/docs/test_fine_tune.py",
}
ALL = list(dict.fromkeys(shlex.join(args) for page in PAGES for args in commands(page)))


def test_every_command_is_documented():
    assert {command.split()[0] for command in ALL} == set(COMMANDS)


_PAGES = ("train", "evaluate", "referring", "label_maps")


def test_every_overlay_is_in_a_table_of_the_guide():
    pages = [(ROOT / "docs" / f"{name}.md").read_text() for name in _PAGES]
    named = set(re.findall(r"(\w+)\.yaml", "".join(pages)))
    unseen = {f"without_unseen_{count}" for count in (4, 6, 8, 10)}  # "`2`, `4`, ..." in the table
    folds = {"without_fold_1", "without_fold_2"}  # "0 to 3"
    folders = ("data", "ablations", "models", "benchmarks")
    overlays = {file.stem for name in folders for file in (EXPERIMENTS / name).glob("*.yaml")}
    assert overlays - named == unseen | folds


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.fixture
def folder(pictures, miniature, trained, decoder_file):
    """Everything that the pages assume: photos, data, a trained run and published weights."""
    for name in ("experiments", "sweeps"):
        (pictures / name).symlink_to(ROOT / name)
    (pictures / "data").symlink_to(miniature)
    for name in ("pc_plus", "pc_plus+toy", "own"):
        shutil.copytree(trained, pictures / "runs" / name)
    torch.save(torch.load(decoder_file), pictures / "rd64-uni.pth")
    for name in ("holiday", "more/summer"):
        (pictures / name).mkdir(parents=True)
        shutil.copy(pictures / "photo.jpg", pictures / name / "beach.jpg")
    return pictures


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in ALL if c.split()[0] in LIGHTNING])
def test_commands_with_configs_are_parsed(command, folder):
    assert resolve(shlex.split(command))["model"]


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in ALL if c.split()[0] not in LIGHTNING])
def test_other_commands_run(command, folder):
    name, *args = shlex.split(command)
    if name in SKIPPED:
        assert (ROOT / SKIPPED[name]).is_file()
        return
    for model in {PUBLISHED, "me/drywall"}.intersection(args):
        export(["toy", "--to=hf", f"--out={model}"])
    if any(arg.startswith("toy_photos/") for arg in args):
        toy(["--root=toy_photos", "--scenes=1"])
    import_module(f"clipseg_pl.cli.commands.{name}").main([*args, *EXTRA_OPTIONS.get(name, [])])


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.stem)
def test_python_examples_run(page, pictures):
    (pictures / "holiday").mkdir()
    shutil.copy("photo.jpg", "holiday/beach.jpg")
    Path("holiday/broken.jpg").write_bytes(b"no photo")
    code = "".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    if PUBLISHED in code:
        export(["toy", "--to=hf", f"--out={PUBLISHED}"])
    names: dict = {}
    exec(code, names)
    assert names["result"].masks.shape == (3, 128, 128)
    written = {file.name for file in pictures.glob("*.png")} - {"cat_mask.png", "cat_cut_out.png"}
    assert written == ({"mask.png", "beach.png"} if page.stem == "segment" else set())
