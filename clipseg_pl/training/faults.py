"""What stops a training before its checkpoints are spoiled, and an evaluation of nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning import LightningModule, Trainer
from torch import Tensor

from clipseg_pl.sample import Batch

_NAMED = 5  # samples in an error


def refuse_loss(loss: Tensor, logits: Tensor, batch: Batch, trainer: Trainer) -> None:
    """Stop before a step that would make all weights useless.

    Args:
        loss: of the step.
        logits: (P, 1, H, W), which the loss was made of.
        batch: its P prompts.
        trainer: before the step.

    Raises:
        FloatingPointError: naming step (counted from 1), samples and prompts, and options that
            train on, if the loss is not finite.
    """
    if loss.isfinite():
        return
    faulty = (~logits.detach().flatten(1).isfinite().all(1)).nonzero()[:, 0].tolist()
    faulty = faulty or list(range(len(logits)))  # the sum of all has no number
    named = [f"{batch['prompt_id'][row]} ({batch['text_prompt'][row]!r})" for row in faulty]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    raise FloatingPointError(
        f"the loss of step {trainer.global_step + 1} is not finite, at "
        f"{', '.join(named[:_NAMED])}{more}: {_remedy(trainer)}"
    )


def refuse_weights(module: LightningModule) -> None:
    """Keep the checkpoints of earlier steps if a step has spoiled the trained weights.

    Raises:
        FloatingPointError: naming weight and step, and options that train on.
    """
    for name, weight in module.named_parameters():
        if weight.requires_grad and not weight.isfinite().all():
            raise FloatingPointError(
                f"{name} is not finite after step {module.trainer.global_step} and was not saved: "
                f"{_remedy(module.trainer)}"
            )


def refuse_nothing(numbers: Mapping[str, float], readings: Sequence[str]) -> None:
    """Stop an evaluation that measured no prompt; its numbers would mean nothing.

    Args:
        numbers: of the protocol, by name.
        readings: the prompt types that it asked for.

    Raises:
        ValueError: naming the prompt types.
    """
    prompts = [value for name, value in numbers.items() if name.endswith("/prompts")]
    if prompts and not any(prompts):
        raise ValueError(f"nothing to evaluate: no sample has a prompt for {', '.join(readings)}")


def _remedy(trainer: Trainer) -> str:
    """Options that train on from the last good checkpoint, if there is one, more slowly."""
    rate = trainer.optimizers[0].param_groups[0]["initial_lr"]
    last = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
    going_on = "--ckpt_path last " if last.is_file() else ""
    return (
        f"run it again with {going_on}--model.optimizer.init_args.lr {rate / 10:g}, a tenth of "
        "the learning rate"
    )
