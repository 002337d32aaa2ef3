"""Pre-training on endless fresh scenes: budget, optimisers, averaged weights and files."""

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
_FREE = ("out", "workers", "every", "steps", "minutes")  # a longer budget is a fair wish

CLIP_ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 96,
    "vision_cfg": {
        "layers": 12,
        "width": 128,
        "head_width": 64,
        "patch_size": 8,
        "image_size": 64,
    },
    "text_cfg": {"context_length": 24, "width": 96, "heads": 3, "layers": 3},
    "quick_gelu": False,
}
VIT_ARCHITECTURE: dict[str, Any] = {  # the toy CLIP's image tower as far as decoders read it
    "img_size": 64,
    "patch_size": 8,
    "embed_dim": 128,
    "depth": 10,
    "num_heads": 2,
}


@dataclass(frozen=True)
class Settings:
    """One pre-training run.

    Attributes:
        out: Folder for checkpoint.pt, log.jsonl and export/.
        minutes: Time budget over all resumes; the learning rate follows it unless `steps` is given.
        steps: Step budget, exactly repeatable; 0 for a time budget.
        batch_size: Pictures per step.
        learning_rate: Peak of the rate.
        warmup: Share of the budget over which the rate rises.
        weight_decay: On the blocks' matrices.
        patch_dropout: Share of patches left out, which makes steps cheaper.
        whole_from: Share of the budget after which pictures are seen whole.
        ema_decay: Of the exported weights.
        seed: Of weights and pictures.
        workers: Drawing processes.
        every: Steps between evaluations, checkpoints and exports.
        singles: Held-out pictures of one thing.
    """

    out: Path
    minutes: float = 80.0
    steps: int = 0
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup: float = 0.03
    weight_decay: float = 0.05
    patch_dropout: float = 0.5
    whole_from: float = 0.85
    ema_decay: float = 0.998
    seed: int = 0
    workers: int = 1
    every: int = 100
    singles: int = 512

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: A budget, batch or interval of nothing.
        """
        if self.steps < 0 or not (self.steps or self.minutes > 0):
            raise ValueError(f"give minutes or steps above 0, not {self.minutes} and {self.steps}")
        if self.batch_size < 1 or self.every < 1:
            raise ValueError(f"batch_size {self.batch_size} and every {self.every} must be >= 1")


@dataclass(frozen=True)
class CLIPSettings(Settings):
    """A run of `pretraining.clip`.

    Attributes:
        stream_scale: What the exported vision tower's tokens are scaled by, see `scales`.
        embedding_scale: What exported embeddings are scaled by.
        scenes: Held-out pictures of several things.
        architecture: open_clip model config without the vocabulary's size.
    """

    stream_scale: float = 1 / 4
    embedding_scale: float = 1 / 2
    scenes: int = 256
    architecture: dict[str, Any] = field(default_factory=lambda: CLIP_ARCHITECTURE)


@dataclass(frozen=True)
class ViTSettings(Settings):
    """A run of `pretraining.vit`.

    Attributes:
        architecture: Arguments of timm's VisionTransformer without the number of classes.
    """

    minutes: float = 40.0
    architecture: dict[str, Any] = field(default_factory=lambda: VIT_ARCHITECTURE)


Model = TypeVar("Model", bound=nn.Module)
RunSettings = TypeVar("RunSettings", bound=Settings)


def _optimisers(model: nn.Module, weight_decay: float) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the blocks' matrices, AdamW for everything else; one learning rate fits both."""
    named = dict(model.named_parameters())
    chosen = {name for name, value in named.items() if "blocks" in name and value.ndim == 2}
    matrices = [named[name] for name in named if name in chosen]
    others = [named[name] for name in named if name not in chosen]
    return (
        torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0),
    )


