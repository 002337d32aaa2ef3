"""LVIS as phrases: every category in every photo, by its name."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.lvis import LVIS

LEAST_AREA = 0.05
"""share of its photo that a category covers at least, as in the authors' archive"""


class LVISNames:
    """Tasks with phrases: each category that covers enough of a photo.

    Args:
        lvis: annotations and photos.
    """

    def __init__(self, lvis: LVIS) -> None:
        """Find the tasks; areas are those of the polygons, nothing is drawn."""
        self.lvis = lvis
        self.pairs = [pair for pair in lvis.pairs if lvis.area(pair) > LEAST_AREA]
        asked = np.array([pair.category for pair in self.pairs], np.int64)
        categories, self._phrase = np.unique(asked, return_inverse=True)
        self._categories = categories
        self.phrases: Sequence[str] = [lvis.names[category] for category in categories.tolist()]
        self._order = np.argsort(self._phrase, kind="stable")
        self._first = np.searchsorted(self._phrase[self._order], np.arange(len(categories) + 1))

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.pairs)

    def name(self, task: int) -> str:
        """Ids of photo and category."""
        return "{}__{}".format(*self.pairs[task])

    def phrase(self, task: int) -> int:
        """Position of the task's name in `phrases`."""
        return int(self._phrase[task])

    def image(self, task: int) -> RGB:
        """The photo, (H, W, 3) uint8; raises as `LVIS` does."""
        return self.lvis.photo(self.pairs[task].image)

    def mask(self, task: int) -> Mask:
        """All instances, (H, W) bool."""
        return self.lvis.mask(self.pairs[task])

    def tasks_of_phrase(self, phrase: int) -> npt.NDArray[np.int64]:
        """Tasks of the name."""
        return self._order[self._first[phrase] : self._first[phrase + 1]]

    def tasks_of_image(self, task: int) -> npt.NDArray[np.int64]:
        """Tasks about the task's photo, itself among them."""
        image = self.pairs[task].image
        return np.flatnonzero([pair.image == image for pair in self.pairs])

    def possible_phrases(self, task: int) -> npt.NDArray[np.int64]:
        """Positions of all names but those that are known to be absent from the task's photo."""
        absent = self.lvis.absent_categories(self.pairs[task].image)
        return np.flatnonzero(~np.isin(self._categories, absent))
