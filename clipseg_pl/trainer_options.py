"""Checks of trainer settings that Lightning accepts but cannot use, or rejects at length."""

import difflib
import re

from jsonargparse import Namespace

from clipseg_pl.arguments import stop

_LEAST = {
    "max_steps": 1,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
    "gradient_clip_val": 0,
    "num_sanity_val_steps": -1,
}
_NAMED = 3  # metrics in an error


def check_trainer(trainer: Namespace, fit: bool) -> None:
    """Stop at a number out of range, naming option and value.

    Args:
        trainer: its settings.
        fit: whether it is going to train; nothing else counts steps.
    """
    for key, least in _LEAST.items():
        value = trainer.get(key)
        if value is not None and value < least and (fit or key != "max_steps"):
            stop(f"set --trainer.{key} to at least {least}, not {value}")
    if trainer.val_check_interval == 0:
        stop(
            "set --trainer.val_check_interval to more than 0; for no validation, set "
            "--trainer.limit_val_batches 0"
        )
    if not re.fullmatch(r"auto|-1|[1-9]\d*|\d+(, ?\d*)+|\[\d+(, ?\d+)*\]", str(trainer.devices)):
        stop(
            "set --trainer.devices to a number of at least 1, a list such as [0,1], -1 for all "
            f"or auto, not {trainer.devices}"
        )


def unknown_monitor(message: str) -> str:
    """Explain what lightning says of a callback whose metric does not exist; empty for the rest."""
    found = re.search(r"(?:conditioned on metric `|\(monitor=')([^`']+)[`']", message)
    if not found:
        return ""
    known = set(re.findall(r"[`']([\w@.]+/[\w@./]+)[`']", message[found.end() :]))
    nearest = difflib.get_close_matches(found[1], known - {found[1]}, _NAMED, cutoff=0)
    hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
    return f"a callback monitors {found[1]}, which is not measured{hint}"
