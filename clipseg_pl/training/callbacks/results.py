"""One JSON file for each evaluation, with everything needed to trust its numbers."""

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
"""keys that say where a run lies, nothing of what it is"""
_PACKAGES = ("clipseg_pl", "torch", "lightning", "torchmetrics", "open_clip_torch", "numpy")


class Results(Callback):
    """Writes `<folder>/results/<verb>-<name>.json` and prints its numbers as a table.

    Args:
        folder: of the run.
        name: of the experiment.
        config: resolved, as plain values.
        identity: see `identify`.
    """

    def __init__(self, folder: Path, name: str, config: dict[str, Any], identity: str) -> None:
        """Start the clock."""
        self.folder, self.name, self.config, self.identity = folder, name, config, identity
        self.started = time.monotonic()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the last validation of a training."""
        self._report(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report `validate`; the validations inside `fit` go to the loggers."""
        if trainer.state.fn == "validate":
            self._report(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report `test`."""
        self._report(trainer, pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave with the masks what they were made with, and how many they are."""
        self._report(trainer, pl_module)

    def _report(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, CLIPSegModule)
        numbers = pl_module.numbers
        verb = str(trainer.state.fn.value if trainer.state.fn else "run")
        # another evaluation may have taken the name since this one started
        name = own_name(self.folder, verb, self.name, self.identity)
        file = results_file(self.folder, verb, name)
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
    """Hash of a resolved config without the places where things lie."""

    def meaning(value: object) -> object:
        if isinstance(value, dict):
            return {k: meaning(v) for k, v in value.items() if k not in PLACES}
        return value

    return hashlib.sha256(json.dumps(meaning(config), sort_keys=True).encode()).hexdigest()[:16]


def identify(config: dict[str, Any], weights: Path | None, data: Path) -> str:
    """Tell evaluations apart.

    Args:
        config: resolved, as plain values.
        weights: a file or folder; its content counts.
        data: root of the datasets; its location counts.

    Returns:
        16 hexadecimal digits.
    """
    parts = [config_hash(config), content_hash(weights) if weights else None, str(data.resolve())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def results_file(folder: Path, verb: str, name: str) -> Path:
    """Where the numbers of an evaluation lie in the folder of a run."""
    return folder / "results" / f"{verb}-{name}.json"


def own_name(folder: Path, verb: str, name: str, identity: str) -> str:
    """The name, with the start of the identity if the name has results of another evaluation."""
    file = results_file(folder, verb, name)
    taken = file.exists() and json.loads(file.read_text()).get("identity") != identity
    return f"{name}-{identity[:8]}" if taken else name


def provenance() -> dict[str, Any]:
    """Versions, machine, and the commit of the package's own folder (null outside a checkout)."""
    folder = Path(clipseg_pl.__file__).parent

    def git(*args: str) -> str | None:
        command = ["git", "-C", str(folder), *args]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # a package installed below somebody else's checkout is not tracked there
    tracked = git("ls-files", "--error-unmatch", "__init__.py") is not None
    changes = git("status", "--porcelain", "--", ".", "../datamodules") if tracked else None
    return {
        "commit": git("rev-parse", "HEAD") if tracked else None,
        "dirty": None if changes is None else bool(changes),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def _print_table(numbers: dict[str, float]) -> None:
    """One row a metric, one column a reading."""
    rows: dict[str, dict[str, float]] = {}
    readings: dict[str, None] = {}
    for key, value in numbers.items():
        reading, _, metric = key.rpartition("/")
        readings[reading] = None
        rows.setdefault(metric, {})[reading] = value
    table = Table("metric", *readings)
    for metric, values in rows.items():
        cells = (values.get(reading) for reading in readings)
        table.add_row(metric, *("" if value is None else f"{value:.4g}" for value in cells))
    Console().print(table)
