"""Results file of a training or evaluation: metrics, config, versions and data sizes."""

import csv
import hashlib
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from rich.console import Console
from rich.table import Table

import clipseg_pl
from clipseg_pl.atomic import write_json
from clipseg_pl.metrics.functional import threshold_in_use
from clipseg_pl.sample import Batch
from clipseg_pl.training.callbacks.examples import Examples
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
        examples: callback that saves example pictures; it must come before this one.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        config: dict[str, Any],
        identity: str,
        examples: Examples | None = None,
    ) -> None:
        """Start the clock."""
        self.folder, self.name, self.config, self.identity = folder, name, config, identity
        self.examples = examples
        self.started = time.monotonic()
        self._evaluation_started, self._evaluation_seconds, self._samples = 0.0, 0.0, 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - lightning's signature
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the samples and the seconds after the first batch, for which workers start."""
        now = time.monotonic()
        if batch_idx == 0:
            self._evaluation_started, self._samples = now, 0
        else:
            self._evaluation_seconds = now - self._evaluation_started
            self._samples += len(batch["query_image"])

    on_test_batch_end = on_validation_batch_end

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
        numbers, seen = pl_module.numbers, pl_module.seen_photos
        command = str(trainer.state.fn.value if trainer.state.fn else "run")
        # another evaluation may have used the name since this one started
        name = unique_name(self.folder, command, self.name, self.identity)
        file = results_file(self.folder, command, name)
        data = getattr(trainer, "datamodule")  # noqa: B009 - not in Trainer's types
        content = {
            "metrics": numbers,
            "report": pl_module.report,
            "seen_photos": seen.content() if seen else None,
            "identity": self.identity,
            "config_hash": config_hash(self.config),
            "config": self.config,
            "checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
            "step": pl_module.steps_trained,
            "threshold": threshold_in_use(None, pl_module.threshold)[0],
            "finished": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "dataset_sizes": data.sizes(),
            "dataset_skipped": data.skipped,
            "photos_left_out": data.photos_left_out,
            "processes": trainer.world_size,
            "seconds": round(time.monotonic() - self.started, 1),
            "data": data.summary(),
            "parameters": _count_parameters(pl_module),
            "peak_memory_bytes": peak_memory(pl_module.device),
            **provenance(),
        }
        if command == "fit":
            for logger in trainer.loggers:
                logger.save()  # lightning saves its metrics after this hook
            content["history"] = read_history(self.folder)
            content["ended"] = how_ended(trainer)
        elif self._samples:
            # of this process, from loading a batch to updating the metrics
            content["seconds_per_sample"] = self._evaluation_seconds / self._samples
        if self.examples:
            content["examples"] = self.examples.entries
        write_json(file, content)
        if numbers:
            _print_table(numbers | _beside(seen.numbers if seen else {}))
        if seen:
            Console().print(str(seen), soft_wrap=True)
        Console().print(f"results: {file}", soft_wrap=True)


def read_history(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the metrics logged during a training, including the parts before it was resumed.

    Args:
        folder: folder of the run, which contains metrics.csv and, for each earlier part,
            metrics_before_<number>.csv.

    Returns:
        Name of the metric -> (steps taken, value), in the order of the steps. A later part
        replaces what an earlier part logged from its first step on.
    """
    earlier = len(list(folder.glob("metrics_before_*.csv")))
    names = [f"metrics_before_{number + 1}.csv" for number in range(earlier)] + ["metrics.csv"]
    files = [file for name in names if (file := folder / name).is_file()]
    found: dict[str, dict[int, float]] = {}
    for file in files:
        with file.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        steps = [int(row.pop("step")) + 1 for row in rows]  # lightning counts from 0
        first = min(steps, default=math.inf)
        found = {
            name: {step: value for step, value in points.items() if step < first}
            for name, points in found.items()
        }
        for step, row in zip(steps, rows, strict=True):
            row.pop("epoch", None)
            for name, value in row.items():
                if value:
                    found.setdefault(name, {})[step] = float(value)
    return {name: sorted(values.items()) for name, values in found.items() if values}


def how_ended(trainer: Trainer) -> str | None:
    """Return "last step" or "early stopping"; None if a training was ended by something else."""
    if trainer.global_step >= trainer.max_steps > 0:
        return "last step"
    stopping = (each for each in trainer.callbacks if isinstance(each, EarlyStopping))  # type: ignore[attr-defined]
    stopped = any(each.stopping_reason != EarlyStoppingReason.NOT_STOPPED for each in stopping)
    return "early stopping" if stopped else None


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return the highest memory use of this process in bytes.

    Returns:
        "gpu": memory of tensors on the GPU, if the device is one; otherwise "process": resident
        main memory of this process, without its data workers. Empty on Windows without a GPU.
    """
    if device.type == "cuda":
        return {"gpu": torch.cuda.max_memory_allocated(device)}
    try:
        import resource
    except ImportError:  # on Windows
        return {}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def _count_parameters(module: LightningModule) -> dict[str, int]:
    def count(parameters: Iterable[torch.nn.Parameter]) -> int:
        return sum(parameter.numel() for parameter in parameters)

    return {
        "trained": count(p for p in module.parameters() if p.requires_grad),
        "total": count(module.parameters()),
    }


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


def _beside(numbers: dict[str, float]) -> dict[str, float]:
    """Rename the metrics without seen photos, so that the table shows them in their own columns."""
    parts = {name: name.rpartition("/") for name in numbers}
    return {f"{parts[k][0]}, not trained on/{parts[k][2]}": v for k, v in numbers.items()}


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
