"""Running the command line inside a test, on the tiny CLIP and the miniature PhraseCut."""

import json
import os
import subprocess
import sys
from pathlib import Path

from clipseg_pl.cli.main import main

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
BASE = EXPERIMENTS / "pc_plus.yaml"


def arguments(
    verb: str, root: Path, folder: Path, *more: str, configs: tuple[Path, ...] = ()
) -> list[str]:
    """A verb on the base experiment with overlays, brought down to the miniature."""
    files = [f"--config={file}" for file in (BASE, *configs)]
    return [
        verb,
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
    """Run in this process."""
    sys.argv = ["clipseg_pl"]  # lightning warns where both are given
    main(list(args))


def launch(*args: str, **environment: str) -> None:
    """Run in a process of its own, which lightning starts again for further ranks."""
    done = attempt(*args, **environment)
    assert done.returncode == 0, done.stderr[-3000:]


def attempt(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same, however it ends."""
    places = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXPERIMENTS.parent)}
    kept = {key: value for key, value in os.environ.items() if key not in environment}
    return subprocess.run(
        [sys.executable, "-m", "clipseg_pl", *args],
        env=kept | places | {key: value for key, value in environment.items() if value},
        capture_output=True,
        text=True,
        timeout=300,
    )


def results(folder: Path) -> dict:
    """The newest results file of a run."""
    files = sorted((folder / "results").glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    return json.loads(files[-1].read_text())
