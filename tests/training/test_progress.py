"""Progress lines of runs without a terminal."""

import re
from types import SimpleNamespace

import pytest

from clipseg_pl.training.callbacks import progress
from clipseg_pl.training.callbacks.progress import ProgressLines
from tests.command import arguments, run

LINE = r"step (\d+)/(\d+)  loss \d\.\d{3}  [\d.]+ steps/s  \d+ s left"


@pytest.mark.slow
def test_run_without_terminal_prints_a_line_per_logging_step(miniature, tmp_path, capsys):
    more = ("--trainer.enable_progress_bar=true", "--trainer.log_every_n_steps=2")
    run(*arguments("fit", miniature, tmp_path, *more, "--trainer.max_steps=5"))
    lines = capsys.readouterr().out.splitlines()
    assert [re.fullmatch(LINE, line).groups() for line in lines if line.startswith("step ")] == [
        ("2", "5"),
        ("4", "5"),
    ]
    assert not any("training" in line for line in lines)  # label of the progress bar
    more = (
        *more,
        "--ckpt_path=last",
        "--trainer.max_steps=8",
        "--trainer.accumulate_grad_batches=2",
    )
    run(*arguments("fit", miniature, tmp_path, *more))
    lines = capsys.readouterr().out.splitlines()
    assert [re.fullmatch(LINE, line)[1] for line in lines if line.startswith("step ")] == ["6", "8"]


@pytest.mark.slow
def test_disabled_progress_bar_prints_no_lines(miniature, tmp_path, capsys):
    run(*arguments("fit", miniature, tmp_path, "--trainer.log_every_n_steps=1"))
    assert "steps/s" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "line"),
    [
        (10, "step 150/1250  loss 0.123  5.0 steps/s  4 min left"),
        (500, "step 150/1250  loss 0.123  0.1 steps/s  3 h 3 min left"),
    ],
)
def test_resumed_run_measures_its_own_speed(monkeypatch, capsys, seconds, line):
    """The run is resumed at step 100."""
    clock = iter([1000.0, 1000.0 + seconds])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    trainer = SimpleNamespace(
        **{"global_step": 100, "max_steps": 1250, "log_every_n_steps": 50, "is_global_zero": True},
        accumulate_grad_batches=1,
        callback_metrics={"train/loss": 0.1234},
    )
    lines = ProgressLines()
    lines.on_train_start(trainer, None)
    trainer.global_step = 150
    lines.on_train_batch_end(trainer, None, None, None, 149)
    trainer.is_global_zero = False
    lines.setup(trainer, None, "fit")  # like on the other processes
    lines.on_train_batch_end(trainer, None, None, None, 149)
    assert capsys.readouterr().out == f"{line}\n"
