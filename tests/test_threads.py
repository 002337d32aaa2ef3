"""Choice of torch's threads."""

import os
import sys
from math import inf
from types import SimpleNamespace

import pytest

from clipseg_pl import __main__, threads
from clipseg_pl.threads import choose, cpu_quota

TWO, SPINS = {"OMP_NUM_THREADS": "2"}, {"GOMP_SPINCOUNT": "1000"}
COUNT = "torch uses 2 of 64 cores because of a CPU quota"


@pytest.mark.parametrize(
    ("environment", "cores", "quota", "chosen"),
    [
        ({}, 1, inf, {}),
        ({}, 2, inf, SPINS),
        ({}, 8, 8.0, SPINS),
        ({}, 64, 2.5, TWO | SPINS),
        ({}, 64, 0.5, {"OMP_NUM_THREADS": "1"}),
        ({"OMP_NUM_THREADS": "1"}, 64, 2.0, {}),
        ({"MKL_NUM_THREADS": "1"}, 64, 2.0, {}),
        ({"OMP_NUM_THREADS": "16"}, 64, 2.0, SPINS),
        ({"OMP_NUM_THREADS": ""}, 64, 2.0, TWO | SPINS),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, 64, inf, {}),
        ({"GOMP_SPINCOUNT": "5"}, 64, 2.0, TWO),
    ],
)
def test_choice_keeps_what_the_user_has_set(environment, cores, quota, chosen):
    assert choose(environment, cores, quota) == chosen
    assert choose(environment | chosen, cores, quota) == {}  # in a process started by this one


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, inf),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/docker/7f\n", {"cpu.max": "400000 100000\n"}, 4),  # the container sees its group as /
        ("0::/a/b\n", {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "300000 50000\n"}, 2),
        ("0::/a\n", {"b/cpu.max": "100000 100000\n"}, inf),
        (
            "3:cpuset:/\n2:cpu,cpuacct:/job\n0::/\n",
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/job/cpu.cfs_quota_us": "350000\n",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            },
            3.5,
        ),
        (None, {}, inf),  # not on Linux
    ],
)
def test_quota_is_the_smallest_of_the_control_groups(tmp_path, groups, files, quota):
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert cpu_quota(tmp_path) == quota


@pytest.fixture
def start(monkeypatch, capsys):
    """Start a command on 64 cores of which a quota allows 2; return what it sets and prints."""
    nothing = SimpleNamespace(main=lambda *args: None)
    monkeypatch.setattr(__main__, "import_module", lambda name: nothing)
    monkeypatch.setattr(threads, "available_cores", lambda: 64)
    monkeypatch.setattr(threads, "cpu_quota", lambda: 2.0)

    def run(*args, **environment):
        before = dict(environment)
        monkeypatch.setattr(os, "environ", environment)
        monkeypatch.setattr(sys, "argv", ["clipseg_pl", *args])
        __main__.main()
        return dict(environment.items() - before.items()), capsys.readouterr().err

    return run


def test_commands_set_the_threads_and_print_it_once(start):
    chosen, line = start("fit")
    assert chosen == TWO | SPINS
    assert line.startswith(f"clipseg_pl: {COUNT}, and ") and line.count("\n") == 1
    assert line.endswith("; set OMP_NUM_THREADS and GOMP_SPINCOUNT to override\n")
    assert start("fit", **chosen) == ({}, "")  # a process started by the first
    assert start("fit", RANK="1") == (chosen, "")
    assert start("segment", "photo.jpg") == (chosen, line)


def test_other_systems_keep_the_defaults_of_torch(start, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert start("fit") == ({}, "")


def test_spin_count_alone_is_printed_by_lightning_commands_only(start):
    changed, line = start("fit", OMP_NUM_THREADS="4")
    assert changed == SPINS and "cores" not in line
    assert line.endswith(" 1,000 spins, not 300,000; set GOMP_SPINCOUNT to override\n")
    assert start("segment", "photo.jpg", OMP_NUM_THREADS="4") == (SPINS, "")


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("fit", "--help"),
        ("segment", "-h"),
        ("fit", "--data.help=PhraseCutDataModule"),
        ("sweep", "file.yaml"),
        ("toy",),
    ],
)
def test_help_and_commands_without_a_model_change_nothing(start, args):
    assert start(*args) == ({}, "")
