"""All sweep files in sweeps/, run by a W&B agent and by the command `sweep`."""

import csv
import os
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import yaml
from wandb import wandb_agent

from clipseg_pl.cli.arguments import flatten
from clipseg_pl.cli.commands.sweep import main
from clipseg_pl.runs import run as runs
from clipseg_pl.runs.sweeps import read_sweep
from tests.command import BASE, EXPERIMENTS, arguments, launch, results, run

ROOT = EXPERIMENTS.parent
SWEEPS = sorted(ROOT.glob("sweeps/*.yaml"))
DIM = "model.decoder.init_args.dim"
each_sweep = pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)


def write(file, values="[8]", **changes) -> str:
    """Write a sweep over D with changed keys (None removes a key) and return its path."""
    content = {
        "method": "grid",
        "metric": {"name": "val/text/miou@best", "goal": "maximize"},
        "parameters": {DIM: {"values": yaml.safe_load(values)}},
        "command": ["${interpreter}", "-m", "clipseg_pl", "fit", f"--config={BASE}", "${args}"],
    }
    content = {key: value for key, value in {**content, **changes}.items() if value is not None}
    file.write_text(yaml.safe_dump(content))
    return str(file)


@pytest.fixture
def agent(monkeypatch, tmp_path):
    """A function that returns the command and environment a W&B agent would use for a point."""
    started = []

    def record(**process):
        started.append(process)
        return SimpleNamespace()

    monkeypatch.setattr(wandb_agent, "AgentProcess", record)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # set by the agent
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")

    def start(file, point):
        content = yaml.safe_load(file.read_text())
        own = wandb_agent.Agent(None, None)
        own._sweep_command = content["command"]
        values = {key: {"value": value} for key, value in point.items()}
        own._command_run({"run_id": "run1", "program": content["program"], "args": values})
        return started[-1]["command"], started[-1]["env"]

    return start


@pytest.mark.slow
@each_sweep
def test_agent_and_runner_start_the_same_valid_command(file, agent, capsys):
    sweep = read_sweep(file)
    assert len(sweep.points()) > 1
    for point in sweep.points():
        command, _ = agent(file, point)
        start = command.index("python")
        assert command[start:] == ["python", "-m", "clipseg_pl", *sweep.arguments(point)]
        with pytest.raises(SystemExit) as exited:
            run(*command[start + 3 :], "--print_config")
        captured = capsys.readouterr()
        assert not exited.value.code, captured.err
        config = dict(flatten(yaml.safe_load(captured.out)))
        for key, value in point.items():
            assert config[key] == (None if value == "null" else value)


@pytest.mark.slow
@each_sweep
def test_every_sweep_runs_and_logs_its_metric(file, miniature, tmp_path, monkeypatch):
    sweep = read_sweep(file)
    point = sweep.points()[0]
    if "model.backbone.init_args.name" in point:  # the tiny CLIP under the name of a real one
        tiny = Path(os.environ["CLIPSEG_WEIGHTS"]) / "tiny.json"
        shutil.copy(tiny, tmp_path / f"{point['model.backbone.init_args.name']}.json")
        monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    world = arguments("fit", miniature, tmp_path / "run", "--trainer.max_steps=1")[2:]
    world.append("--trainer.logger=false")  # a W&B run would outlive this test
    world = [option for option in world if option.lstrip("-").partition("=")[0] not in point]
    run(*sweep.arguments(point), *world)
    with (tmp_path / "run" / "metrics.csv").open() as metrics:
        assert sweep.metric in next(csv.reader(metrics))
    assert results(tmp_path / "run")["metrics"][sweep.metric] >= 0


@each_sweep
def test_every_sweep_file_documents_itself(file):
    text = file.read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert any(f"python -m clipseg_pl sweep sweeps/{file.name}" in line for line in comments)
    assert any("Paper" in line for line in comments) and any("Cost" in line for line in comments)
    configs = re.findall(r"experiments/[\w/]+\.yaml", text)
    assert len(configs) >= 2 and all((ROOT / name).is_file() for name in configs)
    assert file.name in (ROOT / "sweeps" / "README.md").read_text()


@pytest.mark.slow
def test_agent_run_is_in_the_folder_of_its_id(agent, miniature, tmp_path, monkeypatch):
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    monkeypatch.chdir(tmp_path)
    file = ROOT / "sweeps" / "seeds.yaml"
    world = arguments("fit", miniature, tmp_path, "--trainer.max_steps=1")[2:]
    world = [option for option in world if "default_root_dir" not in option]
    point = read_sweep(file).points()[1]
    command, environment = agent(file, point)
    own = {key: value for key, value in environment.items() if key.startswith("WANDB_")}
    own["WANDB_SERVICE"] = ""  # left by another test; the agent removes it too
    launch(*command[command.index("fit") :], *world, **own)
    folder = tmp_path / "runs" / "sweeps" / "sweep1" / "run1"
    assert results(folder)["config"]["seed_everything"] == point["seed_everything"] == 1
    assert list((folder / "wandb").glob("offline-run-*-run1"))


