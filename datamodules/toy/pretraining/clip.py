"""Contrastive pre-training of the toy CLIP on newly drawn scenes; no scene is used twice.

python -m datamodules.toy.pretraining.clip --out runs/toy_clip --steps 4000 --every 250
"""

import json
import math
from pathlib import Path

import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from torch import Tensor
from torch.nn import functional as F

from clipseg_pl.weights.places import TOY_CLIP
from datamodules.toy.language.vocabulary import ToyTokenizer, toy_vocabulary
from datamodules.toy.language.words import NAMES, STUFF_NAMES, kind_name
from datamodules.toy.pretraining.loop import MOST_STEPS, CLIPSettings, Pretraining, run
from datamodules.toy.pretraining.pictures import CLASSES, CaptionedScenes
from datamodules.toy.scenes.scales import (
    CLIP_EMBEDDINGS,
    CLIP_STREAM,
    EMBEDDING_NORM,
    STREAM_STD,
    factor_to,
    rescaled,
)
from datamodules.toy.scenes.stuff import STUFF
from datamodules.toy.zero_shot import HeldOutPictures, embed_images, embed_texts

_MAX_LOGIT_SCALE = math.log(100)
_TEMPLATES = ("{}", "a {}", "a photo of a {}.", "the {}")
# "thing with {}" is twice as likely, because it names things without a name in captions and phrases
_PART_TEMPLATES = ("{}", "thing with {}", "thing with {}", "it has {}")
_BARE_SHARE = 0.2  # share of the patches with stuff only that the loss uses
_PART_WEIGHT = 0.5  # weight of each list of classes other than the kinds


