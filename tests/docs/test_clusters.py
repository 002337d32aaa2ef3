"""The page on clusters: its lines are read, and run with one process a machine."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import arguments, results, run
from tests.docs.commands import ROOT, commands, run_command

PAGE = ROOT / "docs" / "clusters.md"
ROUNDING = 1e-5
"""of metrics, whose weights differ by rounding of sums of gradients; the paper's AP enlarges it"""
SRUN = """#!/bin/sh
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_NODEID=$rank SLURM_LOCALID=0 "$@" $TEST_OPTIONS &
  first=${first:-$!}
done
wait $first && wait $!
"""


def torchrun() -> list[str]:
    text = re.sub(r"\\\n\s*", "", PAGE.read_text())
    (line,) = re.findall(r"^    torchrun .*", text, re.MULTILINE)
    return shlex.split(line)


def batch_file() -> str:
    (text,) = re.findall(r"```bash\n(#!.*?)```", PAGE.read_text(), re.DOTALL)
    return text


def value(args: list[str], option: str) -> str:
    return args[args.index(option) + 1]


def test_what_the_page_runs_is_understood(tmp_path):
    cluster = torchrun()
    for args in (*commands(PAGE), cluster[cluster.index("-m") + 2 :]):
        with pytest.raises(SystemExit) as stopped:
            run_command([*args, "--print_config"], tmp_path, {})
        assert args[0] == "fit" and not stopped.value.code


def test_machines_and_processes_are_counted_alike():
    cluster, (_, slurm) = torchrun(), commands(PAGE)
    asked = dict(re.findall(r"#SBATCH --([\w-]+) (\S+)", batch_file()))
    assert value(cluster, "--nnodes") == value(cluster, "--trainer.num_nodes")
    assert value(cluster, "--nproc-per-node") == value(cluster, "--trainer.devices")
    assert asked["nodes"] == value(slurm, "--trainer.num_nodes")
    assert asked["ntasks-per-node"] == asked["gpus-per-node"] == value(slurm, "--trainer.devices")
    for args in (cluster, slurm):
        processes = int(value(args, "--trainer.num_nodes")) * int(value(args, "--trainer.devices"))
        assert processes * int(value(args, "--data.init_args.batch_size")) == 64  # the paper's


@pytest.fixture(scope="module")
def options(miniature, decoder_file):
    """What makes a run small, and the same on any number of processes."""
    return [
        *arguments("fit", miniature, "")[2:-1],  # the page names verb, config and folder
        "--trainer.devices=1",
        "--data.init_args.batch_size=2",
        "--data.init_args.num_workers=0",
        "--model.decoder.init_args.dropout=0",
        "--model.optimizer=torch.optim.SGD",
        f"--model.init_decoder={decoder_file}",
    ]


@pytest.fixture(scope="module")
def alone(miniature, options, tmp_path_factory):
    """The numbers of one process with the batches of two."""
    folder = tmp_path_factory.mktemp("alone")
    run(*arguments("fit", miniature, folder, *options, "--data.init_args.batch_size=4"))
    return results(folder)["metrics"]


def environment(tmp_path, **more):
    binaries = (
        f"{tmp_path}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    places = {"PATH": binaries, "PYTHONPATH": str(ROOT), "CLIPSEG_CACHE": str(tmp_path / "cache")}
    return os.environ | places | {"OMP_NUM_THREADS": "1"} | more


@pytest.mark.slow
def test_two_machines_of_torchrun_learn_what_one_process_learns(options, alone, tmp_path):
    line = [re.sub("^node1:", "127.0.0.1:", word) for word in torchrun()]
    line[line.index("--nproc-per-node") + 1] = "1"
    builds = (
        "--trainer.callbacks+=tests.counting.Builds",
        f"--trainer.callbacks.init_args.file={tmp_path / 'builds'}",
    )
    line += [*options, *builds, f"--trainer.default_root_dir={tmp_path / 'run'}"]
    machines = [
        subprocess.Popen(line, cwd=ROOT, env=environment(tmp_path), stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        said = [machine.communicate(timeout=300)[1] for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.returncode for machine in machines] == [0, 0], said
    content = results(tmp_path / "run")
    assert content["processes"] == 2 and content["metrics"] == pytest.approx(alone, abs=ROUNDING)
    # each machine looks for the index, and one of the two builds it, for training and validation
    assert (tmp_path / "builds").read_text() == "built\n" * 2


@pytest.mark.exhaustive
def test_two_machines_of_slurm_learn_what_one_process_learns(options, alone, tmp_path):
    (tmp_path / "train.sh").write_text(batch_file())
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    job = {
        "SLURM_JOB_ID": str(os.getpid()),  # lightning makes the port of it
        "SLURM_JOB_NAME": "clipseg",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NNODES": "2",
        "SLURM_NODELIST": "127.0.0.1",
        "TEST_OPTIONS": shlex.join([*options, f"--trainer.default_root_dir={tmp_path / 'run'}"]),
    }
    done = subprocess.run(
        ["bash", tmp_path / "train.sh"],
        cwd=ROOT,
        env=environment(tmp_path, **job),
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    content = results(tmp_path / "run")
    assert content["processes"] == 2 and content["metrics"] == pytest.approx(alone, abs=ROUNDING)
