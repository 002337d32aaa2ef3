"""Run the commands of docs/fine_tune.md on drawn walls, and parse those for photos."""

import re

import pytest

from clipseg_pl.cli.resolve import resolve
from clipseg_pl.weights.places import PUBLISHED
from tests.docs.commands import ROOT, commands, run_command

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "fine_tune.md"
ALL = commands(PAGE)
DRAWN = [args[0] for args in ALL].index("toy")
QUICK = ["--trainer.max_steps=12", "--data.init_args.num_workers=0"]


def test_commands_for_drawn_walls_end_with_a_report_and_a_data_set(tmp_path):
    for args in ALL[DRAWN:]:
        run_command(args, tmp_path, {"toy": ["--scenes=20"], "fit": QUICK})
    page = (tmp_path / "runs" / "toy_walls" / "report.html").read_text()
    assert "black crack" in page and "white joint" in page
    assert (tmp_path / "toy_walls_masks" / "annotations.coco.json").is_file()


def test_commands_for_photos_start_from_the_published_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    overlay = re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "own.yaml").write_text(overlay[1])
    configured = [args for args in ALL[:DRAWN] if "own.yaml" in args and args[0] != "doctor"]
    assert [args[0] for args in configured] == ["test", "fit"]
    for args in configured:
        config = resolve(args)
        assert config["model"]["init_decoder"] == PUBLISHED
        assert config["data"]["init_args"]["train"]["table"] == ["cracks", "taping"]
