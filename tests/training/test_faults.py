"""What goes wrong in training is named in one line, and the last good checkpoint is kept."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch

from tests.command import arguments, attempt, run

RUN = ("--trainer.max_steps=9", "--trainer.val_check_interval=3")


def fault(name, **settings):
    """Options for a callback of `tests.faults`."""
    given = [f"--trainer.callbacks.{key}={value}" for key, value in settings.items()]
    return [f"--trainer.callbacks+=tests.faults.{name}", *given]


def fit(root, folder, *more):
    given = [arg for arg in arguments("fit", root, folder) if "max_steps" not in arg]
    return [*given, *RUN, *more]


def said(capsys) -> str:
    """The one line that the command line says."""
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "clipseg_pl:" in line]
    return line


def step_of(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["global_step"]


def test_a_loss_that_is_not_finite_names_step_sample_and_prompt(miniature, tmp_path, capsys):
    seen = fault("Seen", file=tmp_path / "seen.txt")
    run(*fit(miniature, tmp_path / "whole", *seen))
    lines = map(json.loads, (tmp_path / "seen.txt").read_text().splitlines())
    names, prompts = next(line[1:] for line in lines if line[0] == 5)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(*fit(miniature, tmp_path / "run", *fault("Poison", step=5, what="logits")))
    message = said(capsys)
    assert f"the loss of step 5 is not finite, at {names[1]} ({prompts[1]!r}): " in message
    assert step_of(tmp_path / "run") == step_of(tmp_path / "run", "best") == 3


def learning_rates(folder):
    """First and present learning rate of a run's last checkpoint, and those of its settings."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    (group,) = content["optimizer_states"][0]["param_groups"]
    (schedule,) = content["lr_schedulers"]
    settings = content["hyper_parameters"]
    assert [group["lr"]] == schedule["_last_lr"] and [group["initial_lr"]] == schedule["base_lrs"]
    return group["initial_lr"], group["lr"], settings["optimizer"]["init_args"]["lr"]


@pytest.mark.slow
@pytest.mark.parametrize(("step", "resumed"), [(2, False), (5, True)])
@pytest.mark.parametrize("what", ["logits", "weights"])
def test_following_the_advice_trains_on_at_a_tenth_of_the_learning_rate(
    miniature, tmp_path, capsys, what, step, resumed
):
    if what == "weights":
        step += 1  # weights are checked after every third step
    fast = "--model.optimizer.init_args.lr=0.002"
    with pytest.raises(SystemExit):
        run(*fit(miniature, tmp_path, fast, *fault("Poison", step=step, what=what)))
    (advice,) = re.findall(r"run it again with (.*), a tenth of", said(capsys))
    assert ("--ckpt_path last" in advice) == resumed
    run(*fit(miniature, tmp_path, fast, *advice.split()))
    assert step_of(tmp_path) == 9
    first, now, setting = learning_rates(tmp_path)
    assert first == setting == 0.0002 and now == pytest.approx(1e-4)  # min_lr


@pytest.mark.slow
def test_a_smaller_learning_rate_is_taken_on_resume_only_if_it_is_typed(
    miniature, tmp_path, capsys
):
    run(*fit(miniature, tmp_path, "--trainer.max_steps=3"))
    slower = tmp_path / "slower.yaml"
    slower.write_text("model: {optimizer: {init_args: {lr: 0.00001}}}")
    more = ("--ckpt_path=last", f"--config={slower}")
    run(*fit(miniature, tmp_path, *more, "--trainer.max_steps=6"))
    assert "optimizer.init_args.lr = 0.001, which replaces 1e-05" in said(capsys)
    assert learning_rates(tmp_path)[0] == 0.001
    run(*fit(miniature, tmp_path, "--ckpt_path=last", "--model.optimizer.lr", "1e-5"))
    assert "goes on with model.optimizer.init_args.lr = 1e-05, which was 0.001" in said(capsys)
    assert learning_rates(tmp_path) == (1e-5, 1e-5, 1e-5)  # below min_lr it stays


