"""What a pre-training run is made of, for the toy CLIP and for the toy ViT."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """A run of `pretrain_clip`.

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
    """A run of `pretrain_vit`.

    Attributes:
        architecture: Arguments of timm's VisionTransformer without the number of classes.
    """

    minutes: float = 40.0
    architecture: dict[str, Any] = field(default_factory=lambda: VIT_ARCHITECTURE)
