"""Two processes do what one does."""

import pytest
import torch

from tests.command import arguments, launch, results, run

TWO = ("--trainer.devices=2", "--trainer.strategy=ddp")
EQUAL = ("--model.decoder.init_args.dropout=0",)  # ranks draw different dropout


def saved(folder) -> tuple[float, float]:
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return content["threshold"], content["absent_cut"]


def test_fit_on_two_processes_learns_what_one_learns(miniature, tmp_path):
    run(*arguments("fit", miniature, tmp_path / "one", *EQUAL))
    half = "--data.init_args.batch_size=2"
    launch(*arguments("fit", miniature, tmp_path / "two", *EQUAL, *TWO, half))
    one, two = results(tmp_path / "one"), results(tmp_path / "two")
    assert two["processes"] == 2 and one["processes"] == 1
    assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-5)
    assert saved(tmp_path / "two") == pytest.approx(saved(tmp_path / "one"), abs=1e-5)


def test_validate_counts_every_prompt_once_on_any_number_of_processes(
    miniature, decoder_file, tmp_path
):
    # 15 samples in batches of 8: two batches, so that the third process has none
    more = ("--data.init_args.batch_size=8", f"--model.init_decoder={decoder_file}")
    run(*arguments("validate", miniature, tmp_path / "one", *more))
    three = (*TWO, "--trainer.devices=3", *more)
    launch(*arguments("validate", miniature, tmp_path / "three", *three))
    one, three = results(tmp_path / "one"), results(tmp_path / "three")
    assert one["metrics"]["val/text/prompts"] == three["metrics"]["val/text/prompts"] == 15
    assert "val/visual/presence_accuracy@best" in one["metrics"]
    assert three["metrics"] == pytest.approx(one["metrics"], abs=1e-6)