def test_dry_run_prints_every_command_and_writes_nothing(tmp_path, capsys):
    toy = f"{EXPERIMENTS / 'toy.yaml'}"
    file = write(tmp_path / "dims.yaml", "[8, 16]")
    main([file, "--dry-run", "--config", toy, f"--out={tmp_path / 'out'}", "--trainer.max_steps=9"])
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [command[4:] for command in commands] == [
        [
            *(f"--config={BASE}", f"--config={toy}", f"--{DIM}={dim}"),
            "--trainer.max_steps=9",
            f"--trainer.default_root_dir={tmp_path / 'out' / f'dim={dim}'}",
        ]
        for dim in (8, 16)
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["dims.yaml"]


def test_backbones_are_published_and_their_patch_sizes_divide_the_image_size():
    sweep = read_sweep(ROOT / "sweeps" / "backbone.yaml")
    assert "--data.init_args.image_size=224" in sweep.command
    for point in sweep.points():
        name = point["model.backbone.init_args.name"]
        assert (name, "openai") in open_clip.list_pretrained()
        assert 224 % open_clip.get_model_config(name)["vision_cfg"]["patch_size"] == 0


def test_folder_names():
    sweep = read_sweep(ROOT / "sweeps" / "visual_prompt.yaml")
    assert sweep.folder_name(sweep.points()[0]) == "background=0.0,blur=0.0,context=null"
    sweep = read_sweep(ROOT / "sweeps" / "layers.yaml")
    assert [sweep.folder_name(point) for point in sweep.points()][-1] == "layers=3-7-9"


@pytest.mark.slow
def test_runner_continues_after_a_failure_and_repeats_nothing(
    miniature, tmp_path, capfd, monkeypatch
):
    def in_process(arguments):
        try:
            run(*arguments)
        except SystemExit:
            return False
        return True

    monkeypatch.setattr(runs, "launch", in_process)
    world = arguments("fit", miniature, tmp_path)[2:]
    world = [option for option in world if "default_root_dir" not in option]
    more = [f"--out={tmp_path / 'out'}", *world]
    folder = tmp_path / "out" / "dim=8"

    with pytest.raises(
        SystemExit, match=r"1 of 2 runs failed: .*dim=6$"
    ):  # not divisible by 4 heads
        main([write(tmp_path / "dims.yaml", "[6, 8]"), *more])
    output = capfd.readouterr().out
    assert "run 2 of 2" in output and results(folder)["step"] == 3
    table = output[output.rindex("dim ") :]
    assert table.index("8 ") < table.index("6 ")  # the failed run is last

    file = write(tmp_path / "dims.yaml", "[8]")
    main([file, *more, "--trainer.max_steps=4"])  # resumes from its last checkpoint
    assert results(folder)["step"] == 4 and (folder / "metrics_before_1.csv").exists()

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capfd.readouterr()
    main([file, *more, "--trainer.max_steps=4"])
    score = results(folder)["metrics"]["val/text/miou@best"]
    output = capfd.readouterr().out
    assert "run 1 of 1" in output and "done" in output and f"{score:.4g}" in output
    with pytest.raises(SystemExit, match="batch_size = 4, not 2: choose another --out"):
        main([file, *more, "--data.init_args.batch_size=2"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    wrong = {"name": "val/miou", "goal": "maximize"}
    with pytest.raises(
        SystemExit, match=r"no run logs the metric val/miou; choose from .*val/text/ap,"
    ):
        main([write(tmp_path / "dims.yaml", "[8]", metric=wrong), *more])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metod": "grid"}, "unknown key metod"),
        ({"metric": None}, "metric needs a name"),
        ({"metric": {"name": "val/text/ap", "goal": "up"}}, "maximize or minimize, not up"),
        ({"parameters": {"model.dimm": {"values": [8]}}}, "unrecognized arguments: --model.dimm=8"),
        ({"parameters": {DIM: {"values": ["wide"]}}}, "Expected a <class 'int'>"),
        ({"parameters": {DIM: {"min": 8, "max": 64}}}, "only a W&B agent can do"),
        ({"parameters": {"model": {"parameters": {}}}}, "write model.<name> as one dotted key"),
        ({"parameters": {DIM: {"values": [None]}}}, 'write "null" in quotes'),
        ({"parameters": {DIM: {"values": 8}}}, "needs a list of values"),
        ({"parameters": {DIM: {"values": [8, 8]}}}, "2 runs would be called dim=8"),
        ({"command": None}, "command must list ${env}, ${interpreter}, -m, clipseg_pl, fit"),
        ({"command": ["torchrun", "-m", "clipseg_pl", "fit", "${args}"]}, "command must list"),
        ({"command": ["-m", "clipseg_pl", "fit"]}, "command must contain ${args}"),
    ],
)
def test_invalid_sweep_files_are_rejected(changes, message, tmp_path):
    expect_error([write(tmp_path / "dims.yaml", **changes)], f"{tmp_path / 'dims.yaml'}: ", message)


def test_other_files_are_rejected(tmp_path):
    file = tmp_path / "dims.yaml"
    expect_error([str(file)], f"{file}: no such file")
    for text, message in (
        ("method: [", "not YAML"),
        ("- grid", "not a sweep file"),
        ("1" * 5000, "not YAML"),
    ):
        file.write_text(text)
        expect_error([str(file)], f"{file}: {message}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([f"--{DIM}=3"], f"--{DIM} cannot be set, because the sweep sets it"),
        (
            ["--trainer.default_root_dir=runs/all"],
            "--trainer.default_root_dir cannot be set",
        ),
        ([f"--config={EXPERIMENTS / 'ablations' / 'dim_16.yaml'}"], f"dim_16.yaml sets {DIM}"),
        (["--config=nothing.yaml"], "File does not exist"),
        (["--dryrun"], "unrecognized arguments: --dryrun"),
        ([f"--out={__file__}"], "test_sweeps.py is a file; a folder is needed"),
    ],
)
def test_invalid_options_are_rejected(options, message, tmp_path):
    expect_error([write(tmp_path / "dims.yaml"), *options], message)


def expect_error(args: list[str], *messages: str) -> None:
    """Check that the command exits with a one-line error that contains the messages."""
    with pytest.raises(SystemExit) as exited:
        main(args)
    error = str(exited.value.code)
    assert error.startswith("clipseg_pl: ") and "\n" not in error
    assert all(message in error for message in messages), error
