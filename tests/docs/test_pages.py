"""Commands of the shorter pages, as they stand there."""

import shutil

import numpy as np
import pytest
from PIL import Image

from clipseg_pl.cli.commands import sweep
from tests.command import arguments, run
from tests.docs.commands import ROOT, commands, run_command


@pytest.mark.slow
def test_models_go_to_other_programs_and_back(pictures, monkeypatch):
    usage, *page = commands(ROOT / "docs" / "export.md")
    assert "<model>" in usage
    assert [args[0] for args in page] == ["export", "export", "segment", "export"]
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(pictures / "models"))  # as the line of segment says
    for args in page[:3]:  # the last is run by tests/cli/test_export.py, with the lines behind it
        run_command(args, pictures, {})
    (mask,) = (pictures / "masks").glob("*dog.png")
    kept = pictures / "kept.png"
    shutil.move(mask, kept)
    again = [*page[2][: page[2].index("--checkpoint")], "--checkpoint", "toy", "--overwrite"]
    run_command(again, pictures, {})
    assert np.array_equal(Image.open(kept), Image.open(mask))  # the same model after all


@pytest.mark.slow
def test_a_run_can_be_profiled(miniature, tmp_path, caplog):
    (args,) = commands(ROOT / "docs" / "speed.md")
    with caplog.at_level("INFO"):
        run(*args[:1], *args[3:], *arguments("fit", miniature, tmp_path)[1:])
    assert "run_training_batch" in caplog.text


def test_a_sweep_can_be_looked_at(monkeypatch, capsys):
    (args,) = commands(ROOT / "sweeps" / "README.md")
    monkeypatch.chdir(ROOT)
    sweep.main(args[1:])
    assert "--model.decoder.init_args.dim" in capsys.readouterr().out
