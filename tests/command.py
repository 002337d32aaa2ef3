"""Run the command line in tests, with the tiny CLIP and the miniature PhraseCut."""

import json
import os
import subprocess
import sys
from pathlib import Path

from clipseg_pl.cli.main import main

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
BASE = EXPERIMENTS / "pc_plus.yaml"


def arguments(
    command: str, root: Path, folder: Path, *more: str, configs: tuple[Path, ...] = ()
) -> list[str]:
    """Return the arguments of a command with base config, overlays and settings for tests."""
    files = [f"--config={file}" for file in (BASE, *configs)]
    return [
        command,
        *files,
        "--model.backbone.init_args.name=tiny",
        "--model.backbone.init_args.pretrained=false",
        f"--data.init_args.root={root}",
        "--data.init_args.image_size=64",
        "--data.init_args.batch_size=4",
        "--data.init_args.num_workers=0",
        "--trainer.accelerator=cpu",
        "--trainer.precision=32-true",
        "--trainer.max_steps=3",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        f"--trainer.default_root_dir={folder}",
        *more,
    ]


def run(*args: str) -> None:
    """Run a command in this process."""
    sys.argv = ["clipseg_pl"]  # lightning warns if sys.argv and args are both set
    main(list(args))


def launch(*args: str, **environment: str) -> None:
    """Run a command in a new process and assert that it succeeds."""
    done = attempt(*args, **environment)
    assert done.returncode == 0, done.stderr[-3000:]


def attempt(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a new process, whatever its exit status.

    Args:
        args: command and options.
        environment: environment variables to set, or to remove if the value is empty.
    """
    fixed = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXPERIMENTS.parent)}
    inherited = {key: value for key, value in os.environ.items() if key not in environment}
    return subprocess.run(
        [sys.executable, "-m", "clipseg_pl", *args],
        env=inherited | fixed | {key: value for key, value in environment.items() if value},
        capture_output=True,
        text=True,
        timeout=300,
    )


def results(folder: Path) -> dict:
    """Return the content of the newest results file of a run."""
    files = sorted((folder / "results").glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    return json.loads(files[-1].read_text())
