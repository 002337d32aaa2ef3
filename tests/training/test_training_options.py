"""Options of lightning's trainer that people combine with a training."""

import csv
import signal

import pytest
import torch

from clipseg_pl.cli.resolve import resolve
from clipseg_pl.runs.run import Run
from tests.command import EXPERIMENTS, arguments, results, run
from tests.training.test_resume import signalled


def options(callback, **settings):
    given = [f"--trainer.callbacks.{key}={value}" for key, value in settings.items()]
    return [f"--trainer.callbacks+={callback}", *given]


def last(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.slow
def test_epochs_on_the_command_line_end_the_run_and_its_schedule(miniature, tmp_path, caplog):
    folder = tmp_path / "run"
    base = [arg for arg in arguments("fit", miniature, folder) if "max_steps" not in arg]
    more = ("--trainer.max_epochs=1", "--trainer.accumulate_grad_batches=3")
    with caplog.at_level("INFO"):
        run(*base, *more)
    line = "1 epoch of 36 samples: 3 steps of 12 samples"
    assert [record.message for record in caplog.records].count(line) == 1
    assert results(folder)["step"] == last(folder)["global_step"] == 3
    assert last(folder)["lr_schedulers"][0]["_last_lr"] == pytest.approx([1e-4])
    with pytest.raises(SystemExit):
        run(*base, *more, "--ckpt_path=last")
    run(*base, *more, "--ckpt_path=last", "--trainer.max_epochs=2")
    assert results(folder)["step"] == 6


@pytest.mark.slow
def test_early_stopping_leaves_a_complete_run(miniature, tmp_path):
    """No change is large enough to count as an improvement over the first validation."""
    folder = tmp_path / "run"
    settings = {"monitor": "val/text/miou@best", "mode": "max", "patience": 2, "min_delta": 9}
    more = ("--trainer.max_steps=20", "--trainer.val_check_interval=0.1")
    command = arguments("fit", miniature, folder, *more, *options("EarlyStopping", **settings))
    run(*command)
    content, written = last(folder), results(folder)
    assert content["global_step"] == written["step"] == 6  # validations at 2, 4 and 6
    assert written["metrics"]["val/text/threshold@best"] == pytest.approx(content["threshold"])
    assert written["ended"] == "early stopping"
    assert Run(command, folder, written["config"]).is_finished()
    longer = {"trainer": {**written["config"]["trainer"], "max_steps": 30}}
    assert not Run(command, folder, longer).is_finished()


@pytest.mark.slow
def test_restarted_job_of_a_run_that_stopped_early_ends_at_once(miniature, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    settings = {"monitor": "val/text/miou@best", "mode": "max", "patience": 1, "min_delta": 9}
    more = ("--trainer.max_steps=20", "--trainer.val_check_interval=0.1")
    command = arguments("fit", miniature, folder, *more, *options("EarlyStopping", **settings))
    run(*command)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(SystemExit) as ended:
        run(*command)
    assert not ended.value.code and results(folder)["step"] == 4


def by_epochs(miniature, folder, epochs, *more):
    """Return the arguments of a run of some epochs, with nine steps each."""
    steps = "--trainer.max_steps=-1"
    return arguments("fit", miniature, folder, steps, f"--trainer.max_epochs={epochs}", *more)


def is_finished(command, folder):
    return Run(command, folder, resolve(command)).is_finished()


@pytest.mark.slow
def test_interrupted_run_of_epochs_is_not_finished(miniature, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    command = by_epochs(miniature, folder, 1)
    with pytest.raises(SystemExit):
        run(*command, *signalled(signal.SIGTERM, 4))
    assert last(folder)["global_step"] == 4 and not is_finished(command, folder)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    run(*command)  # the restarted job continues
    assert results(folder)["step"] == 9 and results(folder)["ended"] == "last step"
    assert is_finished(command, folder)
    assert not is_finished(by_epochs(miniature, folder, 2), folder)
    with pytest.raises(SystemExit) as ended:
        run(*command)  # nothing is left to do
    assert not ended.value.code


@pytest.mark.slow
def test_run_that_is_stopped_by_its_time_is_not_finished(miniature, tmp_path):
    folder = tmp_path / "run"
    more = ("--trainer.max_steps=100000", "--trainer.max_time=00:00:00:02")
    command = arguments("fit", miniature, folder, *more, "--trainer.limit_val_batches=0")
    run(*command)
    assert results(folder)["ended"] is None and not is_finished(command, folder)


@pytest.mark.slow
def test_learning_rate_is_logged(miniature, tmp_path):
    # 3 steps: the warm-up is limited to half of the run, which is one step
    more = ("--trainer.log_every_n_steps=1", "--model.warmup_steps=500")
    run(*arguments("fit", miniature, tmp_path / "run", *more, *options("LearningRateMonitor")))
    rows = csv.DictReader((tmp_path / "run" / "metrics.csv").open())
    rates = [float(row["lr-AdamW"]) for row in rows if row["lr-AdamW"]]
    assert rates == pytest.approx([5e-4, 1e-3, 5.5e-4])


@pytest.mark.slow
def test_tensorboard_has_the_metrics_and_panels(miniature, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder, overlay = tmp_path / "run", EXPERIMENTS / "loggers" / "tensorboard.yaml"
    quick = ("--trainer.log_every_n_steps=1",)
    run(*arguments("fit", miniature, folder, *quick, configs=(overlay,)))
    content = events.EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.step for event in content.Scalars("train/loss")] == [0, 1, 2]
    logged = content.Scalars("val/text/miou@best")[-1].value
    assert logged == pytest.approx(results(folder)["metrics"]["val/text/miou@best"])
    assert {"panels/text", "panels/visual"} <= set(content.Tags()["images"])


@pytest.mark.slow
@pytest.mark.parametrize("batches", ["true", "2"])
def test_fast_dev_run_takes_few_steps_and_leaves_the_folder_free(miniature, tmp_path, batches):
    folder = tmp_path / "run"
    callbacks = (
        *options("EarlyStopping", monitor="val/text/miou@best", mode="max"),
        *options("WeightEMA"),
        *options("LearningRateMonitor"),
    )
    more = (f"--trainer.fast_dev_run={batches}", "--model.warmup_steps=500", *callbacks)
    run(*arguments("fit", miniature, folder, *more, "--trainer.max_epochs=3"))
    assert not [file for file in folder.rglob("*") if file.suffix in (".ckpt", ".json", ".csv")]
    run(*arguments("fit", miniature, folder))
