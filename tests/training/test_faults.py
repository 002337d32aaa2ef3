"""Faults during training print one error line and keep the last good checkpoint."""

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
    """Return the options for a callback of `tests.faults`."""
    options = [f"--trainer.callbacks.{key}={value}" for key, value in settings.items()]
    return [f"--trainer.callbacks+=tests.faults.{name}", *options]


def fit(root, folder, *more):
    args = [arg for arg in arguments("fit", root, folder) if "max_steps" not in arg]
    return [*args, *RUN, *more]


def message(capsys) -> str:
    """Return the only line that the command line has printed to stderr."""
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "clipseg_pl:" in line]
    return line


def step_of(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["global_step"]


def test_non_finite_loss_reports_step_sample_and_prompt(miniature, tmp_path, capsys):
    seen = fault("Seen", file=tmp_path / "seen.txt")
    run(*fit(miniature, tmp_path / "whole", *seen))
    lines = map(json.loads, (tmp_path / "seen.txt").read_text().splitlines())
    names, prompts = next(line[1:] for line in lines if line[0] == 5)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(*fit(miniature, tmp_path / "run", *fault("Poison", step=5, what="logits")))
    sample = f"{names[1]} ({prompts[1]!r})"
    assert f"the loss at step 5 is not finite for {sample}. " in message(capsys)
    assert step_of(tmp_path / "run") == step_of(tmp_path / "run", "best") == 3


def learning_rates(folder):
    """Return the initial, current and configured learning rate of a run's last checkpoint."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    (group,) = content["optimizer_states"][0]["param_groups"]
    (schedule,) = content["lr_schedulers"]
    settings = content["hyper_parameters"]
    assert [group["lr"]] == schedule["_last_lr"] and [group["initial_lr"]] == schedule["base_lrs"]
    return group["initial_lr"], group["lr"], settings["optimizer"]["init_args"]["lr"]


@pytest.mark.slow
@pytest.mark.parametrize(("step", "resumed"), [(2, False), (5, True)])
@pytest.mark.parametrize("what", ["logits", "weights"])
def test_advice_continues_training_at_a_tenth_of_the_learning_rate(
    miniature, tmp_path, capsys, what, step, resumed
):
    if what == "weights":
        step += 1  # weights are checked after every third step
    fast = "--model.optimizer.init_args.lr=0.002"
    with pytest.raises(SystemExit):
        run(*fit(miniature, tmp_path, fast, *fault("Poison", step=step, what=what)))
    (advice,) = re.findall(r"Run again with (.*), a tenth of", message(capsys))
    assert ("--ckpt_path last" in advice) == resumed
    run(*fit(miniature, tmp_path, fast, *advice.split()))
    assert step_of(tmp_path) == 9
    first, now, setting = learning_rates(tmp_path)
    assert first == setting == 0.0002 and now == pytest.approx(1e-4)  # min_lr


@pytest.mark.slow
def test_resume_uses_another_learning_rate_only_from_the_command_line(miniature, tmp_path, capsys):
    run(*fit(miniature, tmp_path, "--trainer.max_steps=3"))
    slower = tmp_path / "slower.yaml"
    slower.write_text("model: {optimizer: {init_args: {lr: 0.00001}}}")
    more = ("--ckpt_path=last", f"--config={slower}")
    run(*fit(miniature, tmp_path, *more, "--trainer.max_steps=6"))
    assert "lr = 0.001 of the checkpoint, instead of 1e-05" in message(capsys)
    assert learning_rates(tmp_path)[0] == 0.001
    run(*fit(miniature, tmp_path, "--ckpt_path=last", "--model.optimizer.lr", "1e-5"))
    assert "lr = 1e-05, instead of 0.001 in the checkpoint" in message(capsys)
    assert learning_rates(tmp_path) == (1e-5, 1e-5, 1e-5)  # constant below min_lr


@pytest.mark.parametrize(("step", "saved"), [pytest.param(6, 3, marks=pytest.mark.slow), (9, 6)])
def test_non_finite_weights_are_not_saved(miniature, tmp_path, capsys, step, saved):
    with pytest.raises(SystemExit):
        run(*fit(miniature, tmp_path / "run", *fault("Poison", step=step, what="weights")))
    line = message(capsys)
    assert f"film_scale.weight is not finite after step {step} and was not saved" in line
    assert step_of(tmp_path / "run") == saved


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_photo_deleted_during_training_is_reported(miniature, tmp_path, capsys, workers):
    root = tmp_path / "data"
    shutil.copytree(miniature / "VGPhraseCut_v0", root / "VGPhraseCut_v0")
    photos = root / "VGPhraseCut_v0" / "images"
    more = ("--trainer.max_steps=40", f"--data.init_args.num_workers={workers}")
    with pytest.raises(SystemExit):
        run(*fit(root, tmp_path / "run", *more, *fault("Remove", step=5, files=photos / "*.jpg")))
    line = message(capsys)
    assert f"clipseg_pl: {photos}" in line and ".jpg" in line
    assert step_of(tmp_path / "run") >= 3


@pytest.mark.slow
def test_full_disk_keeps_the_last_good_checkpoint(miniature, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(*fit(miniature, tmp_path / "run", *fault("FullDisk", step=5, size=1 << 20)))
    line = message(capsys)
    assert "last.ckpt could not be written and is unchanged (File too large)" in line
    assert "free disk space and resume with --ckpt_path last" in line
    assert step_of(tmp_path / "run") == 3
    assert {file.name for file in (tmp_path / "run" / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
    }
    run(*fit(miniature, tmp_path / "run", "--ckpt_path=last"))
    assert step_of(tmp_path / "run") == 9


def test_full_disk_while_writing_metrics_reports_the_run_folder(miniature, tmp_path, capsys):
    more = ("--trainer.log_every_n_steps=1", "--trainer.enable_checkpointing=false")
    with pytest.raises(SystemExit):
        run(*fit(miniature, tmp_path / "run", *more, *fault("FullDisk", step=5, size=100)))
    assert f"{tmp_path / 'run'}: File too large" in message(capsys)


@pytest.mark.exhaustive
@pytest.mark.parametrize("megabytes", [1, 8, 14, 22, 26])
def test_too_small_disk_prints_one_error_line(miniature, tmp_path, megabytes):
    """A checkpoint is 10 MB large: the disk has space for zero, one or two, but not for three."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [sys.executable, "-m", "clipseg_pl", *fit(miniature, disk / "run")]
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)]
    copy = 'cp -r "$1/run/checkpoints" "$1/../copied"'  # the disk disappears with the process
    script = f'"${{@:2:7}}" || exit 99; "${{@:9}}"; status=$?; {copy}; exit $status'
    done = subprocess.run(
        ["unshare", "-Urm", "bash", "-c", script, "bash", str(disk), *mount, *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "clipseg_pl:" in line]
    assert "No space left on device" in line and str(disk) in line
    for file in (tmp_path / "copied").glob("*"):
        assert torch.load(file, weights_only=True)["global_step"] in (3, 6, 9)
    assert len(list((tmp_path / "copied").glob("*.ckpt"))) == min(2, megabytes // 10)


@pytest.mark.exhaustive
@pytest.mark.parametrize("what", ["logits", "weights"])
def test_fault_on_one_rank_stops_both(miniature, tmp_path, what):
    two = ("--trainer.devices=2", "--trainer.strategy=ddp")
    done = attempt(*fit(miniature, tmp_path, *two, *fault("Poison", step=5, what=what)))
    assert done.returncode != 0 and "is not finite" in done.stderr
    assert step_of(tmp_path) == 3
