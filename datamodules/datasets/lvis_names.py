"""LVIS with its category names as phrases."""

import numpy as np

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.lvis import LVIS
from datamodules.datasets.phrase_table import PhraseTable

LEAST_AREA = 0.05
"""a category must cover more than this fraction of the photo, as in the authors' archive"""


class LVISNames(PhraseTable):
    """Tasks of LVIS: the names of the categories that cover more than 5 % of a photo.

    Args:
        lvis: annotations and photos.
    """

    def __init__(self, lvis: LVIS) -> None:
        """List the tasks. Areas are computed from the polygons, without rasterising them."""
        self.lvis = lvis
        self.pairs = [pair for pair in lvis.pairs if lvis.area(pair) > LEAST_AREA]
        pairs = np.array(self.pairs, np.int64).reshape(-1, 2)
        photo, (categories, phrase) = (
            np.unique(pairs[:, 0], return_inverse=True)[1],
            np.unique(pairs[:, 1], return_inverse=True),
        )
        names = [lvis.names[number] for number in categories.tolist()]
        super().__init__(names, phrase, photo, lvis.coco_ids(pairs[:, 0].tolist()))

    def read_name(self, row: int) -> str:
        """Return the ids of photo and category, joined by two underscores."""
        return "{}__{}".format(*self.pairs[row])

    def read_image(self, row: int) -> RGB:
        """Read the photo of a row, (H, W, 3) uint8; see `LVIS.photo`."""
        return self.lvis.photo(self.pairs[row].image)

    def read_mask(self, row: int) -> Mask:
        """Return the union of all instances, (H, W) bool."""
        return self.lvis.mask(self.pairs[row])

    def absent_phrases(self, row: int) -> list[str]:
        """Return the names of the categories known to be absent from the photo."""
        absent = self.lvis.absent_categories(self.pairs[row].image)
        return [self.lvis.names[category] for category in absent]
