"""Every command of README: trainings and evaluations are parsed, all others are run."""

import re
import shlex
import shutil
from importlib import import_module

import pytest
import torch

from clipseg_pl.cli.commands import VERBS
from clipseg_pl.cli.resolve import resolve
from tests.command import EXPERIMENTS

ROOT = EXPERIMENTS.parent
README = (ROOT / "README.md").read_text()
COMMAND = "python -m clipseg_pl "
LIGHTNING = ("fit", "validate", "test", "predict")
QUICK = {
    "toy": ["--scenes=1"],
    "tables": ["--only=T3", "--dry-run"],  # run by tests/cli/test_tables.py
    "sweep": ["--dry-run"],  # run by tests/cli/test_sweeps.py
    "alignment": ["--samples=2", "--backbone=toy", "--out=alignment.json"],
}
ELSEWHERE = {"demo": "it stays until it is stopped: tests/demo/test_demo.py"}


def commands() -> list[str]:
    """In order of the page; where a line says "… is `python …`", … stands for it from there on."""
    found, stands_for = [], ""
    for line in README.splitlines():
        code = [line.strip()] if line.startswith("    ") else re.findall("`([^`]+)`", line)
        defined = re.search("… is `([^`]+)`", line)
        if defined:
            stands_for = defined[1]
            code.remove(stands_for)
        for part in code:
            _, begins, rest = part.partition(COMMAND)
            if begins:
                found.append(COMMAND + rest)
            elif part.startswith("…"):
                found.append(stands_for + part.removeprefix("…"))
    return [command.removeprefix(COMMAND) for command in dict.fromkeys(found)]


def test_the_page_names_every_verb():
    assert {command.split()[0] for command in commands()} == set(VERBS)
    assert len(README.splitlines()) <= 250


@pytest.fixture
def folder(pictures, miniature, trained, decoder_file, monkeypatch):
    """What the page takes to be there: photos, data, a run, a published decoder."""
    for name in ("experiments", "sweeps"):
        (pictures / name).symlink_to(ROOT / name)
    (pictures / "data").symlink_to(miniature)
    shutil.copytree(trained, pictures / "runs" / "pc_plus")
    torch.save(torch.load(decoder_file), pictures / "rd64-uni.pth")
    for name in ("holiday", "more/summer"):
        (pictures / name).mkdir(parents=True)
        shutil.copy(pictures / "photo.jpg", pictures / name / "beach.jpg")
    return pictures


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if c.split()[0] in LIGHTNING])
def test_every_training_and_evaluation_is_understood(command, folder):
    """Each overlay is run by tests/test_experiments.py."""
    assert resolve(shlex.split(command))["model"]


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if c.split()[0] not in LIGHTNING])
def test_every_other_command_runs(command, folder):
    verb, *args = shlex.split(command)
    if verb in ELSEWHERE:
        assert (ROOT / ELSEWHERE[verb].split(": ")[1]).is_file()
    else:
        import_module(f"clipseg_pl.cli.commands.{verb}").main([*args, *QUICK.get(verb, [])])


def test_the_lines_of_python_run(pictures):
    lines = [line.removeprefix("    ") for line in README.splitlines()]
    first = next(place for place, line in enumerate(lines) if line.startswith("from clipseg_pl"))
    last = next(place for place, line in enumerate(lines) if line.startswith("segmenter.segment("))
    names: dict = {}
    exec("\n".join(lines[first : last + 1]), names)
    assert names["result"].masks.shape == (3, 128, 128)
