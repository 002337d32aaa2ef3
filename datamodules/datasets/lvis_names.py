"""LVIS as phrases: every category in every photo, by its name."""

import numpy as np

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.lvis import LVIS
from datamodules.datasets.phrase_table import PhraseTable

LEAST_AREA = 0.05
"""share of its photo that a category covers at least, as in the authors' archive"""


class LVISNames(PhraseTable):
    """Tasks with phrases: each category that covers enough of a photo.

    Args:
        lvis: annotations and photos.
    """

    def __init__(self, lvis: LVIS) -> None:
        """Find the tasks; areas are those of the polygons, nothing is drawn."""
        self.lvis = lvis
        self.pairs = [pair for pair in lvis.pairs if lvis.area(pair) > LEAST_AREA]
        asked = np.array(self.pairs, np.int64).reshape(-1, 2)
        photo, (categories, phrase) = (
            np.unique(asked[:, 0], return_inverse=True)[1],
            np.unique(asked[:, 1], return_inverse=True),
        )
        super().__init__([lvis.names[number] for number in categories.tolist()], phrase, photo)

    def read_name(self, row: int) -> str:
        """Ids of photo and category."""
        return "{}__{}".format(*self.pairs[row])

    def read_image(self, row: int) -> RGB:
        """The photo, (H, W, 3) uint8; raises as `LVIS` does."""
        return self.lvis.photo(self.pairs[row].image)

    def read_mask(self, row: int) -> Mask:
        """All instances, (H, W) bool."""
        return self.lvis.mask(self.pairs[row])

    def absent_phrases(self, row: int) -> list[str]:
        """Names of the categories that the photo lists as absent."""
        absent = self.lvis.absent_categories(self.pairs[row].image)
        return [self.lvis.names[category] for category in absent]