class Pretraining(ABC, Generic[Model, RunSettings]):
    """The state of a run: model, averaged model, optimisers, steps and seconds so far.

    Args:
        settings: What to train, and for how long.
        resume: Continue from the checkpoint in `settings.out`.

    Raises:
        FileNotFoundError: There is nothing to resume.
        FileExistsError: There is a checkpoint, and it is not to be resumed.
        ValueError: The checkpoint is of other settings.
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
            raise FileNotFoundError(f"no {checkpoint}: leave out --resume to begin")
        if resume:
            self._load(checkpoint)
        elif checkpoint.exists():
            raise FileExistsError(
                f"{checkpoint} exists: give --resume to continue it, or another --out"
            )
        settings.out.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def build(self) -> Model:
        """A model with its initial weights."""

    @abstractmethod
    def drop_patches(self, share: float) -> None:
        """Have `model` leave out that share of the patches while it is trained."""

    @abstractmethod
    def batches(self) -> Dataset[tuple[Tensor, Tensor]]:
        """Batches by step: pictures (B, 3, H, W) uint8 RGB and what they are to be matched with."""

    @abstractmethod
    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """What `model` is to bring down, a scalar."""

    @abstractmethod
    def score(self) -> dict[str, float]:
        """How well `average` does on held-out pictures."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write everything that using `average` needs."""

    def constrain(self) -> None:
        """Keep weights of `model` within bounds, after every step."""

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        settings = self.settings
        spent = (
            self.step / settings.steps if settings.steps else self.seconds / (60 * settings.minutes)
        )
        return min(1.0, spent)

    def fit(self, until: int | None = None) -> None:
        """Trains to the end of the budget, or to step `until`."""
        settings = self.settings
        batches = self._load_batches()
        last = min(until or MOST_STEPS, settings.steps or MOST_STEPS)
        recent: list[float] = []
        while self.progress < 1 and self.step < last:
            started = time.monotonic()
            with sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext():
                recent.append(self._train_step(*next(batches)))
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
        part.chmod(0o644)  # safetensors writes files for the owner alone
        os.replace(part, folder / f"{stem}.safetensors")
        (folder / f"{stem}.json").write_text(json.dumps(config, indent=2) + "\n")
        (folder / f"{stem}_log.jsonl").write_text((self.settings.out / "log.jsonl").read_text())

    def _load_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            self.batches(),
            batch_size=None,
            sampler=range(self.step, MOST_STEPS),
            num_workers=self.settings.workers,
            generator=torch.Generator(),  # else it draws from the state that a resume restores
        )
        return iter(loader)

    def _train_step(self, images: Tensor, targets: Tensor) -> float:
        settings = self.settings
        self.model.train()
        rate = settings.learning_rate * min(
            (self.progress + 1e-4) / settings.warmup, 0.5 + 0.5 * math.cos(math.pi * self.progress)
        )
        for group in (g for optimiser in self.optimisers for g in optimiser.param_groups):
            group["lr"] = rate
        self.drop_patches(settings.patch_dropout if self.progress < settings.whole_from else 0.0)
        loss = self.loss(images.to(self.device), targets.to(self.device))
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
            "settings": self._decisive(),
        }
        part = self.settings.out / "checkpoint.pt.part"
        torch.save(state, part)
        os.replace(part, self.settings.out / "checkpoint.pt")

    def _load(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint, map_location=self.device, weights_only=True)
        own, others = self._decisive(), state["settings"]
        if different := [f"{key} {others[key]}" for key in own if own[key] != others[key]]:
            raise ValueError(f"{checkpoint} was made with {', '.join(different)}")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        torch.set_rng_state(state["random"].cpu())
        self.step, self.seconds = state["step"], state["seconds"]
        log = self.settings.out / "log.jsonl"  # it may have been written, and the checkpoint not
        lines = log.read_text().splitlines(keepends=True)
        log.write_text("".join(line for line in lines if json.loads(line)["step"] <= self.step))

    def _decisive(self) -> dict[str, Any]:
        """Settings that a resumed run must share."""
        return {k: v for k, v in asdict(self.settings).items() if k not in _FREE}


def run(pretraining: type[Pretraining[Any, Any]], settings: type[Settings], about: str) -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=settings.minutes)
    parser.add_argument("--steps", type=int, default=0, help="exact step budget instead of minutes")
    parser.add_argument("--batch-size", type=int, default=settings.batch_size)
    parser.add_argument("--learning-rate", type=float, default=settings.learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=settings.workers)
    parser.add_argument("--every", type=int, default=100, help="steps between evaluations")
    parser.add_argument("--resume", action="store_true")
    arguments = vars(parser.parse_args())
    resume = arguments.pop("resume")
    torch.set_flush_denormal(True)  # a CPU slows down by an order of magnitude on them
    try:
        pretraining(settings(**arguments), resume).fit()
    except (OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