class CLIPPretraining(Pretraining[CLIP, CLIPSettings]):
    """Training of a CLIP to match images with captions, and things and patches with their names.

    Args:
        settings: Architecture, data and budget.
        resume: Continue from the checkpoint in `settings.out`.
    """

    def __init__(self, settings: CLIPSettings, resume: bool = False) -> None:
        self.token_ids = toy_vocabulary()
        self.config = json.loads(json.dumps(settings.architecture))
        self.config["text_cfg"]["vocab_size"] = len(self.token_ids)
        vision = self.config["vision_cfg"]
        self.image_size, self.patch_size = vision["image_size"], vision["patch_size"]
        self.context_length = self.config["text_cfg"]["context_length"]
        self.tokenize = ToyTokenizer(self.token_ids, self.context_length)
        self.held_out = HeldOutPictures(
            settings.seed, self.image_size, self.tokenize, settings.singles, settings.scenes
        )
        super().__init__(settings, resume)

    def build(self) -> CLIP:
        """Return a CLIP with its initial weights."""
        return CLIP(**self.config)

    def batches(self) -> CaptionedScenes:
        """Return a dataset of captioned scenes with labels of the patches."""
        settings = self.settings
        return CaptionedScenes(
            settings.seed,
            MOST_STEPS,
            settings.batch_size,
            self.image_size,
            self.patch_size,
            self.token_ids,
            self.context_length,
        )

    def loss(  # type: ignore[override]
        self,
        images: Tensor,
        captions: Tensor,
        thing_of_patch: Tensor,
        stuff_of_patch: Tensor,
        thing_captions: Tensor,
        labels: Tensor,
        only_thing: Tensor,
    ) -> Tensor:
        """Return the sum of three losses.

        1. CLIP's contrastive loss of images and their captions.
        2. The same loss of things and their descriptions; a thing is the mean of its patches.
        3. Cross-entropies over the names of all kinds and stuff (weight 1), and over colours,
           textures and the values of each slot of the grammar (weight 0.5 each). They are means
           over all patches with a thing, a random fifth of the patches with only stuff, and the
           embeddings of images with one thing. Empty slots, and the kind of a near miss, which has
           none, are ignored. Stuff has nothing but a name.

        The patches of 2 and 3 are those of the deepest layer that a decoder taps. Things that cover
        no patch are left out of 2. The arguments are the fields of `CaptionedBatch`.
        """
        model = self.model
        texts, offsets = self._class_texts()
        with torch.autocast(self.device.type, torch.bfloat16):
            cls, patches = embed_images(model, images)
            text = [embed_texts(model, rows) for rows in (captions, thing_captions, texts)]
        cls, patches, *text = (F.normalize(v.float(), dim=-1) for v in (cls, patches, *text))
        caption, description, classes = text
        scale = model.logit_scale.exp()
        total: Tensor = ClipLoss()(cls, caption, scale)

        owner = thing_of_patch.flatten()
        inside, flat = owner >= 0, patches.flatten(0, 1)
        mean = flat.new_zeros(len(labels), flat.shape[1]).index_add(0, owner[inside], flat[inside])
        visible = torch.bincount(owner[inside], minlength=len(labels)) > 0
        if visible.any():
            logits = scale * F.normalize(mean[visible], dim=-1) @ description[visible].T
            same = (thing_captions[visible][:, None] == thing_captions[visible]).all(-1).float()
            same = same / same.sum(1, keepdim=True)
            total = total + (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2

        single = only_thing >= 0
        ground = stuff_of_patch.flatten()
        bare = (ground >= 0) & (torch.rand(len(ground)) < _BARE_SHARE).to(ground.device)
        rows = torch.cat((flat[inside], cls[single], flat[bare]))
        target = labels[torch.cat((owner[inside], only_thing[single]))]
        stuff_target = target.new_full((int(bare.sum()), target.shape[1]), -1)
        stuff_target[:, 0] = len(CLASSES["kind"]) + ground[bare]
        target = torch.cat((target, stuff_target))
        similarity = scale * rows @ classes.T
        for column, (start, stop) in enumerate(offsets):
            weight = 1.0 if column == 0 else _PART_WEIGHT
            known = (target[:, column] >= 0).sum().clamp(min=1)
            total = total + weight / known * F.cross_entropy(
                similarity[:, start:stop], target[:, column], ignore_index=-1, reduction="sum"
            )
        return total

    def _class_texts(self) -> tuple[Tensor, list[tuple[int, int]]]:
        """Return one tokenized text per class, and the range of rows of each group in `CLASSES`.

        Each text uses a random name and template.
        """

        def pick(choices: tuple[str, ...]) -> str:
            return choices[int(torch.randint(len(choices), ()))]

        texts: list[str] = []
        ranges = []
        for group, names in CLASSES.items():
            start = len(texts)
            if group == "kind":
                texts += [
                    pick(_TEMPLATES).format(pick(NAMES[name]) if name in NAMES else kind_name(name))
                    for name in names
                ]
                texts += [pick(_TEMPLATES).format(pick(STUFF_NAMES[name])) for name in STUFF]
            elif group in ("colour", "texture"):
                texts += [f"{name} thing" for name in names]
            else:
                texts += [pick(_PART_TEMPLATES).format(name) for name in names]
            ranges.append((start, len(texts)))
        return self.tokenize(texts).to(self.device), ranges

    def constrain(self) -> None:
        """Clamp the logit scale, as CLIP does."""
        self.model.logit_scale.clamp_(0, _MAX_LOGIT_SCALE)

    def score(self) -> dict[str, float]:
        """Return accuracies of kinds, colours and retrieval, and the transfer, on held-out images.

        See `HeldOutPictures.score`.
        """
        return self.held_out.score(self.average)

    def export(self, folder: Path) -> None:
        """Write config, averaged fp16 weights, vocabulary and log to files named `<TOY_CLIP>*`."""
        stream, norm = self.held_out.scales(self.average)
        factors = {
            CLIP_STREAM: factor_to(STREAM_STD, stream),
            CLIP_EMBEDDINGS: factor_to(EMBEDDING_NORM, norm),
        }
        scaled = rescaled(self.average.state_dict(), factors)
        self.write(folder, TOY_CLIP, self.config, scaled)
        (folder / f"{TOY_CLIP}_vocabulary.json").write_text(json.dumps(self.token_ids) + "\n")


if __name__ == "__main__":
    run(CLIPPretraining, CLIPSettings, __doc__ or "")
