"""Example pictures show the prompts with the best, median and worst IoU."""

import statistics
import sys

import pytest
import torch
from lightning import Trainer
from PIL import Image

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.protocols.own_data import OwnDataProtocol
from clipseg_pl.training.callbacks.examples import Examples, Score, choose
from clipseg_pl.training.callbacks.results import peak_memory, read_history
from clipseg_pl.training.module import CLIPSegModule
from datamodules.image_folder import ImageFolderDataModule
from tests.command import EXPERIMENTS, arguments, launch, results, run

OWN = EXPERIMENTS / "data" / "image_folder.yaml"
PROTOCOL = (
    "--model.protocol=clipseg_pl.protocols.own_data.OwnDataProtocol",
    "--model.protocol.init_args.prompt_types=[text]",
)


def chosen(count):
    """Return the ranks and the places of the chosen among prompts from the best to the worst."""
    scores = [Score(1 - place / 100, place, 0) for place in range(count)]
    ranks = {}
    for rank, score in choose(scores[::-1]):
        ranks.setdefault(rank, []).append(score.sample)
    return ranks


def test_three_best_two_median_and_three_worst_prompts_are_chosen():
    assert chosen(20) == {"best": [0, 1, 2], "median": [9, 10], "worst": [17, 18, 19]}
    assert chosen(21) == {"best": [0, 1, 2], "median": [10, 11], "worst": [18, 19, 20]}


@pytest.mark.parametrize(
    ("count", "ranks"),
    [
        (8, {"best": [0, 1, 2], "median": [3, 4], "worst": [5, 6, 7]}),
        (7, {"best": [0, 1, 2], "median": [3], "worst": [4, 5, 6]}),
        (4, {"best": [0, 1, 2], "worst": [3]}),
        (2, {"best": [0, 1]}),
    ],
)
def test_no_prompt_is_chosen_twice(count, ranks):
    assert chosen(count) == ranks


def test_equal_prompts_are_chosen_by_their_place():
    scores = [Score(0.5, sample, prompt) for sample in range(9) for prompt in (1, 0)]
    assert [score[1:] for _, score in choose(scores)[:3]] == [(0, 0), (0, 1), (1, 0)]


@pytest.mark.slow
def test_pictures_of_an_evaluation_show_its_prompts(decoder_file, miniature, tmp_path):
    batches = "--trainer.limit_val_batches=2"  # 8 present prompts, all of which are chosen
    weights = f"--model.init_decoder={decoder_file}"
    run(*arguments("validate", miniature, tmp_path, weights, batches, *PROTOCOL, configs=(OWN,)))
    found = results(tmp_path)
    examples = found["examples"]
    assert [example["rank"] for example in examples] == ["best"] * 3 + ["median"] * 2 + [
        "worst"
    ] * 3
    iou = [example["iou"] for example in examples]
    assert iou == sorted(iou, reverse=True)
    assert found["metrics"]["val/text/absent_prompts"] > 0  # these are not chosen
    assert statistics.fmean(iou) == pytest.approx(found["metrics"]["val/text/miou@0.3"], abs=1e-9)
    (folder,) = (tmp_path / "examples").iterdir()
    (file,) = (tmp_path / "results").iterdir()
    assert folder.name == file.stem
    assert all((miniature / "own" / example["photo"]).is_file() for example in examples)
    for example in examples:
        width, height = Image.open(tmp_path / example["file"]).size
        assert height == 256 and width > 3 * height  # photo, target and prediction
    assert found["seconds_per_sample"] > 0 and found["peak_memory_bytes"]["process"] > 2**27


@pytest.mark.slow
def test_second_evaluation_in_python_replaces_the_entries(miniature, tmp_path):
    module = CLIPSegModule(CLIPBackbone("tiny", pretrained=False), protocol=OwnDataProtocol())
    data = ImageFolderDataModule(str(miniature), image_size=64, batch_size=4, num_workers=0)
    examples = Examples(tmp_path, "twice")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[examples],
        limit_val_batches=2,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
        **quiet,
    )
    seen = []
    for _ in range(2):
        trainer.validate(module, data, verbose=False)
        seen.append(examples.entries)
    assert seen[0] == seen[1] and len(seen[1]) == 8


@pytest.mark.slow
def test_examples_are_equal_on_two_processes(decoder_file, miniature, tmp_path):
    options = (f"--model.init_decoder={decoder_file}", *PROTOCOL)
    one, two = tmp_path / "one", tmp_path / "two"
    run(*arguments("validate", miniature, one, *options, configs=(OWN,)))
    ranks = ("--trainer.strategy=ddp", "--trainer.devices=2")
    launch(*arguments("validate", miniature, two, *options, *ranks, configs=(OWN,)))
    assert results(two)["examples"] == results(one)["examples"]


def test_results_of_a_training_contain_its_history(trained):
    found = results(trained)
    assert [step for step, _ in found["history"]["train/loss"]] == [1, 2, 3]
    steps, values = zip(*found["history"]["val/text/miou@best"], strict=True)
    assert steps == (1, 2, 3) and values[-1] == pytest.approx(
        found["metrics"]["val/text/miou@best"]
    )
    assert "seconds_per_sample" not in found and "examples" not in found
    assert found["ended"] == "last step"
    assert found["threshold"] == found["metrics"]["val/text/threshold@best"]


def test_results_of_a_training_count_parameters(trained):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    counted = results(trained)["parameters"]
    assert counted["trained"] == sum(weight.numel() for weight in content["state_dict"].values())
    assert counted["total"] > counted["trained"]


def test_memory_is_unknown_without_the_resource_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_memory(torch.device("cpu")) == {}


def test_history_continues_after_a_training_was_resumed(tmp_path):
    (tmp_path / "metrics_before_1.csv").write_text(
        "epoch,step,train/loss,val/miou\n0,9,0.5,\n0,9,,0.25\n0,19,0.375,\n"
    )
    (tmp_path / "metrics_before_2.csv").write_text("epoch,step,train/loss\n0,19,0.25\n")
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss\n0,29,0.125\n")
    assert read_history(tmp_path) == {
        "train/loss": [(10, 0.5), (20, 0.25), (30, 0.125)],  # step 20 was repeated
        "val/miou": [(10, 0.25)],
    }


def test_history_leaves_out_steps_that_were_taken_back(tmp_path):
    (tmp_path / "metrics_before_1.csv").write_text(
        "epoch,step,train/loss,val/miou\n0,9,0.5,\n0,19,0.4,\n0,29,0.3,\n0,29,,0.75\n"
    )
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss\n0,14,0.45\n0,24,0.35\n")
    wanted = {"train/loss": [(10, 0.5), (15, 0.45), (25, 0.35)]}  # resumed from step 12
    assert read_history(tmp_path) == wanted
