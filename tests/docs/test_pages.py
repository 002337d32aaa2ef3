"""Run the commands of the shorter pages."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from clipseg_pl.cli.commands import sweep
from clipseg_pl.cli.resolve import resolve
from datamodules.datasets.refcoco_files import PARTITIONS
from tests.command import arguments, run
from tests.docs.commands import ROOT, commands, run_command
from tests.hub import WRITE


@pytest.mark.slow
def test_export_page_converts_a_model_and_back(pictures, monkeypatch):
    usage, *page = commands(ROOT / "docs" / "export.md")[:-3]
    assert "<model>" in usage
    assert [args[0] for args in page] == ["export", "export", "segment", "export"]
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(pictures / "models"))  # as in the page's command
    for args in page[:3]:  # tests/cli/test_export.py tests the last one and its Python example
        run_command(args, pictures, {})
    (mask,) = (pictures / "masks").glob("*dog.png")
    converted = pictures / "converted.png"
    shutil.move(mask, converted)
    original = [*page[2][: page[2].index("--checkpoint")], "--checkpoint", "toy", "--overwrite"]
    run_command(original, pictures, {})
    assert np.array_equal(Image.open(converted), Image.open(mask))


@pytest.mark.slow
def test_export_page_publishes_a_model(pictures, hub, monkeypatch):
    evaluate, push, segment = commands(ROOT / "docs" / "export.md")[-3:]
    monkeypatch.setenv("HF_TOKEN", WRITE)
    assert push[1].endswith("best.ckpt")
    run_command(["export", "toy", *push[2:]], pictures, {})
    assert evaluate[-1] == push[1] and resolve(evaluate)["model"]
    run_command(segment, pictures, {"segment": ["--overwrite"]})
    assert "model.safetensors" in hub.downloads()


@pytest.mark.slow
def test_train_page_trains_from_python(miniature, tmp_path, monkeypatch):
    (tmp_path / "toy_data").symlink_to(miniature)
    monkeypatch.chdir(tmp_path)
    page, names = (ROOT / "docs" / "train.md").read_text(), {}
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, names)
    trainer, samples = names["trainer"], names["data"].sizes()["train"]
    assert trainer.global_step == -(-3 * samples // 8)
    height = 16 + len(names["batch"]["phrase"]) * (96 + 4)
    assert Image.open("batch.png").size == (3 * (96 + 4), height)
    (load,) = re.findall(r"`(CLIPSegModule.load_from_checkpoint\(.*\))`", page)
    loaded, module = eval(load, names), names["module"]
    trainer.validate(loaded, names["data"], verbose=False)
    best = trainer.checkpoint_callback.best_model_score
    assert loaded.numbers["val/text/miou@best"] == pytest.approx(float(best))
    assert module.numbers["val/text/miou@best"] <= float(best) + 1e-6


@pytest.mark.slow
def test_speed_page_profiles_a_run(miniature, tmp_path, caplog):
    (args,) = commands(ROOT / "docs" / "speed.md")
    with caplog.at_level("INFO"):
        run(*args[:1], *args[3:], *arguments("fit", miniature, tmp_path)[1:])
    assert "run_training_batch" in caplog.text


def test_sweeps_page_lists_the_runs_of_a_sweep(monkeypatch, capsys):
    (args,) = commands(ROOT / "sweeps" / "README.md")
    monkeypatch.chdir(ROOT)
    sweep.main(args[1:])
    assert "--model.decoder.init_args.dim" in capsys.readouterr().out


def test_referring_page_has_valid_commands():
    check, *page = commands(ROOT / "docs" / "referring.md")
    assert check[0] == "doctor" and set(PARTITIONS) <= set(check)
    assert [args[0] for args in page] == ["validate", "validate", "fit"]
    datasets = {resolve(args)["data"]["init_args"]["dataset"] for args in page}
    assert datasets == {"refcoco"}
