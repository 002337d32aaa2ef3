"""The published pipeline of PhraseCut+ samples, reimplemented from its description.

Nothing is cached. PIL loads the photos, skimage rasterises every polygon over the whole photo, up
to 50 crops are tried and their mask pixels counted, and torch resizes. The same steps are repeated
for the support image, whose background is blurred and darkened before the crop.
"""

import cv2
import numpy as np
import torch
from PIL import Image
from skimage.draw import polygon2mask
from torch.nn import functional as F

from datamodules.datasets.phrasecut import PhraseCut

SIDE = 352
_MEAN, _STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


class Published:
    """Samples of 352 pixels: query image, target and visual prompt, all float32."""

    def __init__(self, source: PhraseCut) -> None:
        self.source = source

    def sample(self, task: int, rng: np.random.Generator):
        image, mask = self._load(task, rng)
        partners = self.source.tasks_of_phrase(self.source.phrase(task))
        support = torch.zeros_like(image)
        if len(partners) > 1:
            support = self._visual_prompt(*self._load(int(rng.choice(partners)), rng))
        return image, mask, support

    def _load(self, task, rng):
        index = self.source.index
        row = index.task_image[task]
        file = self.source.images / f"{index.image_id[row]}.jpg"
        photo = np.array(Image.open(file).convert("RGB"))
        mask = np.zeros(photo.shape[:2], bool)
        for polygon in index.polygons(task):
            mask |= polygon2mask(mask.shape, polygon[:, ::-1])
        top, left, side = find_crop(mask, rng)
        rows, columns = slice(top, top + side), slice(left, left + side)
        image = torch.from_numpy(photo[rows, columns]).permute(2, 0, 1)[None].float() / 255
        image = F.interpolate(image, (SIDE, SIDE), mode="bilinear", align_corners=True)[0]
        target = torch.from_numpy(mask[rows, columns])[None, None].float()
        target = F.interpolate(target, (SIDE, SIDE), mode="nearest")[0]
        normal = (image - torch.from_numpy(_MEAN)[:, None, None]) / torch.from_numpy(_STD)[
            :, None, None
        ]
        return normal, target

    def _visual_prompt(self, image, mask):
        pixels = image.permute(1, 2, 0).numpy()
        blurred = torch.from_numpy(cv2.GaussianBlur(pixels, (15, 15), 3)).permute(2, 0, 1)
        shown = image * mask + 0.1 * blurred * (1 - mask)
        rows, columns = np.nonzero(mask[0].numpy())
        if not len(rows):
            return shown
        low, high = np.array([rows.min(), columns.min()]), np.array([rows.max(), columns.max()]) + 1
        margin = (0.1 * (high - low)).astype(int)
        low, high = np.maximum(low - margin, 0), np.minimum(high + margin, SIDE)
        part = shown[:, low[0] : high[0], low[1] : high[1]]
        height, width = part.shape[1:]
        missing = max(height, width) - np.array([width, height])
        pad = [
            missing[0] // 2,
            missing[0] - missing[0] // 2,
            missing[1] // 2,
            missing[1] - missing[1] // 2,
        ]
        return F.interpolate(F.pad(part, [int(p) for p in pad])[None], (SIDE, SIDE))[0]


def find_crop(mask, rng: np.random.Generator):
    """Sample a square crop of the short side: top, left, side. Positions are tried in turn."""
    height, width = mask.shape
    side = min(height, width)
    best, most = (0, 0, side), -1
    for _ in range(50):
        top, left = (int(rng.integers(0, length - side + 1)) for length in mask.shape)
        visible = mask[top : top + side, left : left + side].sum()
        if visible > 0.05 * mask.size:
            return top, left, side
        if visible > most:
            best, most = (top, left, side), visible
    return best
