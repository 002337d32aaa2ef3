"""Checks that stop a training before it saves unusable weights, or reject an empty evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning import LightningModule, Trainer
from torch import Tensor

from clipseg_pl.sample import Batch

_MAX_LISTED = 5  # samples in an error message


def reject_loss(loss: Tensor, logits: Tensor, batch: Batch, trainer: Trainer) -> None:
    """Stop before an optimizer step with a loss that is not finite.

    Args:
        loss: loss of the step.
        logits: (P, 1, H, W) logits from which the loss was computed.
        batch: batch with these P prompts.
        trainer: trainer before the step.

    Raises:
        FloatingPointError: if the loss is not finite. The message lists the step (counted from 1),
            the samples with their prompts, and command line options for another attempt.
    """
    if loss.isfinite():
        return
    faulty = (~logits.detach().flatten(1).isfinite().all(1)).nonzero()[:, 0].tolist()
    faulty = faulty or list(range(len(logits)))  # only the loss is not finite: list all
    samples = [f"{batch['prompt_id'][row]} ({batch['text_prompt'][row]!r})" for row in faulty]
    more = f" and {len(samples) - _MAX_LISTED} more" if len(samples) > _MAX_LISTED else ""
    raise FloatingPointError(
        f"the loss at step {trainer.global_step + 1} is not finite for "
        f"{', '.join(samples[:_MAX_LISTED])}{more}. {_advice(trainer)}"
    )


def reject_weights(module: LightningModule) -> None:
    """Stop before weights that are not finite replace the checkpoints of earlier steps.

    Raises:
        FloatingPointError: if a trained weight is not finite. The message contains the name of the
            weight, the step, and command line options for another attempt.
    """
    for name, weight in module.named_parameters():
        if weight.requires_grad and not weight.isfinite().all():
            raise FloatingPointError(
                f"{name} is not finite after step {module.trainer.global_step} and was not saved. "
                f"{_advice(module.trainer)}"
            )


def reject_empty_evaluation(numbers: Mapping[str, float], prompt_types: Sequence[str]) -> None:
    """Raise if an evaluation has seen no prompt or no pixel: its metrics would be meaningless.

    Args:
        numbers: metrics of the protocol by name.
        prompt_types: prompt types of the protocol.

    Raises:
        ValueError: if no prompt of any type was evaluated, or if all pixels are ignored.
    """
    if numbers.get("text/pixels") == 0:
        raise ValueError("nothing to evaluate: all pixels of the label maps are ignored")
    prompts = [value for name, value in numbers.items() if name.endswith("/prompts")]
    if prompts and not any(prompts):
        raise ValueError(
            f"nothing to evaluate: no sample has a prompt of type {', '.join(prompt_types)}"
        )


def _advice(trainer: Trainer) -> str:
    """Advise to continue from the last good checkpoint with a lower learning rate."""
    rate = trainer.optimizers[0].param_groups[0]["initial_lr"]
    last = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
    resume = "--ckpt_path last " if last.is_file() else ""
    return (
        f"Run again with {resume}--model.optimizer.init_args.lr {rate / 10:g}, a tenth of "
        "the learning rate"
    )
