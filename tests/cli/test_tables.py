"""The command `tables`, with a list of two trainings."""

import errno
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock

from clipseg_pl.cli.commands import tables
from clipseg_pl.prompts.visual import TABLE_2
from clipseg_pl.protocols.alignment import LARGE, MASKINGS
from clipseg_pl.runs import run as runs
from tests.command import EXPERIMENTS, arguments, run


@pytest.fixture
def listed(tmp_path, miniature):
    """A tables.yaml next to copies of the config overlays; its world is the miniature."""
    folder = tmp_path / "experiments"
    shutil.copytree(EXPERIMENTS, folder, ignore=shutil.ignore_patterns("results", "*.md"))
    options = arguments("fit", miniature, tmp_path)
    values = dict(o[2:].split("=") for o in options[2:] if "default_root_dir" not in o)
    world: dict = {}
    for key, value in values.items():
        *path, last = key.split(".")
        node = world
        for part in path:
            node = node.setdefault(part, {})
        node[last] = yaml.safe_load(value)
    (folder / "toy.yaml").write_text(yaml.safe_dump(world))
    table = {
        "title": "Table 3",
        "benchmarks": ["phrasecut_text"],
        "columns": {"mIoU": "text/miou@best"},
        "rows": {
            "whole": {"training": [], "paper": [43.6]},
            "small": {
                "training": ["ablations/dim_16"],
                "settings": {"data.init_args.val_split": "val"},
            },
        },
    }
    content = {
        "worlds": {"toy": {"title": "toys", "overlay": "toy.yaml"}, "paper": {"title": "photos"}},
        "tables": {"T3": table},
        "claims": [],
    }
    (folder / "tables.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "tables.yaml"


@pytest.fixture
def launched(monkeypatch):
    """Commands of the started runs, which run in this process."""
    commands = []

    def launch(options):
        commands.append(options[0])
        try:
            run(*options)
        except SystemExit:
            return False
        return True

    for module in (tables, runs):
        monkeypatch.setattr(module, "launch", launch)
    monkeypatch.setattr(sys, "argv", ["clipseg_pl"])
    return commands


def test_committed_results_are_valid():
    """Their digests depend on class paths and settings, which must not change by accident."""
    now = tables._Tables(EXPERIMENTS / "tables.yaml", "toy", Path("runs"))
    evaluation = now.plan.evaluations(["T3"])[0]
    assert evaluation.training.name == "pc_plus"
    assert now.results.state(evaluation) == "valid"


def fill(listed, *more):
    runs = listed.parents[1] / "runs"
    tables.main(["--world=toy", f"--file={listed}", f"--runs={runs}", *more])


@pytest.mark.slow
def test_missing_evaluations_run_once_and_are_written(listed, launched, capsys):
    fill(listed, "--dry-run")
    assert not launched and "2 to run on 2 trainings" in capsys.readouterr().out
    page = listed.with_name("RESULTS.md")
    assert page.read_text().count("not run") == 4
    fill(listed)
    assert launched == ["fit", "validate"] * 2
    assert "2 of 2: pc_plus+dim_16, 1 evaluations; about" in capsys.readouterr().out
    ours, photos = page.read_text().split("## On photos")
    assert "not run" not in ours and photos.count("not run") == 2
    assert {file.stem for file in (listed.parent / "results" / "toy").glob("*.json")} == {
        "pc_plus",
        "pc_plus+dim_16",
    }
    launched.clear()
    fill(listed)
    assert not launched
    # another config: the results are stale
    world = listed.with_name("toy.yaml")
    world.write_text(world.read_text().replace("max_steps: 3", "max_steps: 2"))
    fill(listed, "--dry-run")
    assert capsys.readouterr().out.count("(1 stale)") == 2
    assert page.read_text().count("stale: run again") == 2


@pytest.mark.slow
def test_interrupted_training_is_resumed_and_finished_one_is_not_repeated(
    listed, launched, monkeypatch
):
    (listed.parent / "ablations" / "dim_16.yaml").write_text("model:\n  decoder: {dims: 3}\n")
    with pytest.raises(SystemExit):
        fill(listed)
    (run_folder,) = (listed.parents[1] / "runs" / "toy").glob("[!.]*")
    result = listed.parent / "results" / "toy" / "pc_plus.json"
    result.unlink()
    for file in (run_folder / "results").iterdir():  # as if killed before it wrote its results
        file.unlink()
    launched.clear()
    with pytest.raises(SystemExit):
        fill(listed)
    assert launched == ["validate"] and result.exists()
    result.unlink()
    last = run_folder / "checkpoints" / "last.ckpt"
    torch.save({**torch.load(last, weights_only=True), "global_step": 1}, last)
    resumed = []
    monkeypatch.setattr(runs, "launch", resumed.append)
    with pytest.raises(SystemExit, match="pc_plus"):
        fill(listed)
    assert [options[0] for options in resumed] == ["fit"] and "--ckpt_path=last" in resumed[0]


@pytest.mark.slow
def test_failed_evaluations_are_listed(listed, launched):
    overlay = listed.parent / "benchmarks" / "phrasecut_text.yaml"
    overlay.write_text("model:\n  protocol: {class_path: Nothing}\n")
    with pytest.raises(SystemExit, match=r"2 runs failed: pc_plus, phrasecut_text, pc_plus"):
        fill(listed)
    assert launched == ["fit", "validate"] * 2


def test_table_2_runs_the_alignment_command_once_per_seed(listed, monkeypatch):
    content = yaml.safe_load(listed.read_text())
    columns = {"Delta P": "mean"}
    table = {"title": "Table 2", "alignment": True, "columns": columns, "seeds": {"toy": 2}}
    listed.write_text(yaml.safe_dump({**content, "tables": {"T2": table}}))
    started = []

    def launch(options):
        started.append(options[:-1])
        out = Path(options[-1].partition("=")[2])
        out.parent.mkdir(parents=True, exist_ok=True)
        rows = {*TABLE_2, *MASKINGS, LARGE}
        keys = ("dataset_sizes", "dataset_skipped", "commit", "dirty", "versions", "device")
        metrics = {f"alignment/{row}/mean": 10.0 + len(started) for row in rows}
        out.write_text(json.dumps({"metrics": metrics, "seconds": 1, **dict.fromkeys(keys)}))
        return True

    monkeypatch.setattr(tables, "launch", launch)
    fill(listed)
    fill(listed)
    world = yaml.safe_load(listed.with_name("toy.yaml").read_text())
    name = world["model"]["backbone"]["init_args"]["name"]
    options = ["alignment", "--root=toy", f"--backbone={name}", "--tag=openai"]
    assert started == [[*options, f"--seed={seed}"] for seed in (0, 1)]
    page = listed.with_name("RESULTS.md").read_text()
    assert "| crop | 11.50 (11.00 to 12.00) | 13.60 |" in page


def test_failed_run_is_listed_and_others_continue(listed, launched, capsys):
    (listed.parent / "ablations" / "dim_16.yaml").write_text("model:\n  decoder: {dims: 3}\n")
    with pytest.raises(SystemExit, match=r"1 runs failed: pc_plus\+dim_16"):
        fill(listed)
    assert "| small | not run |" in listed.with_name("RESULTS.md").read_text()
    assert (listed.parent / "results" / "toy" / "pc_plus.json").exists()


@pytest.fixture
def pretended(monkeypatch):
    """Names of the pretended runs, which end at once; a function to call during each of them."""
    started, hook = [], []

    def launch(options):
        (folder,) = (Path(o.partition("=")[2]) for o in options if "default_root_dir" in o)
        started.append(f"{options[0]} {folder.name}")
        keys = ("dataset_sizes", "dataset_skipped", "commit", "dirty", "versions", "device")
        content = {"metrics": {"val/text/miou@best": 0.5}, "seconds": 1, **dict.fromkeys(keys)}
        trainer = {"max_steps": 3, "max_epochs": None}
        file = folder / "results" / f"{options[0]}-x.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content | {"step": 3, "config": {"trainer": trainer}}))
        last = folder / "checkpoints" / "last.ckpt"
        last.parent.mkdir(exist_ok=True)
        last.touch()
        for call in hook:
            call()
        return True

    for module in (tables, runs):
        monkeypatch.setattr(module, "launch", launch)
    return started, hook


def test_training_of_another_command_is_left_for_the_end(listed, pretended, capsys):
    started, hook = pretended
    folder = listed.parents[1] / "runs" / "toy"
    folder.mkdir(parents=True)
    lock = FileLock(folder / ".pc_plus.lock")
    lock.acquire()
    hook.append(lock.release)  # the other command ends its training during our first run
    fill(listed)
    assert [line.split("-")[0] for line in started] == [
        "fit pc_plus+dim_16",
        "validate phrasecut_text+val_split=val",
        "fit pc_plus",
        "validate phrasecut_text",
    ]
    assert "another command runs this training" in capsys.readouterr().out


def test_evaluation_of_another_command_is_not_repeated(listed, pretended):
    started, hook = pretended
    fill(listed)
    other, own = (listed.parent / "results" / "toy" / f"pc_plus{x}.json" for x in ("", "+dim_16"))
    content = other.read_text()
    other.unlink()
    own.unlink()
    started.clear()
    lock = FileLock(listed.parents[1] / "runs" / "toy" / ".pc_plus.lock")
    lock.acquire()
    hook += [lambda: other.write_text(content), lock.release]
    fill(listed)
    assert started == ["validate phrasecut_text+val_split=val"]


def test_runs_fail_if_a_config_has_changed_since_the_start(listed, pretended, capsys):
    started, hook = pretended
    world = listed.with_name("toy.yaml")
    changed = world.read_text().replace("max_steps: 3", "max_steps: 2")
    hook.append(lambda: world.write_text(changed))
    with pytest.raises(
        SystemExit, match=r"2 runs failed: pc_plus, phrasecut_text, pc_plus\+dim_16"
    ):
        fill(listed)
    message = "a config of pc_plus, phrasecut_text has changed since this command started"
    assert message in capsys.readouterr().err
    assert not (listed.parent / "results" / "toy").exists()
    assert [line.split("-")[0] for line in started] == ["fit pc_plus", "validate phrasecut_text"]


def test_file_systems_without_locks_run_one_command(listed, pretended, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", fail)
    fill(listed)
    assert (listed.parent / "results" / "toy" / "pc_plus.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "T99"], "unknown table: T99; choose from T3"),
        (["--runs", __file__], "test_tables.py is a file; a folder is needed"),
        (
            ["--file", "nowhere/tables.yaml"],
            "no nowhere/tables.yaml: run the command in the repository",
        ),
    ],
)
def test_user_errors_are_one_line(listed, options, message):
    with pytest.raises(SystemExit, match=message):
        fill(listed, *options)
