"""Every sweep under sweeps/ as W&B's agent starts it, and the runner that needs no server."""

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

from clipseg_pl.cli.arguments import leaves
from clipseg_pl.cli.commands.sweep import main
from clipseg_pl.runs import run as runs
from clipseg_pl.runs.sweeps import read_sweep
from tests.command import BASE, EXPERIMENTS, arguments, launch, results, run

ROOT = EXPERIMENTS.parent
SWEEPS = sorted(ROOT.glob("sweeps/*.yaml"))
DIM = "model.decoder.init_args.dim"
each_sweep = pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)


def write(file, values="[8]", **changes) -> str:
    """A sweep over D, with some of its keys changed (None removes one); returns its path."""
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
    """What wandb's own agent would start for a point: its command and its environment."""
    started = []

    def remember(**given):
        started.append(given)
        return SimpleNamespace()

    monkeypatch.setattr(wandb_agent, "AgentProcess", remember)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # the agent sets them
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
def test_the_agent_starts_what_the_runner_does_and_it_says_what_was_meant(file, agent, capsys):
    sweep = read_sweep(file)
    assert len(sweep.points()) > 1
    for point in sweep.points():
        command, _ = agent(file, point)
        start = command.index("python")
        assert command[start:] == ["python", "-m", "clipseg_pl", *sweep.arguments(point)]
        with pytest.raises(SystemExit) as stopped:
            run(*command[start + 3 :], "--print_config")
        said = capsys.readouterr()
        assert not stopped.value.code, said.err
        config = dict(leaves(yaml.safe_load(said.out)))
        for key, value in point.items():
            assert config[key] == (None if value == "null" else value)


@pytest.mark.slow
@each_sweep
def test_every_sweep_runs_and_its_metric_is_logged(file, miniature, tmp_path, monkeypatch):
    sweep = read_sweep(file)
    point = sweep.points()[0]
    if "model.backbone.init_args.name" in point:  # the tiny CLIP by the name of a real one
        tiny = Path(os.environ["CLIPSEG_WEIGHTS"]) / "tiny.json"
        shutil.copy(tiny, tmp_path / f"{point['model.backbone.init_args.name']}.json")
        monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    world = arguments("fit", miniature, tmp_path / "run", "--trainer.max_steps=1")[2:]
    world.append("--trainer.logger=false")  # a run of W&B would outlive the test in this process
    world = [option for option in world if option.lstrip("-").partition("=")[0] not in point]
    run(*sweep.arguments(point), *world)
    with (tmp_path / "run" / "metrics.csv").open() as metrics:
        assert sweep.metric in next(csv.reader(metrics))
    assert results(tmp_path / "run")["metrics"][sweep.metric] >= 0


@each_sweep
def test_every_sweep_opens_with_what_it_is_and_how_to_run_it(file):
    text = file.read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert any(f"python -m clipseg_pl sweep sweeps/{file.name}" in line for line in comments)
    assert any("Expected" in line for line in comments) and any("Cost" in line for line in comments)
    configs = re.findall(r"experiments/[\w/]+\.yaml", text)
    assert len(configs) >= 2 and all((ROOT / name).is_file() for name in configs)
    assert file.name in (ROOT / "sweeps" / "README.md").read_text()


@pytest.mark.slow
def test_a_run_of_an_agent_lies_in_the_folder_of_its_id(agent, miniature, tmp_path, monkeypatch):
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    monkeypatch.chdir(tmp_path)
    file = ROOT / "sweeps" / "seeds.yaml"
    world = arguments("fit", miniature, tmp_path, "--trainer.max_steps=1")[2:]
    world = [option for option in world if "default_root_dir" not in option]
    point = read_sweep(file).points()[1]
    command, given = agent(file, point)
    own = {key: value for key, value in given.items() if key.startswith("WANDB_")}
    own["WANDB_SERVICE"] = ""  # of another test in this process; the agent takes it away as well
    launch(*command[command.index("fit") :], *world, **own)
    folder = tmp_path / "runs" / "sweeps" / "sweep1" / "run1"
    assert results(folder)["config"]["seed_everything"] == point["seed_everything"] == 1
    assert list((folder / "wandb").glob("offline-run-*-run1"))


def test_a_dry_run_prints_every_command_and_leaves_nothing(tmp_path, capsys):
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


