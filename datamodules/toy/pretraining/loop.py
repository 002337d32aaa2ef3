"""Pre-training loop on newly drawn scenes: budget, optimisers, averaged weights and files."""

import argparse
import json
import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

MOST_STEPS = 10**7
_RESUMABLE = ("out", "workers", "every", "steps", "minutes")  # may change when a run is resumed

CLIP_ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {
        "layers": 6,
        "width": 96,
        "head_width": 32,
        "patch_size": 8,
        "image_size": 64,
    },
    "text_cfg": {"context_length": 24, "width": 96, "heads": 3, "layers": 3},
    "quick_gelu": False,
}
VIT_ARCHITECTURE: dict[str, Any] = {  # the toy CLIP's image encoder
    "img_size": 64,
    "patch_size": 8,
    "embed_dim": 96,
    "depth": 6,
    "num_heads": 3,
}


@dataclass(frozen=True)
class Settings:
    """Settings of a pre-training run.

    Attributes:
        out: Folder for checkpoint.pt, log.jsonl and export/.
        minutes: Time budget in minutes, with the time before a resume; used if `steps` is 0.
        steps: Step budget, which makes runs exactly repeatable; if 0, `minutes` is the budget.
        batch_size: Images per step.
        learning_rate: Peak learning rate.
        warmup: Share of the budget over which the learning rate rises.
        weight_decay: Weight decay of the matrices in the transformer blocks.
        ema_decay: Decay of the moving average of the weights; the average is exported.
        seed: Seed of weights and images.
        workers: Number of data workers, which draw the scenes.
        every: Steps between evaluations, checkpoints and exports.
        singles: Number of held-out images with one thing.
    """

    out: Path
    minutes: float = 80.0
    steps: int = 0
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup: float = 0.03
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    seed: int = 0
    workers: int = 1
    every: int = 100
    singles: int = 512

    def __post_init__(self) -> None:
        """Validate the budget, the batch size and the interval `every`.

        Raises:
            ValueError: If the budget, the batch size or the interval is not positive.
        """
        if self.steps < 0 or not (self.steps or self.minutes > 0):
            raise ValueError(
                f"minutes or steps must be positive, got {self.minutes} and {self.steps}"
            )
        if self.batch_size < 1 or self.every < 1:
            raise ValueError(
                f"batch_size and every must be at least 1, got {self.batch_size} and {self.every}"
            )


@dataclass(frozen=True)
class CLIPSettings(Settings):
    """Settings of a run of `pretraining.clip`.

    Attributes:
        scenes: Number of held-out images with several things.
        architecture: open_clip model config without the vocabulary size.
    """

    scenes: int = 256
    architecture: dict[str, Any] = field(default_factory=lambda: CLIP_ARCHITECTURE)


@dataclass(frozen=True)
class ViTSettings(Settings):
    """Settings of a run of `pretraining.vit`.

    Attributes:
        architecture: Arguments of timm's VisionTransformer without the number of classes.
    """

    minutes: float = 40.0
    architecture: dict[str, Any] = field(default_factory=lambda: VIT_ARCHITECTURE)


Model = TypeVar("Model", bound=nn.Module)
RunSettings = TypeVar("RunSettings", bound=Settings)


def _optimisers(model: nn.Module, weight_decay: float) -> tuple[torch.optim.Optimizer, ...]:
    """Return Muon for the matrices in the blocks and AdamW for all other weights.

    Muon's updates are scaled to the size of AdamW's, so that both use the same learning rate.
    """
    named = dict(model.named_parameters())
    chosen = {name for name, value in named.items() if "blocks" in name and value.ndim == 2}
    matrices = [named[name] for name in named if name in chosen]
    others = [named[name] for name in named if name not in chosen]
    return (
        torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0),
    )


