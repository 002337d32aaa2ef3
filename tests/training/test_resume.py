"""A run that is stopped and resumed ends in the same state as an uninterrupted run."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.command import arguments, attempt, launch, run

STEPS, EVERY = 12, 4
RUN = (f"--trainer.max_steps={STEPS}", f"--trainer.val_check_interval={EVERY}")


def fit(miniature, folder, *more):
    """Return the arguments of a run that logs its batches and metrics to `<folder>.txt`."""
    seen = ("--trainer.callbacks+=tests.faults.Seen", f"--trainer.callbacks.file={folder}.txt")
    args = [arg for arg in arguments("fit", miniature, folder) if "max_steps" not in arg]
    return [*args, *RUN, *seen, *more]


def signalled(number, step, **more):
    """Return the options that send a signal to the run; see `Signal`."""
    settings = {"number": int(number), "step": step, **more}
    options = [f"--trainer.callbacks.{key}={value}" for key, value in settings.items()]
    return ["--trainer.callbacks+=tests.faults.Signal", *options]


def same_state(first, second) -> bool:
    """Return whether weights, optimizer and schedule of two last checkpoints are bit-identical."""
    one, two = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        for folder in (first, second)
    )
    assert one["global_step"] == two["global_step"]
    moments = [(key, state) for key, state in one["optimizer_states"][0]["state"].items()]
    return (
        one["state_dict"].keys() == two["state_dict"].keys()
        and all(
            torch.equal(one["state_dict"][key], two["state_dict"][key]) for key in one["state_dict"]
        )
        and all(
            torch.equal(value, two["optimizer_states"][0]["state"][key][name])
            for key, state in moments
            for name, value in state.items()
        )
        and one["lr_schedulers"] == two["lr_schedulers"]
        and one["threshold"] == two["threshold"]
    )


def best(folder):
    content = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    return content["global_step"], {
        key: value.sum() for key, value in content["state_dict"].items()
    }


@pytest.fixture(scope="module")
def whole(miniature, tmp_path_factory):
    """Folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    launch(*fit(miniature, folder))
    return folder


def seen(folder) -> list[str]:
    return folder.with_suffix(".txt").read_text().splitlines()


@pytest.mark.slow
def test_run_killed_in_a_step_and_in_a_validation_resumes_to_the_same_state(
    whole, miniature, tmp_path
):
    folder, last = tmp_path / "run", "--ckpt_path=last"
    ends = [
        attempt(*fit(miniature, folder, *signalled(signal.SIGKILL, 6))),
        attempt(
            *fit(miniature, folder, last, *signalled(signal.SIGTERM, 7, group=True)),
            "--data.init_args.num_workers=1",  # the worker receives the signal too
        ),
        attempt(*fit(miniature, folder, last, *signalled(signal.SIGKILL, 8, validating=True))),
        attempt(*fit(miniature, folder, last)),
    ]
    assert [done.returncode for done in ends] == [-9, 143, -9, 0]
    line = ends[1].stderr.splitlines()[-1]
    assert line == "clipseg_pl: stopped by a signal; resume with --ckpt_path last"
    assert same_state(whole, folder) and best(whole) == best(folder)
    # killed in step 6 and resumed from the checkpoint of step 4: step 5 is repeated
    repeated = [line for line in seen(whole) if line.startswith("[5,")]
    assert seen(folder) == [*seen(whole)[:6], *repeated, *seen(whole)[6:]]
    assert not list((folder / "checkpoints").glob(".*.tmp")), "unfinished files are left"