def test_the_backbones_are_published_and_their_patches_tile_the_images():
    sweep = read_sweep(ROOT / "sweeps" / "backbone.yaml")
    assert "--data.init_args.image_size=224" in sweep.command
    for point in sweep.points():
        name = point["model.backbone.init_args.name"]
        assert (name, "openai") in open_clip.list_pretrained()
        assert 224 % open_clip.get_model_config(name)["vision_cfg"]["patch_size"] == 0


def test_names_of_folders():
    sweep = read_sweep(ROOT / "sweeps" / "visual_prompt.yaml")
    assert sweep.folder_name(sweep.points()[0]) == "background=0.0,blur=0.0,context=null"
    sweep = read_sweep(ROOT / "sweeps" / "layers.yaml")
    assert [sweep.folder_name(point) for point in sweep.points()][-1] == "layers=3-7-9"


@pytest.mark.slow
def test_the_runner_goes_on_past_a_failure_and_does_nothing_twice(
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

    with pytest.raises(SystemExit, match=r"1 of 2 runs failed: .*dim=6$"):  # 4 heads
        main([write(tmp_path / "dims.yaml", "[6, 8]"), *more])
    said = capfd.readouterr().out
    assert "run 2 of 2" in said and results(folder)["step"] == 3
    table = said[said.rindex("dim ") :]
    assert table.index("8 ") < table.index("6 ")  # the one without a number comes last

    file = write(tmp_path / "dims.yaml", "[8]")
    main([file, *more, "--trainer.max_steps=4"])  # from its last checkpoint
    assert results(folder)["step"] == 4 and (folder / "metrics_before_1.csv").exists()

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capfd.readouterr()
    main([file, *more, "--trainer.max_steps=4"])
    score = results(folder)["metrics"]["val/text/miou@best"]
    said = capfd.readouterr().out
    assert "run 1 of 1" in said and "done" in said and f"{score:.4g}" in said
    with pytest.raises(SystemExit, match="batch_size = 4, not 2: give another --out"):
        main([file, *more, "--data.init_args.batch_size=2"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    wrong = {"name": "val/miou", "goal": "maximize"}
    with pytest.raises(SystemExit, match=r"no run measures val/miou; they measure .*val/text/ap,"):
        main([write(tmp_path / "dims.yaml", "[8]", metric=wrong), *more])


@pytest.mark.parametrize(
    ("changes", "answer"),
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
        ({"command": None}, "command is a list of ${env}, ${interpreter}, -m, clipseg_pl, fit"),
        ({"command": ["torchrun", "-m", "clipseg_pl", "fit", "${args}"]}, "command is a list of"),
        ({"command": ["-m", "clipseg_pl", "fit"]}, "command has ${args} once"),
    ],
)
def test_a_sweep_file_with_a_mistake_is_refused_by_name(changes, answer, tmp_path):
    refuse([write(tmp_path / "dims.yaml", **changes)], f"{tmp_path / 'dims.yaml'}: ", answer)


def test_what_is_no_sweep_file_is_refused_by_name(tmp_path):
    file = tmp_path / "dims.yaml"
    refuse([str(file)], f"{file}: no such file")
    for text, answer in (
        ("method: [", "not YAML"),
        ("- grid", "not a sweep file"),
        ("1" * 5000, "not YAML"),
    ):
        file.write_text(text)
        refuse([str(file)], f"{file}: {answer}")


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ([f"--{DIM}=3"], f"sets {DIM} for each run by itself"),
        (["--trainer.default_root_dir=runs/all"], "sets trainer.default_root_dir for each run"),
        ([f"--config={EXPERIMENTS / 'ablations' / 'dim_16.yaml'}"], f"dim_16.yaml sets {DIM}"),
        (["--config=nothing.yaml"], "File does not exist"),
        (["--dryrun"], "unrecognized arguments: --dryrun"),
        ([f"--out={__file__}"], "test_sweeps.py is a file: results need a folder"),
    ],
)
def test_options_that_a_sweep_cannot_take_are_refused(options, answer, tmp_path):
    refuse([write(tmp_path / "dims.yaml"), *options], answer)


def refuse(args: list[str], *answers: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(args)
    said = str(stopped.value.code)
    assert said.startswith("clipseg_pl: ") and "\n" not in said
    assert all(answer in said for answer in answers), said
