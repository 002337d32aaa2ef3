"""Parse the commands of docs/clusters.md, and run them with one process per machine."""

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
"""Tolerance of metrics. Sums of gradients differ by rounding, which the paper's AP amplifies."""
SRUN = """#!/bin/sh
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_NODEID=$rank SLURM_LOCALID=0 "$@" $TEST_OPTIONS &
  first=${first:-$!}
done
wait $first && wait $!
"""


def torchrun() -> list[str]:
    """Return the torchrun command of the page."""
    text = re.sub(r"\\\n\s*", "", PAGE.read_text())
    (line,) = re.findall(r"^torchrun .*", text, re.MULTILINE)
    return shlex.split(line)


def batch_script() -> str:
    """Return the SLURM batch script of the page."""
    (text,) = re.findall(r"```bash\n(#!.*?)```", PAGE.read_text(), re.DOTALL)
    return text


def value(args: list[str], option: str) -> str:
    """Return the value of a command line option."""
    return args[args.index(option) + 1]


def test_commands_are_valid(tmp_path):
    torchrun_command = torchrun()
    launched = torchrun_command[torchrun_command.index("-m") + 2 :]
    for args in (*commands(PAGE), launched):
        with pytest.raises(SystemExit) as exit_info:
            run_command([*args, "--print_config"], tmp_path, {})
        assert args[0] == "fit" and not exit_info.value.code


def test_numbers_of_machines_and_processes_agree():
    torchrun_command, (_, slurm_command) = torchrun(), commands(PAGE)
    sbatch = dict(re.findall(r"#SBATCH --([\w-]+) (\S+)", batch_script()))
    nodes, devices = "--trainer.num_nodes", "--trainer.devices"
    assert value(torchrun_command, "--nnodes") == value(torchrun_command, nodes)
    assert value(torchrun_command, "--nproc-per-node") == value(torchrun_command, devices)
    assert sbatch["nodes"] == value(slurm_command, nodes)
    assert sbatch["ntasks-per-node"] == sbatch["gpus-per-node"] == value(slurm_command, devices)
    for args in (torchrun_command, slurm_command):
        processes = int(value(args, nodes)) * int(value(args, devices))
        assert processes * int(value(args, "--data.init_args.batch_size")) == 64  # as in the paper


@pytest.fixture(scope="module")
def options(miniature, decoder_file):
    """Options of a small run with the same results on any number of processes."""
    return [
        *arguments("fit", miniature, "")[2:-1],  # without command, config and run folder
        "--trainer.devices=1",
        "--data.init_args.batch_size=2",
        "--data.init_args.num_workers=0",
        "--model.decoder.init_args.dropout=0",
        "--model.optimizer=torch.optim.SGD",
        f"--model.init_decoder={decoder_file}",
    ]


@pytest.fixture(scope="module")
def single_process(miniature, options, tmp_path_factory):
    """Metrics of a single process with twice the batch size."""
    folder = tmp_path_factory.mktemp("single")
    run(*arguments("fit", miniature, folder, *options, "--data.init_args.batch_size=4"))
    return results(folder)["metrics"]


def environment(tmp_path, **more):
    """Return environment variables with a private cache and `tmp_path` first in PATH."""
    binaries = [str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]]
    paths = {
        "PATH": os.pathsep.join(binaries),
        "PYTHONPATH": str(ROOT),
        "CLIPSEG_CACHE": str(tmp_path / "cache"),
    }
    return os.environ | paths | {"OMP_NUM_THREADS": "1"} | more


@pytest.mark.slow
def test_torchrun_on_two_machines_equals_one_process(options, single_process, tmp_path):
    command = [re.sub("^node1:", "127.0.0.1:", word) for word in torchrun()]
    command[command.index("--nproc-per-node") + 1] = "1"
    builds = (
        "--trainer.callbacks+=tests.counting.Builds",
        f"--trainer.callbacks.init_args.file={tmp_path / 'builds'}",
    )
    command += [*options, *builds, f"--trainer.default_root_dir={tmp_path / 'run'}"]
    machines = [
        subprocess.Popen(command, cwd=ROOT, env=environment(tmp_path), stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        errors = [machine.communicate(timeout=300)[1] for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.returncode for machine in machines] == [0, 0], errors
    content = results(tmp_path / "run")
    assert content["processes"] == 2
    assert content["metrics"] == pytest.approx(single_process, abs=ROUNDING)
    # one machine builds each index, for training and for validation; the other one waits
    assert (tmp_path / "builds").read_text() == "built\n" * 2


@pytest.mark.exhaustive
def test_slurm_on_two_machines_equals_one_process(options, single_process, tmp_path):
    (tmp_path / "train.sh").write_text(batch_script())
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    job = {
        "SLURM_JOB_ID": str(os.getpid()),  # Lightning derives the port from it
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
    assert content["processes"] == 2
    assert content["metrics"] == pytest.approx(single_process, abs=ROUNDING)
