"""Evaluation and training on several processes equal those on one."""

import re

import pytest
import torch

from clipseg_pl.sample import collate, has_support
from datamodules.datasets.prompted import Prompting
from datamodules.phrasecut import PhraseCutDataModule
from datamodules.samplers import TrainingSampler
from tests.command import EXPERIMENTS, arguments, attempt, launch, results, run
from tests.test_experiments import holds_out

TWO, THREE = (("--trainer.strategy=ddp", f"--trainer.devices={count}") for count in (2, 3))
ROUNDING = 1e-12  # float64 sums in a different order
BENCHMARKS = sorted((EXPERIMENTS / "benchmarks").glob("*.yaml"))
OWN = EXPERIMENTS / "data" / "image_folder.yaml"


def validation(overlay, miniature, decoder_file, folder, batch_size):
    """Run `validate` on one process and save its counts as `folder`/one.pt; return the command."""
    more = [f"--data.init_args.batch_size={batch_size}", f"--model.init_decoder={decoder_file}"]
    if overlay and holds_out(overlay):
        more.append("--data.init_args.allow_seen=true")
    configs = (overlay,) if overlay else ()
    command = arguments("validate", miniature, folder, *more, configs=configs)
    run(*command, *callback("States", folder / "one.pt"))
    (size,) = results(folder)["dataset_sizes"].values()
    assert size % batch_size  # the last batch is smaller
    return command


def callback(name, file) -> tuple[str, str]:
    return (
        f"--trainer.callbacks+=tests.counting.{name}",
        f"--trainer.callbacks.init_args.file={file}",
    )


def assert_same_counts(file, other):
    """Integers must be equal, sums of floats equal up to rounding."""
    first, second = (torch.load(path, weights_only=True) for path in (file, other))
    assert first.keys() == second.keys()
    for name, state in first.items():
        if state.is_floating_point():
            torch.testing.assert_close(state, second[name], rtol=ROUNDING, atol=0)
        else:
            assert torch.equal(state, second[name]), name
    assert any(state.any() for state in first.values())


@pytest.mark.slow
def test_validate_counts_are_equal_if_a_process_has_no_batch(miniature, decoder_file, tmp_path):
    # 15 samples in batches of 8 are two batches, so the third process has none
    command = validation(None, miniature, decoder_file, tmp_path, batch_size=8)
    options = (*THREE, *callback("States", tmp_path / "three.pt"))
    built = callback("Builds", tmp_path / "builds")
    launch(*command, *options, *built, CLIPSEG_CACHE=str(tmp_path / "cache"))  # empty cache
    assert_same_counts(tmp_path / "one.pt", tmp_path / "three.pt")
    assert (tmp_path / "builds").read_text() == "built\n"  # one process builds, the others wait
    content = results(tmp_path)
    assert content["processes"] == 3 and content["metrics"]["val/text/prompts"] == 15
    assert content["metrics"]["val/visual/prompts"] > 0


@pytest.mark.parametrize(
    ("processes", "workers"),
    [
        pytest.param(TWO, 2, marks=pytest.mark.exhaustive),
        pytest.param(THREE, 0, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("overlay", [*BENCHMARKS, OWN], ids=lambda file: file.stem)
def test_benchmark_counts_are_equal_on_any_number_of_processes(
    overlay, processes, workers, miniature, decoder_file, tmp_path
):
    size = 3 if "refcoco" in overlay.stem else 11  # RefCOCO has four photos with many sentences
    command = validation(overlay, miniature, decoder_file, tmp_path, batch_size=size)
    metrics = results(tmp_path)["metrics"]
    options = (*processes, f"--data.init_args.num_workers={workers}")
    launch(*command, *options, *callback("States", tmp_path / "more.pt"))
    assert_same_counts(tmp_path / "one.pt", tmp_path / "more.pt")
    assert results(tmp_path)["processes"] > 1
    assert results(tmp_path)["metrics"] == pytest.approx(metrics, abs=1e-9)


@pytest.mark.slow
def test_training_on_two_processes_equals_one(miniature, decoder_file, tmp_path):
    """Uses SGD, because Adam divides by the gradient's magnitude and amplifies rounding."""
    options = (
        "--model.decoder.init_args.dropout=0",  # dropout differs between ranks
        "--model.optimizer=torch.optim.SGD",
        "--model.optimizer.init_args.lr=1",
        f"--model.init_decoder={decoder_file}",
        "--data.init_args.prompting.negative_prob=0.8",
    )
    half = "--data.init_args.batch_size=2"
    run(*arguments("fit", miniature, tmp_path / "one", *options))
    progress = ("--trainer.enable_progress_bar=true", "--trainer.log_every_n_steps=1")
    done = attempt(*arguments("fit", miniature, tmp_path / "two", *options, *TWO, half, *progress))
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.findall(r"step (\d)/3 ", done.stdout) == ["1", "2", "3"]  # first process only
    before = torch.load(decoder_file)
    one, two = (last_checkpoint(tmp_path / folder) for folder in ("one", "two"))
    for name, weight in one["state_dict"].items():
        assert (weight - before[name.removeprefix("model.decoder.")]).abs().max() > 5e-4, name
        torch.testing.assert_close(two["state_dict"][name], weight, rtol=0, atol=1e-6)
    assert (one["threshold"], one["absent_cut"]) == (two["threshold"], two["absent_cut"])
    first, second = (results(tmp_path / folder) for folder in ("one", "two"))
    assert (first["processes"], second["processes"]) == (1, 2)
    # AP amplifies rounding
    assert second["metrics"] == pytest.approx(first["metrics"], abs=1e-5)


def last_checkpoint(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def test_three_training_steps_give_both_processes_all_kinds_of_prompts(miniature):
    prompting = Prompting(negative_prob=0.8)
    data = PhraseCutDataModule(str(miniature), 64, 4, 0, prompting=prompting)
    data.setup("fit")
    keys = [key for batch in TrainingSampler(36, 4, seed=0, steps=3) for key in batch]
    seen = collate([data.datasets["train"][key] for key in keys])
    for kind in (seen["negative"], ~seen["negative"], has_support(seen)):
        assert kind.view(3, 2, 2).any(2).any(0).all()  # step, process, prompt
