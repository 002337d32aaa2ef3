"""Contrastive pre-training of the toy CLIP on endless fresh scenes.

python -m datamodules.toy.pretrain_clip --out runs/toy_clip --steps 7000 --every 250
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from open_clip.transformer import PatchDropout
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from datamodules.toy.pretrain_batches import CaptionedScenes
from datamodules.toy.pretrain_settings import Settings
from datamodules.toy.scales import rescaled
from datamodules.toy.vocabulary import ToyTokenizer, toy_vocabulary
from datamodules.toy.zero_shot import HeldOutPictures, normalised

_MOST_STEPS = 10**7
_GREATEST_SCALE = math.log(100)


def _optimisers(model: CLIP, weight_decay: float) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the blocks' matrices, AdamW for everything else; one learning rate fits both."""
    named = dict(model.named_parameters())
    chosen = {name for name, value in named.items() if "resblocks" in name and value.ndim == 2}
    matrices = [named[name] for name in named if name in chosen]
    others = [named[name] for name in named if name not in chosen]
    return (
        torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0),
    )


class Pretraining:
    """The state of a run: model, averaged model, optimisers, steps and seconds so far.

    Args:
        settings: What to train, and for how long.
        resume: Continue from the checkpoint in `settings.out`.
    """

    def __init__(self, settings: Settings, resume: bool = False) -> None:
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.token_ids = toy_vocabulary()
        self.config = json.loads(json.dumps(settings.architecture))
        self.config["text_cfg"]["vocab_size"] = len(self.token_ids)
        torch.manual_seed(settings.seed)
        self.model = CLIP(**self.config).to(self.device)
        self.model.visual.patch_dropout = PatchDropout(settings.patch_dropout)
        self.average = CLIP(**self.config).to(self.device).requires_grad_(False)
        self.average.load_state_dict(self.model.state_dict())
        self.optimisers = _optimisers(self.model, settings.weight_decay)
        self.step, self.seconds = 0, 0.0
        settings.out.mkdir(parents=True, exist_ok=True)
        checkpoint = settings.out / "checkpoint.pt"
        if resume:
            self._load(checkpoint)
        elif checkpoint.exists():
            raise FileExistsError(
                f"{checkpoint} exists: give --resume to continue it, or another --out"
            )

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
        text_cfg, side = self.config["text_cfg"], self.config["vision_cfg"]["image_size"]
        held_out = HeldOutPictures(
            settings.seed,
            side,
            ToyTokenizer(self.token_ids, text_cfg["context_length"]),
            settings.singles,
            settings.scenes,
        )
        batches = self._batches()
        last = min(until or _MOST_STEPS, settings.steps or _MOST_STEPS)
        recent: list[float] = []
        while self.progress < 1 and self.step < last:
            started = time.monotonic()
            with sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext():
                recent.append(self._train_step(*next(batches)))
            self.step += 1
            self.seconds += time.monotonic() - started
            finished = self.progress >= 1 or self.step >= last
            if finished or self.step % settings.every == 0:
                self._log(
                    {"loss": round(sum(recent) / len(recent), 4), **held_out.score(self.average)}
                )
                recent.clear()
                self._save()
                self.export(settings.out / "export")

    def export(self, folder: Path) -> None:
        """Writes model config, averaged weights in fp16, vocabulary and log, all named toy*."""
        folder.mkdir(parents=True, exist_ok=True)
        settings, state = self.settings, self.average.state_dict()
        scaled = rescaled(state, settings.stream_scale, settings.embedding_scale)
        weights = {key: value.to(torch.float16).contiguous().cpu() for key, value in scaled.items()}
        save_file(weights, folder / "toy.safetensors.part")
        (folder / "toy.safetensors.part").chmod(
            0o644
        )  # safetensors writes files for the owner alone
        os.replace(folder / "toy.safetensors.part", folder / "toy.safetensors")
        (folder / "toy.json").write_text(json.dumps(self.config, indent=2) + "\n")
        (folder / "toy_vocabulary.json").write_text(json.dumps(self.token_ids) + "\n")
        (folder / "toy_log.jsonl").write_text((self.settings.out / "log.jsonl").read_text())

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        settings = self.settings
        dataset = CaptionedScenes(
            settings.seed,
            _MOST_STEPS,
            settings.batch_size,
            self.config["vision_cfg"]["image_size"],
            self.token_ids,
            self.config["text_cfg"]["context_length"],
        )
        steps = range(self.step, _MOST_STEPS)
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=steps,
            num_workers=settings.workers,
            generator=torch.Generator(),  # else it draws from the state that a resume restores
        )
        return iter(loader)

    def _train_step(self, images: Tensor, rows: Tensor) -> float:
        settings = self.settings
        self.model.train()
        rate = settings.learning_rate * min(
            (self.progress + 1e-4) / settings.warmup, 0.5 + 0.5 * math.cos(math.pi * self.progress)
        )
        for group in (g for optimiser in self.optimisers for g in optimiser.param_groups):
            group["lr"] = rate
        if self.progress >= settings.whole_from:
            self.model.visual.patch_dropout.prob = 0.0
        with torch.autocast(self.device.type, torch.bfloat16):
            image, text, scale = self.model(
                normalised(images.to(self.device)), rows.to(self.device)
            )
        loss: Tensor = ClipLoss()(image.float(), text.float(), scale.float())
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        decay = min(settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, _GREATEST_SCALE)
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
        }
        part = self.settings.out / "checkpoint.pt.part"
        torch.save(state, part)
        os.replace(part, self.settings.out / "checkpoint.pt")

    def _load(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        torch.set_rng_state(state["random"].cpu())
        self.step, self.seconds = state["step"], state["seconds"]


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=80.0)
    parser.add_argument("--steps", type=int, default=0, help="exact step budget instead of minutes")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--every", type=int, default=100, help="steps between evaluations")
    parser.add_argument("--resume", action="store_true")
    arguments = vars(parser.parse_args())
    resume = arguments.pop("resume")
    torch.set_flush_denormal(True)  # a CPU slows down by an order of magnitude on them
    Pretraining(Settings(**arguments), resume).fit()


if __name__ == "__main__":
    main()