@pytest.mark.slow
def test_validation_waits_for_the_end_of_a_step_of_several_batches(miniature, tmp_path):
    """A validation every 3 batches would be in the middle of every other step of 2 batches."""
    folder = tmp_path / "run"
    more = ("--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=3")
    run(*fit(miniature, tmp_path / "whole", *more))
    first = attempt(*fit(miniature, folder, *more, *signalled(signal.SIGKILL, 4, validating=True)))
    assert first.returncode == -9
    run(*fit(miniature, folder, *more, "--ckpt_path=last"))
    assert same_state(tmp_path / "whole", folder) and seen(folder) == seen(tmp_path / "whole")
    validations = [line for line in seen(folder) if '"val/' in line]
    assert [json.loads(line)[0] for line in validations] == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(False, marks=pytest.mark.slow),
        pytest.param(True, marks=pytest.mark.exhaustive),
    ],
)
def test_slurm_job_is_requeued_and_resumed_by_the_same_command(whole, miniature, tmp_path, array):
    """A fake scontrol logs its arguments.

    The signal arrives in a validation or, before the first step, in the sanity check.
    """
    folder, calls = tmp_path / "run", tmp_path / "calls.txt"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    (tmp_path / "scontrol").chmod(0o755)
    slurm = {
        **{"SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        **{"SLURM_NODEID": "0", "SLURM_JOB_NAME": "fit"},
        **({"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"} if array else {}),
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
    }
    sent = signalled(signal.SIGUSR1, 4 if array else 0, validating=True)
    first = attempt(*fit(miniature, folder, *sent), **slurm)
    assert first.returncode == 143, first.stderr[-3000:]
    assert calls.read_text() == ("requeue 70_3\n" if array else "requeue 77\n")
    assert len(seen(folder)) == (4 if array else 1)
    launch(*fit(miniature, folder), **slurm, SLURM_RESTART_COUNT="1")
    assert same_state(whole, folder) and seen(folder) == seen(whole)
    if array:  # a restarted job whose run is finished exits with status 0
        launch(*fit(miniature, folder), **slurm, SLURM_RESTART_COUNT="2")


def test_run_stopped_by_a_signal_resumes_to_the_same_state(miniature, tmp_path, capsys):
    few = ("--trainer.limit_val_batches=1", "--trainer.max_steps=8")
    run(*fit(miniature, tmp_path / "whole", *few))
    with pytest.raises(SystemExit) as ended:
        run(*fit(miniature, tmp_path / "run", *few, *signalled(signal.SIGTERM, 6)))
    assert ended.value.code == 143
    assert "stopped by a signal; resume with --ckpt_path last" in capsys.readouterr().err
    run(*fit(miniature, tmp_path / "run", *few, "--ckpt_path=last"))
    assert same_state(tmp_path / "whole", tmp_path / "run")
    assert best(tmp_path / "whole") == best(tmp_path / "run")
    assert seen(tmp_path / "run") == seen(tmp_path / "whole")


@pytest.mark.slow
def test_job_that_slurm_does_not_requeue_continues(miniature, tmp_path, monkeypatch, capsys):
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho 'Invalid job id' >&2\nexit 1\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    before = signal.getsignal(signal.SIGUSR1)
    run(*fit(miniature, tmp_path / "run", *signalled(signal.SIGUSR1, 6)))
    assert len(seen(tmp_path / "run")) == STEPS + STEPS // EVERY
    assert "job 5 was not requeued (Invalid job id); training continues" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.exhaustive
def test_run_killed_twenty_times_resumes_to_the_same_state(miniature, tmp_path):
    """Random kill times hit the writing of checkpoints as well as training steps."""
    more = (
        "--trainer.max_steps=1200",
        "--trainer.val_check_interval=10",
        "--model.decoder.init_args.dim=16",
    )
    launch(*fit(miniature, tmp_path / "whole", *more))
    folder, steps = tmp_path / "run", []
    last = folder / "checkpoints" / "last.ckpt"
    for kill in range(20):
        resume = ["--ckpt_path=last"] if kill else []
        command = [sys.executable, "-m", "clipseg_pl", *fit(miniature, folder, *more, *resume)]
        before = last.stat().st_mtime_ns if kill else None
        with subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL) as process:
            while not last.exists() or last.stat().st_mtime_ns == before:
                assert process.poll() is None, "the run ended before it was killed"
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.3))
            assert process.poll() is None, "the run ended before it was killed"
            process.kill()
        steps.append(torch.load(last, weights_only=True)["global_step"])
    assert steps == sorted(steps) and steps[-1] < 1200
    launch(*fit(miniature, folder, *more, "--ckpt_path=last"))
    assert same_state(tmp_path / "whole", folder)


@pytest.mark.exhaustive
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("validating", [False, True])
def test_signal_to_one_rank_stops_both_which_resume_to_the_same_state(
    miniature, tmp_path, rank, validating
):
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", "--data.init_args.batch_size=2")
    launch(*fit(miniature, tmp_path / "whole", *two))
    folder = tmp_path / "run"
    stop = signalled(signal.SIGTERM, 4 if validating else 6, validating=validating, rank=rank)
    done = attempt(*fit(miniature, folder, *two, *stop))
    assert done.returncode != 0 and (validating or done.returncode == 143)
    launch(*fit(miniature, folder, *two, "--ckpt_path=last"))
    assert same_state(tmp_path / "whole", folder)
