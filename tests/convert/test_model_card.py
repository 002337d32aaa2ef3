"""The model card of an exported folder: metadata, metrics and examples."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from clipseg_pl.cli.commands import export, segment
from clipseg_pl.convert.checkpoints import read_checkpoint
from clipseg_pl.convert.to_hugging_face import write_hugging_face
from tests.command import results
from tests.models.tiny_clipseg import tiny_model


def card_of(source: Path | str, out: Path) -> str:
    """Export a model and return its card."""
    export.main([str(source), "--to", "hf", "--out", str(out)])
    return (out / "README.md").read_text()


@pytest.fixture
def run_folder(trained, tmp_path) -> Path:
    """A copy of a run's folder, which tests can change."""
    return shutil.copytree(trained, tmp_path / "copies" / trained.name)


def test_metadata_is_valid_without_a_licence(tmp_path, capsys):
    card = ModelCard(card_of("toy", tmp_path / "toy_hf"))
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "pipeline_tag": "image-segmentation",
        "tags": ["clipseg", "vision", "image-segmentation"],
    }
    assert "## Licence\n\nTo be filled in by the author" in card.text
    for line in (
        "# toy_hf",
        "| tapped layers of CLIP | 1, 3, 4 of 6, counted from 0 |",
        "| threshold | 0.28 |",
        "| absent cut | 0.5773 |",
        "| steps | 1,400 |",
        "- The model has only seen drawn scenes. It does not work on photos.",
    ):
        assert f"\n{line}\n" in card.text
    assert "This model has not been evaluated" in card.text


def test_card_describes_training_and_results_of_the_checkpoint(run_folder, tmp_path):
    card = card_of(run_folder / "checkpoints" / "last.ckpt", tmp_path / "hf")
    metrics = results(run_folder)["metrics"]
    assert results(run_folder)["step"] == 3
    for name in ("miou@0.3", "ap_exact", "threshold@best"):
        text, visual = (metrics[f"val/{kind}/{name}"] for kind in ("text", "visual"))
        assert f"\n| {name} | {text:.4g} | {visual:.4g} |\n" in card
    for line in (
        "| checkpoint | `last.ckpt` of the run `trained` |",
        "| steps | 3 |",
        "| data | PhraseCut (`datamodules.phrasecut.PhraseCutDataModule`) |",
        "| prompts | text and visual prompts, blended with a text weight of 0 to 1 |",
        "| negatives | 20 % of the prompts |",
        "| excluded classes | none |",
        "| CLIP | `tiny` `openai` |",
    ):
        assert f"\n{line}\n" in card
    assert str(tmp_path) not in card and str(tmp_path.parent) not in card


def test_results_of_other_checkpoints_are_left_out(run_folder, tmp_path):
    (fit,) = run_folder.glob("results/fit-*.json")
    content = json.loads(fit.read_text())
    fit.write_text(json.dumps({**content, "step": 2}))

    def evaluate(name: str, checkpoint: str, step: int, miou: float, limit: float = 1.0) -> None:
        metrics, sizes = {"val/text/miou@0.3": miou}, {"test": 5}
        changed = {"checkpoint": checkpoint, "step": step, "metrics": metrics}
        content["config"]["trainer"]["limit_val_batches"] = limit
        file = run_folder / "evaluations" / name / "results" / f"validate-{name}.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({**content, **changed, "dataset_sizes": sizes}))

    evaluate("own", "/elsewhere/trained/checkpoints/last.ckpt", 3, 0.125)  # before a move
    evaluate("best", "/elsewhere/trained/checkpoints/best.ckpt", 3, 0.25)
    evaluate("namesake", "/elsewhere/other/checkpoints/last.ckpt", 3, 0.375)
    evaluate("earlier", "checkpoints/last.ckpt", 1, 0.5)
    evaluate("one_batch", "checkpoints/last.ckpt", 3, 0.625, limit=1)
    card = card_of(run_folder / "checkpoints" / "last.ckpt", tmp_path / "hf")
    assert re.findall(r"^\| (miou.*) \|$", card, re.MULTILINE) == ["miou@0.3 | 0.125"]
    assert "test (5 samples). Results file: `validate-own.json`" in card


def test_checkpoint_outside_of_its_run(run_folder, tmp_path):
    file = tmp_path / "models" / "mine.ckpt"
    file.parent.mkdir()
    shutil.copy(run_folder / "checkpoints" / "last.ckpt", file)
    content = read_checkpoint(file)
    torch.save({**content, "excluded": ["cat", "dog"], "threshold": None}, file)
    card = card_of(file, tmp_path / "hf")
    assert "| checkpoint | `mine.ckpt` |\n| steps | 3 |\n| excluded classes | cat, dog |" in card
    assert "| threshold | not calibrated |" in card and "masks = resized.sigmoid() > 0.3" in card
    assert "This model has not been evaluated" in card


def test_card_of_a_model_from_the_hub_names_its_repository(hub, hub_clipseg, tmp_path):
    hub.add("owner/clipseg", hub_clipseg)
    card = card_of("owner/clipseg", tmp_path / "hf")
    assert "Converted from `owner/clipseg`, which does not store how the model was tr" in card
    assert "| head | refined |" in card and "| tapped layers of CLIP | 0, 1, 3 of 4, cou" in card
    assert "| CLIP |" not in card and "does not work on photos" not in card


def test_examples_of_the_card_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("source").mkdir()
    write_hugging_face(Path("source"), tiny_model(), 80, 0.2)
    card = card_of("source", Path("owner") / "name").replace('"name"', '"owner/name"')
    assert "Converted from `source`, which does not store how the model was trained." in card
    photo = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)
    Image.fromarray(photo).save("photo.jpg")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", card, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["python", "bash", "python", "bibtex"]
    theirs: dict = {}
    exec(blocks[0][1], theirs)
    assert theirs["masks"].shape == (2, 90, 60) and theirs["masks"].dtype == torch.bool
    assert theirs["logits"].shape == (2, 80, 80) and "(2, 80, 80), of the photo" in card
    ours: dict = {}
    exec(blocks[2][1], ours)
    assert ours["masks"].shape == (2, 90, 60) and ours["masks"].dtype == bool
    command = shlex.split(blocks[1][1].replace("--checkpoint name", "--checkpoint owner/name"))
    assert command[:4] == ["python", "-m", "clipseg_pl", "segment"]
    segment.main(command[4:])
    assert list(Path("masks").glob("*.png"))
