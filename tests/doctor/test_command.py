"""The command: what it looks at, its exit status, what it prints."""

import errno
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from clipseg_pl.cli.commands import doctor
from clipseg_pl.doctor import machine
from clipseg_pl.doctor.findings import Finding


def states(out):
    """State and thing of each line below a title."""
    lines = [line.split() for line in out.splitlines() if line.startswith("  ")]
    return {tuple(words[:2]) for words in lines}


def test_what_is_named_and_usable_is_status_0(miniature, capsys):
    doctor.main(["phrasecut", "voc2012", "--root", str(miniature)])
    out = capsys.readouterr().out
    assert "phrasecut: PhraseCut" in out and "voc2012: Pascal VOC 2012" in out
    assert "lvis:" not in out and str(miniature) in out
    assert ("ok", "val.txt") in states(out)


def test_what_is_named_and_missing_is_status_1(miniature, tmp_path, capsys):
    shutil.copytree(miniature / "VOC2012", tmp_path / "VOC2012")
    with pytest.raises(SystemExit, match=r"cannot be used: phrasecut$"):
        doctor.main(["voc2012", "phrasecut", "--root", str(tmp_path)])
    assert ("missing", "VGPhraseCut_v0") in states(capsys.readouterr().out)


def test_checkpoints_asked_for_must_be_usable(trained, tmp_path, capsys):
    whole, none = trained / "checkpoints" / "best.ckpt", tmp_path / "none.ckpt"
    doctor.main(["--checkpoint", str(whole)])
    out = capsys.readouterr().out
    assert f"checkpoint {whole}" in out and "phrasecut" not in out
    with pytest.raises(SystemExit, match=f"cannot be used: {none}"):
        doctor.main(["--checkpoint", str(whole), "--checkpoint", str(none)])


def test_without_names_everything_is_looked_at_and_nothing_required(
    trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "runs" / "mine")
    doctor.main([])
    out = capsys.readouterr().out
    for title in (*doctor._PLACES, "checkpoint toy", "checkpoint runs/mine/checkpoints/best.ckpt"):
        assert f"{title}" in out
    assert ("missing", "VGPhraseCut_v0") in states(out) and ("ok", "loading") in states(out)
    assert "in all: " in out and "nothing is required" in out
    assert "\x1b" not in out  # no colours where it is piped
    assert all(line == line.rstrip() for line in out.splitlines())
    assert {file.name for file in tmp_path.iterdir()} == {"runs"}


def test_an_unforeseen_error_is_a_line_and_the_rest_is_looked_at(miniature, tmp_path, capsys):
    for part in ("VOC2012", "LVIS"):
        shutil.copytree(miniature / part, tmp_path / part)
    (tmp_path / "VOC2012/ImageSets/Segmentation/val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit, match=r"cannot be used: voc2012$"):
        doctor.main(["voc2012", "lvis", "--root", str(tmp_path)])
    assert states(capsys.readouterr().out) >= {("wrong", "reading"), ("ok", "train"), ("ok", "val")}


def test_an_error_of_any_kind_leaves_the_other_sections(miniature, monkeypatch, capsys):
    def broken(root, every):
        yield Finding("ok", "train", "read")
        raise KeyError("name")

    monkeypatch.setattr("clipseg_pl.doctor.datasets.check_lvis", broken)
    with pytest.raises(SystemExit, match=r"cannot be used: lvis$"):
        doctor.main(["lvis", "voc2012", "--root", str(miniature)])
    out = capsys.readouterr().out
    assert "cannot be understood (KeyError: 'name')" in out and ("ok", "val.txt") in states(out)


def test_one_thing_is_one_line_in_a_pipe(tmp_path, capsys):
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


def test_unknown_names_are_status_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        doctor.main(["phrasecuts"])
    assert stopped.value.code == 2 and "there are phrasecut, voc2012" in capsys.readouterr().err


def test_a_toy_world_that_is_not_drawn_yet_says_how(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    with pytest.raises(SystemExit, match=f"python -m clipseg_pl toy --root {tmp_path}"):
        doctor.main(["phrasecut", "--root", "toy"])


@pytest.mark.slow
def test_help_needs_no_heavy_import():
    code = (
        "import sys; sys.argv[1:] = ['doctor', '--help']\n"
        "from clipseg_pl.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'lightning', 'rich', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: python -m clipseg_pl doctor" in done.stdout


# ---- the machine


def look(check, root):
    return {finding.thing: finding for finding in check(root, False)}


def test_a_cache_that_cannot_be_written_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path / "new" / "cache"))
    assert look(machine.check_cache, tmp_path)["folder"].state == "ok"
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").write_text("a file in the way")
    finding = look(machine.check_cache, tmp_path)["folder"]
    assert finding.state == "wrong" and "set CLIPSEG_CACHE" in finding.says


def test_a_cache_is_tried_not_asked_about(tmp_path, monkeypatch):
    """Read-only mounts and full disks have permissions that say yes."""

    def refuse(dir):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    finding = look(machine.check_cache, tmp_path)["folder"]
    assert finding.state == "wrong" and "(Read-only file system): set CLIPSEG" in finding.says


def test_a_library_too_old_or_absent_says_what_to_install(tmp_path, monkeypatch):
    def version(name):
        if name == "rich":
            raise PackageNotFoundError
        return "2.0" if name == "torch" else "99"

    needed = ["torch>=2.9", "rich>=13", "numpy>=1.26", 'pytest>=8; extra == "test"']
    monkeypatch.setattr(machine, "requires", lambda name: needed)
    monkeypatch.setattr(machine, "version", version)
    found = look(machine.check_versions, tmp_path)
    assert found["torch"] == ("wrong", "torch", "2.0 is installed: pip install 'torch>=2.9'")
    assert found["rich"] == ("missing", "rich", "pip install 'rich>=13'")
    assert found["libraries"].says == "1 fit pyproject.toml: numpy 99"


def test_a_gpu_is_described(tmp_path, monkeypatch):
    cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda number: "Some GPU",
        "mem_get_info": lambda number: (70 << 30, 80 << 30),
        "is_bf16_supported": lambda emulated: True,
    }
    for name, answer in cuda.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    found = look(machine.check_devices, tmp_path)
    assert "Some GPU, 70 of 80 GiB free; fit takes bf16-mixed" in found["GPU 0"].says
    assert "--trainer.accelerator cpu" in found["CPU"].says


def test_this_machine_can_run(tmp_path):
    for check in (machine.check_devices, machine.check_versions):
        assert {finding.state for finding in look(check, tmp_path).values()} == {"ok"}
