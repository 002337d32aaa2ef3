"""The page on own data, command by command, on few scenes and steps."""

import csv
import json

import pytest
from PIL import Image

from tests.docs.commands import ROOT, commands, run_command

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "own_data.md"
QUICK = ["--trainer.max_steps=2", "--trainer.limit_val_batches=2", "--data.init_args.num_workers=0"]
SHRUNK = {"toy": ["--scenes=20"], "fit": QUICK, "validate": QUICK, "predict": QUICK}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all commands of the page were run, one after the other."""
    folder = tmp_path_factory.mktemp("page")
    for args in commands(PAGE):
        run_command(args, folder, SHRUNK)
    return folder


def test_the_page_trains_measures_and_segments(folder):
    assert [args[0] for args in commands(PAGE)] == [
        *("toy", "validate", "fit", "fit", "validate", "segment", "predict")
    ]
    fitted = json.loads(next((folder / "runs/own/results").glob("fit-*.json")).read_text())
    assert fitted["step"] == 2 and fitted["metrics"]["val/text/miou@best"] > 0
    assert fitted["dataset_sizes"]["val"] > 0
    masks = {file.name: Image.open(file).size for file in (folder / "toy_masks").iterdir()}
    assert len(masks) == 3 and masks.pop("0001_overlay.png")
    assert set(masks.values()) == {(160, 120)}
    predicted = list((folder / "runs/own_masks/predictions").rglob("*.png"))
    assert len(predicted) == fitted["dataset_sizes"]["val"]


def test_the_lines_shown_are_those_of_the_tables(folder):
    page, own = PAGE.read_text().splitlines(), folder / "toy_data" / "own"
    for name in ("phrases.csv", "classes.jsonl"):
        table = (own / name).read_text().splitlines()
        shown = [line.strip() for line in page if line.strip() in table and "images/" in line]
        assert len(shown) == 2
    with (own / "phrases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    asked = next(args for args in commands(PAGE) if args[0] == "segment")
    prompts = {asked[place + 1] for place, arg in enumerate(asked) if arg == "--prompt"}
    photo = {row["phrase"] for row in rows if asked[1].endswith(row["image"])}
    assert prompts <= photo
