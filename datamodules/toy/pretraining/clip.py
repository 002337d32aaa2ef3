"""Contrastive pre-training of the toy CLIP on newly drawn scenes; no scene is used twice.

python -m datamodules.toy.pretraining.clip --out runs/toy_clip --steps 7000 --every 250
"""

import json
import math
from pathlib import Path

import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from open_clip.transformer import PatchDropout
from torch import Tensor

from datamodules.toy.language.vocabulary import ToyTokenizer, toy_vocabulary
from datamodules.toy.pretraining.loop import MOST_STEPS, CLIPSettings, Pretraining, run
from datamodules.toy.pretraining.pictures import CaptionedScenes, normalised
from datamodules.toy.scenes.scales import CLIP_EMBEDDINGS, CLIP_STREAM, rescaled
from datamodules.toy.zero_shot import HeldOutPictures

_MAX_LOGIT_SCALE = math.log(100)


class CLIPPretraining(Pretraining[CLIP, CLIPSettings]):
    """Training of a CLIP to match images with captions.

    Args:
        settings: Architecture, data and budget.
        resume: Continue from the checkpoint in `settings.out`.
    """

    def __init__(self, settings: CLIPSettings, resume: bool = False) -> None:
        self.token_ids = toy_vocabulary()
        self.config = json.loads(json.dumps(settings.architecture))
        self.config["text_cfg"]["vocab_size"] = len(self.token_ids)
        self.image_size = self.config["vision_cfg"]["image_size"]
        self.context_length = self.config["text_cfg"]["context_length"]
        self.held_out = HeldOutPictures(
            settings.seed,
            self.image_size,
            ToyTokenizer(self.token_ids, self.context_length),
            settings.singles,
            settings.scenes,
        )
        super().__init__(settings, resume)

    def build(self) -> CLIP:
        """Return a CLIP with its initial weights."""
        return CLIP(**self.config)

    def drop_patches(self, share: float) -> None:
        """Make the image encoder drop this share of the patches in training."""
        self.model.visual.patch_dropout = PatchDropout(share)

    def batches(self) -> CaptionedScenes:
        """Return a dataset of image batches with captions as vocabulary rows, (B, T) int64."""
        settings = self.settings
        return CaptionedScenes(
            settings.seed,
            MOST_STEPS,
            settings.batch_size,
            self.image_size,
            self.token_ids,
            self.context_length,
        )

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return CLIP's contrastive loss."""
        with torch.autocast(self.device.type, torch.bfloat16):
            image, text, scale = self.model(normalised(images), targets)
        loss: Tensor = ClipLoss()(image.float(), text.float(), scale.float())
        return loss

    def constrain(self) -> None:
        """Clamp the logit scale, as CLIP does."""
        self.model.logit_scale.clamp_(0, _MAX_LOGIT_SCALE)

    def score(self) -> dict[str, float]:
        """Return zero-shot and retrieval accuracies."""
        return self.held_out.score(self.average)

    def export(self, folder: Path) -> None:
        """Write model config, averaged fp16 weights, vocabulary and log to files named toy*."""
        settings = self.settings
        factors = {CLIP_STREAM: settings.stream_scale, CLIP_EMBEDDINGS: settings.embedding_scale}
        scaled = rescaled(self.average.state_dict(), factors)
        self.write(folder, "toy", self.config, scaled)
        (folder / "toy_vocabulary.json").write_text(json.dumps(self.token_ids) + "\n")


if __name__ == "__main__":
    run(CLIPPretraining, CLIPSettings, __doc__ or "")
