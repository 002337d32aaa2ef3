"""How far a run is."""

from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """One bar over all steps of the run: the paper counts steps, epochs are the sampler's."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"
