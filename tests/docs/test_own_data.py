"""Run the commands of docs/own_data.md, with few scenes and steps."""

import csv
import json
import re

import pytest
from PIL import Image

from tests.docs.commands import ROOT, commands, run_command

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "own_data.md"
ALL = commands(PAGE)
QUICK = ["--trainer.max_steps=2", "--trainer.limit_val_batches=2", "--data.init_args.num_workers=0"]
EXTRA_OPTIONS = {"toy": ["--scenes=20"], "fit": QUICK, "validate": QUICK, "predict": QUICK}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Working directory after all commands of the page."""
    folder = tmp_path_factory.mktemp("page")
    (overlay,) = re.findall(r"```yaml\n(data:.*?)```", PAGE.read_text(), re.DOTALL)
    (folder / "own.yaml").write_text(overlay)
    for args in ALL:
        run_command(args, folder, EXTRA_OPTIONS)
    return folder


def test_commands_train_evaluate_and_segment(folder):
    assert [args[0] for args in ALL] == [
        *("toy", "doctor", "validate", "fit", "fit", "validate", "segment", "predict")
    ]
    assert Image.open(folder / "runs/own_contact_sheet.jpg").width > 1000
    training = json.loads(next((folder / "runs/own/results").glob("fit-*.json")).read_text())
    assert training["step"] == 2 and training["metrics"]["val/text/miou@best"] > 0
    assert training["dataset_sizes"]["val"] > 0
    sizes = {file.name: Image.open(file).size for file in (folder / "toy_masks").iterdir()}
    assert len(sizes) == 3 and sizes.pop("0001_overlay.png")
    assert set(sizes.values()) == {(160, 120)}
    predicted = list((folder / "runs/own_masks/predictions").rglob("*.png"))
    assert len(predicted) == training["dataset_sizes"]["val"]


def test_quoted_table_rows_are_in_the_tables(folder):
    page, own = PAGE.read_text().splitlines(), folder / "toy_data" / "own"
    for name in ("phrases.csv", "classes.jsonl"):
        table = (own / name).read_text().splitlines()
        quoted = [line.strip() for line in page if line.strip() in table and "images/" in line]
        assert len(quoted) == 2
    with (own / "phrases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    segment = next(args for args in commands(PAGE) if args[0] == "segment")
    prompts = {segment[index + 1] for index, arg in enumerate(segment) if arg == "--prompt"}
    phrases = {row["phrase"] for row in rows if segment[1].endswith(row["image"])}
    assert prompts <= phrases