@pytest.mark.parametrize(("step", "kept"), [pytest.param(6, 3, marks=pytest.mark.slow), (9, 6)])
def test_weights_that_a_step_has_spoiled_are_not_saved(miniature, tmp_path, capsys, step, kept):
    with pytest.raises(SystemExit):
        run(*fit(miniature, tmp_path / "run", *fault("Poison", step=step, what="weights")))
    assert f"film_scale.weight is not finite after step {step} and was not saved" in said(capsys)
    assert step_of(tmp_path / "run") == kept


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_vanishes_in_training_is_named(miniature, tmp_path, capsys, workers):
    root = tmp_path / "data"
    shutil.copytree(miniature / "VGPhraseCut_v0", root / "VGPhraseCut_v0")
    photos = root / "VGPhraseCut_v0" / "images"
    more = ("--trainer.max_steps=40", f"--data.init_args.num_workers={workers}")
    with pytest.raises(SystemExit):
        run(*fit(root, tmp_path / "run", *more, *fault("Remove", step=5, files=photos / "*.jpg")))
    message = said(capsys)
    assert f"clipseg_pl: {photos}" in message and ".jpg" in message
    assert step_of(tmp_path / "run") >= 3


@pytest.mark.slow
def test_on_a_full_disk_the_last_good_checkpoint_is_kept(miniature, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(*fit(miniature, tmp_path / "run", *fault("FullDisk", step=5, size=1 << 20)))
    message = said(capsys)
    assert "last.ckpt could not be written and is as it was (File too large)" in message
    assert "make room and go on with --ckpt_path last" in message
    assert step_of(tmp_path / "run") == 3
    assert {file.name for file in (tmp_path / "run" / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
    }
    run(*fit(miniature, tmp_path / "run", "--ckpt_path=last"))
    assert step_of(tmp_path / "run") == 9


def test_a_full_disk_under_the_metrics_names_the_run(miniature, tmp_path, capsys):
    more = ("--trainer.log_every_n_steps=1", "--trainer.enable_checkpointing=false")
    with pytest.raises(SystemExit):
        run(*fit(miniature, tmp_path / "run", *more, *fault("FullDisk", step=5, size=100)))
    assert f"{tmp_path / 'run'}: File too large" in said(capsys)


@pytest.mark.exhaustive
@pytest.mark.parametrize("megabytes", [1, 8, 14, 22, 26])
def test_a_disk_that_is_too_small_is_said_in_one_line(miniature, tmp_path, megabytes):
    """A checkpoint has 10 MB: there is room for none, for one, for two, not for a third."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [sys.executable, "-m", "clipseg_pl", *fit(miniature, disk / "run")]
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)]
    keep = 'cp -r "$1/run/checkpoints" "$1/../kept"'  # the disk goes with the process
    script = f'"${{@:2:7}}" || exit 99; "${{@:9}}"; status=$?; {keep}; exit $status'
    done = subprocess.run(
        ["unshare", "-Urm", "bash", "-c", script, "bash", str(disk), *mount, *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "clipseg_pl:" in line]
    assert "No space left on device" in line and str(disk) in line
    for file in (tmp_path / "kept").glob("*"):
        assert torch.load(file, weights_only=True)["global_step"] in (3, 6, 9)
    assert len(list((tmp_path / "kept").glob("*.ckpt"))) == min(2, megabytes // 10)


@pytest.mark.exhaustive
@pytest.mark.parametrize("what", ["logits", "weights"])
def test_two_ranks_stop_when_one_finds_a_fault(miniature, tmp_path, what):
    two = ("--trainer.devices=2", "--trainer.strategy=ddp")
    done = attempt(*fit(miniature, tmp_path, *two, *fault("Poison", step=5, what=what)))
    assert done.returncode != 0 and "is not finite" in done.stderr
    assert step_of(tmp_path) == 3
