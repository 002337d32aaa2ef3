"""What lightning says that nobody needs to hear."""

import logging
import warnings


def quieten() -> None:
    """Silence what lightning says about things that are as they should be."""
    # pycocotools with numpy 2, at every mask
    warnings.filterwarnings("ignore", ".*__array__ implementation.*", DeprecationWarning)
    for message in (
        ".*isinstance\\(treespec, LeafSpec\\).*",  # lightning's own use of torch's pytree
        ".*module\\(s\\) in eval mode at the start of training.*",  # the frozen backbone
        ".*does not have many workers.*",  # a choice of the config
        ".*smaller than the logging interval.*",
        ".*Checkpoint directory .* exists and is not empty.*",  # one run, one folder
        ".*your dataloader is not resumable.*",  # its sampler starts at the step reached
        ".*using a custom batch sampler.*",
        ".*Experiment logs directory .* exists and is not empty.*",
        ".*callbacks used to create the checkpoint need to be provided.*",  # evaluation needs none
        ".*is not supported by the model summary.*",
    ):
        warnings.filterwarnings("ignore", message)
    advice = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    advice.addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    """False for what lightning says of its services."""
    return "Tip:" not in record.getMessage()
