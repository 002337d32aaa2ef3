"""The `doctor` command: its checks, exit status and output."""

import errno
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from clipseg_pl.cli.commands import doctor
from clipseg_pl.doctor import machine
from clipseg_pl.doctor.findings import Finding


def states(out):
    """State and first word of the subject of each finding."""
    lines = [line.split() for line in out.splitlines() if line.startswith("  ")]
    return {tuple(words[:2]) for words in lines}


def test_usable_dataset_exits_with_status_0(miniature, capsys):
    doctor.main(["phrasecut", "voc2012", "--root", str(miniature)])
    out = capsys.readouterr().out
    assert "phrasecut: PhraseCut" in out and "voc2012: Pascal VOC 2012" in out
    assert "lvis:" not in out and str(miniature) in out
    assert ("ok", "val.txt") in states(out)


def test_missing_dataset_exits_with_status_1(miniature, tmp_path, capsys):
    shutil.copytree(miniature / "VOC2012", tmp_path / "VOC2012")
    with pytest.raises(SystemExit, match=r"cannot be used: phrasecut$"):
        doctor.main(["voc2012", "phrasecut", "--root", str(tmp_path)])
    assert ("missing", "VGPhraseCut_v0") in states(capsys.readouterr().out)


def test_unusable_checkpoint_exits_with_status_1(trained, tmp_path, capsys):
    whole, none = trained / "checkpoints" / "best.ckpt", tmp_path / "none.ckpt"
    doctor.main(["--checkpoint", str(whole)])
    out = capsys.readouterr().out
    assert f"checkpoint {whole}" in out and "phrasecut" not in out
    with pytest.raises(SystemExit, match=f"cannot be used: {none}"):
        doctor.main(["--checkpoint", str(whole), "--checkpoint", str(none)])


def test_without_names_everything_is_checked_and_nothing_required(
    trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "runs" / "mine")
    doctor.main([])
    out = capsys.readouterr().out
    titles = [f"{name}: {check.title}" for name, check in doctor._CHECKS.items()]
    for title in (*titles, "checkpoint toy", "checkpoint runs/mine/checkpoints/best.ckpt"):
        assert title in out
    assert ("missing", "VGPhraseCut_v0") in states(out) and ("ok", "loading") in states(out)
    assert "total: " in out and "nothing is required" in out
    assert "\x1b" not in out  # no colours in pipes
    assert all(line == line.rstrip() for line in out.splitlines())
    assert {file.name for file in tmp_path.iterdir()} == {"runs"}


def test_unexpected_error_is_a_finding_and_other_checks_run(miniature, tmp_path, capsys):
    for part in ("VOC2012", "LVIS"):
        shutil.copytree(miniature / part, tmp_path / part)
    (tmp_path / "VOC2012/ImageSets/Segmentation/val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit, match=r"cannot be used: voc2012$"):
        doctor.main(["voc2012", "lvis", "--root", str(tmp_path)])
    assert states(capsys.readouterr().out) >= {("wrong", "reading"), ("ok", "train"), ("ok", "val")}


def test_exception_in_a_check_does_not_stop_other_checks(miniature, monkeypatch, capsys):
    def broken(root, every):
        yield Finding("ok", "train", "read")
        raise KeyError("name")

    monkeypatch.setattr("clipseg_pl.doctor.datasets.check_lvis", broken)
    with pytest.raises(SystemExit, match=r"cannot be used: lvis$"):
        doctor.main(["lvis", "voc2012", "--root", str(miniature)])
    out = capsys.readouterr().out
    assert "unexpected content (KeyError: 'name')" in out and ("ok", "val.txt") in states(out)


def test_each_finding_is_one_line_in_a_pipe(tmp_path, capsys):
    with pytest.raises(SystemExit):
        doctor.main(["lvis", "coco_20i", "--root", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:9].strip() for line in lines] == [
        "lvis: LVI",
        "missing",
        "",
        "coco_20i:",
        "missing",
        "",
    ]


def test_unknown_name_exits_with_status_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        doctor.main(["phrasecuts"])
    assert stopped.value.code == 2 and "choose from phrasecut, voc2012" in capsys.readouterr().err


def test_missing_toy_world_shows_the_command_to_create_it(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    with pytest.raises(SystemExit, match=f"python -m clipseg_pl toy --root {tmp_path}"):
        doctor.main(["phrasecut", "--root", "toy"])


# ---- machine checks


def findings_of(check, root):
    return {finding.subject: finding for finding in check(root, False)}


def test_unwritable_cache_names_the_variable_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path / "new" / "cache"))
    assert findings_of(machine.check_cache, tmp_path)["folder"].state == "ok"
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").write_text("a file in the way")
    finding = findings_of(machine.check_cache, tmp_path)["folder"]
    assert finding.state == "wrong" and "set CLIPSEG_CACHE" in finding.message


def test_cache_check_writes_a_file(tmp_path, monkeypatch):
    """Permissions do not show read-only mounts and full disks."""

    def fail(dir):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    finding = findings_of(machine.check_cache, tmp_path)["folder"]
    assert finding.state == "wrong" and "(Read-only file system): set CLIPSEG" in finding.message


def test_outdated_or_missing_library_shows_the_install_command(tmp_path, monkeypatch):
    def version(name):
        if name == "rich":
            raise PackageNotFoundError
        return "2.0" if name == "torch" else "99"

    requirements = ["torch>=2.9", "rich>=13", "numpy>=1.26", 'pytest>=8; extra == "test"']
    monkeypatch.setattr(machine, "requires", lambda name: requirements)
    monkeypatch.setattr(machine, "version", version)
    found = findings_of(machine.check_versions, tmp_path)
    assert found["torch"] == (
        "wrong",
        "torch",
        "version 2.0 is installed: pip install 'torch>=2.9'",
    )
    assert found["rich"] == ("missing", "rich", "not installed: pip install 'rich>=13'")
    assert found["libraries"].message == "compatible with pyproject.toml: numpy 99"


def test_gpu_is_described(tmp_path, monkeypatch):
    cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda number: "Some GPU",
        "mem_get_info": lambda number: (70 << 30, 80 << 30),
        "is_bf16_supported": lambda emulated: True,
    }
    for name, function in cuda.items():
        monkeypatch.setattr(torch.cuda, name, function)
    found = findings_of(machine.check_devices, tmp_path)
    assert (
        "Some GPU, 70 of 80 GiB free; default precision: bf16-mixed for fit"
        in found["GPU 0"].message
    )
    assert "--trainer.accelerator cpu" in found["CPU"].message


def test_machine_checks_are_ok_here(tmp_path):
    for check in (machine.check_devices, machine.check_versions):
        assert {finding.state for finding in findings_of(check, tmp_path).values()} == {"ok"}
