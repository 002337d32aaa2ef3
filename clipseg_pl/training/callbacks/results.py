"""Results file of a training or evaluation: metrics, config, versions and data sizes."""

import hashlib
import json
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

import clipseg_pl
from clipseg_pl.atomic import write_json
from clipseg_pl.training.module import CLIPSegModule
from clipseg_pl.weights.files import content_hash

PLACES = ("default_root_dir", "root", "num_workers", "ckpt_path", "config")
"""config keys of paths and of the number of data workers, which the config hash leaves out"""
_PACKAGES = ("clipseg_pl", "torch", "lightning", "torchmetrics", "open_clip_torch", "numpy")


class Results(Callback):
    """Writes `<folder>/results/<command>-<name>.json` and prints the metrics as a table.

    Args:
        folder: folder of the run.
        name: name of the experiment.
        config: resolved config as plain values.
        identity: see `identify`.
    """

    def __init__(self, folder: Path, name: str, config: dict[str, Any], identity: str) -> None:
        """Start the clock."""
        self.folder, self.name, self.config, self.identity = folder, name, config, identity
        self.started = time.monotonic()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the metrics of the last validation of a training."""
        self._report(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the metrics of `validate`. Validations during `fit` go to the loggers."""
        if trainer.state.fn == "validate":
            self._report(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the metrics of `test`."""
        self._report(trainer, pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the number of masks, with the config and checkpoint they were made with."""
        self._report(trainer, pl_module)

    def _report(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, CLIPSegModule)
        numbers = pl_module.numbers
        command = str(trainer.state.fn.value if trainer.state.fn else "run")
        # another evaluation may have used the name since this one started
        name = unique_name(self.folder, command, self.name, self.identity)
        file = results_file(self.folder, command, name)
        data = getattr(trainer, "datamodule")  # noqa: B009 - not in Trainer's types
        content = {
            "metrics": numbers,
            "report": pl_module.report,
            "identity": self.identity,
            "config_hash": config_hash(self.config),
            "config": self.config,
            "checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
            "step": pl_module.steps_trained,
            "dataset_sizes": data.sizes(),
            "dataset_skipped": data.skipped,
            "processes": trainer.world_size,
            "seconds": round(time.monotonic() - self.started, 1),
            **provenance(),
        }
        write_json(file, content)
        if numbers:
            _print_table(numbers)
        Console().print(f"results: {file}", soft_wrap=True)


def config_hash(config: dict[str, Any]) -> str:
    """Hash a resolved config without the keys in `PLACES`, to 16 hexadecimal digits."""

    def without_places(value: object) -> object:
        if isinstance(value, dict):
            return {k: without_places(v) for k, v in value.items() if k not in PLACES}
        return value

    content = json.dumps(without_places(config), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def identify(config: dict[str, Any], weights: Path | None, data: Path) -> str:
    """Return the identity of an evaluation, a hash of 16 hexadecimal digits.

    Args:
        config: resolved config as plain values.
        weights: file or folder of weights, identified by its content.
        data: root of the datasets, identified by its location.
    """
    parts = [config_hash(config), content_hash(weights) if weights else None, str(data.resolve())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def results_file(folder: Path, command: str, name: str) -> Path:
    """Return the path of a results file in the folder of a run."""
    return folder / "results" / f"{command}-{name}.json"


def unique_name(folder: Path, command: str, name: str, identity: str) -> str:
    """Return the name, or name and start of the identity if another evaluation used the name."""
    file = results_file(folder, command, name)
    taken = file.exists() and json.loads(file.read_text()).get("identity") != identity
    return f"{name}-{identity[:8]}" if taken else name


def provenance() -> dict[str, Any]:
    """Return versions, device and commit. The commit is None outside a git checkout."""
    folder = Path(clipseg_pl.__file__).parent

    def git(*args: str) -> str | None:
        command = ["git", "-C", str(folder), *args]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # git may find another repository, for example if the package is installed in a .venv inside
    # it; the commit of that repository is not ours
    tracked = git("ls-files", "--error-unmatch", "__init__.py") is not None
    changes = git("status", "--porcelain", "--", ".", "../datamodules") if tracked else None
    return {
        "commit": git("rev-parse", "HEAD") if tracked else None,
        "dirty": None if changes is None else bool(changes),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def _print_table(numbers: dict[str, float]) -> None:
    """Print a table with one row per metric and one column per prompt type."""
    rows: dict[str, dict[str, float]] = {}
    prompt_types: dict[str, None] = {}
    for key, value in numbers.items():
        prompt_type, _, metric = key.rpartition("/")
        prompt_types[prompt_type] = None
        rows.setdefault(metric, {})[prompt_type] = value
    table = Table("metric", *prompt_types)
    for metric, values in rows.items():
        cells = (values.get(prompt_type) for prompt_type in prompt_types)
        table.add_row(metric, *("" if value is None else f"{value:.4g}" for value in cells))
    Console().print(table)