class Pretraining(ABC, Generic[Model, RunSettings]):
    """State of a run: model, averaged model, optimisers, steps and seconds so far.

    Args:
        settings: Architecture, data and budget.
        resume: Continue from the checkpoint in `settings.out`.

    Raises:
        FileNotFoundError: If `resume` is set and there is no checkpoint.
        FileExistsError: If there is a checkpoint and `resume` is not set.
        ValueError: If the checkpoint was made with other settings.
    """

    def __init__(self, settings: RunSettings, resume: bool = False) -> None:
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(settings.seed)
        self.model = self.build().to(self.device)
        self.average = self.build().to(self.device).requires_grad_(False).eval()
        self.average.load_state_dict(self.model.state_dict())
        self.optimisers = _optimisers(self.model, settings.weight_decay)
        self.step, self.seconds = 0, 0.0
        checkpoint = settings.out / "checkpoint.pt"
        if resume and not checkpoint.exists():
            raise FileNotFoundError(f"no checkpoint at {checkpoint}: omit --resume to start a run")
        if resume:
            self._load(checkpoint)
        elif checkpoint.exists():
            raise FileExistsError(
                f"{checkpoint} exists: pass --resume to continue the run, or choose another --out"
            )
        settings.out.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def build(self) -> Model:
        """Return a model with its initial weights."""

    @abstractmethod
    def batches(self) -> Dataset[tuple[Tensor, ...]]:
        """Return a dataset that maps a step to a batch: the arguments of `loss`."""

    @abstractmethod
    def loss(self, *batch: Tensor) -> Tensor:
        """Return the training loss of `model`, a scalar."""

    @abstractmethod
    def score(self) -> dict[str, float]:
        """Return the scores of `average` on held-out images."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write every file needed to use `average`."""

    def constrain(self) -> None:
        """Clamp weights of `model` after every step; does nothing by default."""

    @property
    def progress(self) -> float:
        """Share of the budget already spent, in [0, 1]."""
        settings = self.settings
        spent = (
            self.step / settings.steps if settings.steps else self.seconds / (60 * settings.minutes)
        )
        return min(1.0, spent)

    def fit(self, until: int | None = None) -> None:
        """Train until the end of the budget, or until step `until`."""
        settings = self.settings
        batches = self._load_batches()
        last = min(until or MOST_STEPS, settings.steps or MOST_STEPS)
        recent: list[float] = []
        while self.progress < 1 and self.step < last:
            started = time.monotonic()
            with sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext():
                recent.append(self._train_step(next(batches)))
            self.step += 1
            self.seconds += time.monotonic() - started
            finished = self.progress >= 1 or self.step >= last
            if finished or self.step % settings.every == 0:
                self._log({"loss": round(sum(recent) / len(recent), 4), **self.score()})
                recent.clear()
                self._save()
                self.export(settings.out / "export")

    def write(
        self, folder: Path, stem: str, config: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> None:
        """Write `<stem>.json`, `<stem>.safetensors` in fp16 and `<stem>_log.jsonl`."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {key: value.to(torch.float16).contiguous().cpu() for key, value in state.items()}
        part = folder / f"{stem}.safetensors.part"
        save_file(weights, part)
        part.chmod(0o644)  # safetensors creates files that only their owner can read
        os.replace(part, folder / f"{stem}.safetensors")
        (folder / f"{stem}.json").write_text(json.dumps(config, indent=2) + "\n")
        (folder / f"{stem}_log.jsonl").write_text((self.settings.out / "log.jsonl").read_text())

    def _load_batches(self) -> Iterator[tuple[Tensor, ...]]:
        loader = DataLoader(
            self.batches(),
            batch_size=None,
            sampler=range(self.step, MOST_STEPS),
            num_workers=self.settings.workers,
            generator=torch.Generator(),  # the default changes the global random state
        )
        return iter(loader)

    def _train_step(self, batch: tuple[Tensor, ...]) -> float:
        settings = self.settings
        self.model.train()
        rate = settings.learning_rate * min(
            (self.progress + 1e-4) / settings.warmup, 0.5 + 0.5 * math.cos(math.pi * self.progress)
        )
        for group in (g for optimiser in self.optimisers for g in optimiser.param_groups):
            group["lr"] = rate
        loss = self.loss(*(tensor.to(self.device) for tensor in batch))
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        decay = min(settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            self.constrain()
            for averaged, value in zip(
                self.average.parameters(), self.model.parameters(), strict=True
            ):
                averaged.lerp_(value, 1 - decay)
        return loss.item()

    def _log(self, values: dict[str, float]) -> None:
        pictures = self.step * self.settings.batch_size
        line = {
            "step": self.step,
            "pictures": pictures,
            "seconds": round(self.seconds, 1),
            **values,
        }
        with (self.settings.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "random": torch.get_rng_state(),
            "step": self.step,
            "seconds": self.seconds,
            "settings": self._fixed_settings(),
        }
        part = self.settings.out / "checkpoint.pt.part"
        torch.save(state, part)
        os.replace(part, self.settings.out / "checkpoint.pt")

    def _load(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint, map_location=self.device, weights_only=True)
        own, stored = self._fixed_settings(), state["settings"]
        if different := [f"{key} {stored[key]}" for key in own if own[key] != stored[key]]:
            raise ValueError(
                f"{checkpoint} was made with {', '.join(different)}: "
                "resume with the same settings, or choose another --out"
            )
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        torch.set_rng_state(state["random"].cpu())
        self.step, self.seconds = state["step"], state["seconds"]
        log = self.settings.out / "log.jsonl"  # may have lines that are newer than the checkpoint
        lines = log.read_text().splitlines(keepends=True)
        log.write_text("".join(line for line in lines if json.loads(line)["step"] <= self.step))

    def _fixed_settings(self) -> dict[str, Any]:
        """Return the settings that a resumed run must share."""
        return {k: v for k, v in asdict(self.settings).items() if k not in _RESUMABLE}


def run(pretraining: type[Pretraining[Any, Any]], settings: type[Settings], about: str) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=settings.minutes)
    parser.add_argument("--steps", type=int, default=0, help="step budget, in place of --minutes")
    parser.add_argument("--batch-size", type=int, default=settings.batch_size)
    parser.add_argument("--learning-rate", type=float, default=settings.learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=settings.workers)
    parser.add_argument("--every", type=int, default=100, help="steps between evaluations")
    parser.add_argument("--resume", action="store_true")
    arguments = vars(parser.parse_args())
    resume = arguments.pop("resume")
    torch.set_flush_denormal(True)  # denormal numbers make a CPU about ten times slower
    try:
        pretraining(settings(**arguments), resume).fit()
    except (OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
