"""What stops a training before its checkpoints are spoiled."""

from pathlib import Path

from torch import Tensor, nn

from clipseg_pl.sample import Batch

_NAMED = 5  # samples in an error
_REMEDY = "go on from --ckpt_path last with a smaller --model.optimizer.init_args.lr"


def refuse_loss(loss: Tensor, logits: Tensor, batch: Batch, step: int) -> None:
    """Stop before a step that would make all weights useless.

    Args:
        loss: of the step.
        logits: (P, 1, H, W), which the loss was made of.
        batch: its P prompts.
        step: counted from 1.

    Raises:
        FloatingPointError: naming step, samples and prompts, if the loss is not finite.
    """
    if loss.isfinite():
        return
    faulty = (~logits.detach().flatten(1).isfinite().all(1)).nonzero()[:, 0].tolist()
    faulty = faulty or list(range(len(logits)))  # the sum of all has no number
    named = [f"{batch['prompt_id'][row]} ({batch['text_prompt'][row]!r})" for row in faulty]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    raise FloatingPointError(
        f"the loss of step {step} is not finite, at {', '.join(named[:_NAMED])}{more}; the "
        f"checkpoints are those of earlier steps: {_REMEDY}"
    )


def refuse_weights(module: nn.Module, file: Path, step: int) -> None:
    """Keep what was saved before where a step has spoiled the trained weights.

    Raises:
        FloatingPointError: naming weight, step and file.
    """
    for name, weight in module.named_parameters():
        if weight.requires_grad and not weight.isfinite().all():
            raise FloatingPointError(
                f"{name} is not finite after step {step}; {file} is kept as it was: {_REMEDY}"
            )
