"""Every command of README, run as it stands there, but on the miniature and for one step."""

import re
import shlex
import shutil
from importlib import import_module

import pytest
import torch

from clipseg_pl.cli import main as lightning_main
from clipseg_pl.commands import VERBS
from tests.command import EXPERIMENTS, arguments
from tests.test_experiments import holds_out

ROOT = EXPERIMENTS.parent
README = (ROOT / "README.md").read_text()
COMMAND = "python -m clipseg_pl "
LIGHTNING = ("fit", "validate", "test", "predict")
QUICK = {
    "toy": ["--scenes=1"],
    "tables": ["--only=T3", "--dry-run"],  # run by tests/test_tables.py
    "sweep": ["--dry-run"],  # run by tests/test_sweeps.py
    "alignment": ["--samples=2", "--backbone=toy", "--out=alignment.json"],
}
ELSEWHERE = {"demo": "it stays until it is stopped: tests/test_demo.py"}


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


def shrunk(args: list[str], miniature, folder) -> list[str]:
    """Options that make a run of Lightning one of a few samples."""
    last = args[args.index("--ckpt_path") + 1] == "last" if "--ckpt_path" in args else False
    run_folder = folder / "runs" / ("pc_plus" if last else "one")
    given = arguments(args[0], miniature, run_folder)
    steps = "--trainer.max_steps=4" if last else "--trainer.max_steps=1"  # the run had 3
    more = [steps, "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"]
    if "--trainer.devices" in args:
        more += ["--trainer.devices=1", "--trainer.strategy=auto"]  # tests/test_distributed.py
    overlays = [ROOT / name for name in args if name.startswith("experiments/ben")]
    if any(holds_out(overlay) for overlay in overlays):
        more.append("--data.init_args.allow_seen=true")
    return [*given[2:], *more]


@pytest.mark.parametrize("command", commands())
def test_every_command_runs(command, folder, miniature, monkeypatch):
    args = shlex.split(command)
    if args[0] in ELSEWHERE:
        assert (ROOT / ELSEWHERE[args[0]].split(": ")[1]).is_file()
        return
    monkeypatch.setattr("sys.argv", ["clipseg_pl"])
    if args[0] in LIGHTNING:
        lightning_main([*args, *shrunk(args, miniature, folder)])
    else:
        import_module(f"clipseg_pl.commands.{args[0]}").main([*args[1:], *QUICK.get(args[0], [])])


def test_the_lines_of_python_run(pictures):
    lines = [line.removeprefix("    ") for line in README.splitlines()]
    first = next(place for place, line in enumerate(lines) if line.startswith("from clipseg_pl"))
    last = next(place for place, line in enumerate(lines) if line.startswith("segmenter.segment("))
    names: dict = {}
    exec("\n".join(lines[first : last + 1]), names)
    assert names["result"].masks.shape == (3, 128, 128)
