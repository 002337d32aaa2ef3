"""The commands and the config overlay of docs/label_maps.md."""

import re

import numpy as np
from PIL import Image

from clipseg_pl.cli.commands import doctor
from clipseg_pl.cli.resolve import resolve
from datamodules.datasets.label_maps import published_labels
from datamodules.label_maps import LabelMapsDataModule
from tests.command import EXPERIMENTS
from tests.docs.commands import ROOT, commands

PAGE = ROOT / "docs" / "label_maps.md"


def test_own_label_maps_of_the_page_are_read(tmp_path, monkeypatch, capsys):
    check, first, toy, own_check, fit, validate = commands(PAGE)
    assert check[1:] == ["experiments/benchmarks/ade20k_150.yaml", "--root", "data"]
    page = PAGE.read_text()
    (overlay,) = re.findall(r"```yaml\n(data:.*?)```", page, re.DOTALL)
    (tmp_path / "flood.yaml").write_text(overlay)
    files = re.findall(r"data/flood/\S+", page)
    for file in files:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = np.array([[0, 1, 2], [7, 255, 2]], np.uint8)
        Image.fromarray(labels if path.suffix == ".png" else labels[..., None].repeat(3, 2)).save(
            path
        )
    assert len(files) == 4
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    monkeypatch.chdir(tmp_path)
    doctor.main(own_check[1:])
    assert "val                         1 photos; 4 of 4 classes" in capsys.readouterr().out
    config = resolve(fit)
    arguments = {k: v for k, v in config["data"]["init_args"].items() if k != "prompting"}
    data = LabelMapsDataModule(**arguments)
    data.setup("fit")
    assert data.classes.names == ("background", "flood water", "road", "building")
    assert resolve([*validate[: validate.index("--ckpt_path")]])["model"]["protocol"]
    assert first[0] == toy[0] == "validate" and resolve(toy)["data"]["init_args"]["root"] == "toy"


def test_table_of_benchmarks_has_the_published_numbers():
    rows = re.findall(r"\| `(\w+)\.yaml` \|.*\| ([\d,]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == {
        file.stem
        for file in (EXPERIMENTS / "benchmarks").glob("*.yaml")
        if "LabelMaps" in file.read_text()
    }
    photos = {key.split("_")[0]: labels.photos for key, labels in published_labels().items()}
    assert all(int(count.replace(",", "")) == photos[name.split("_")[0]] for name, count in rows)
