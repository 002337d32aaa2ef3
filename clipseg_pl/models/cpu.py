"""What is done otherwise on a CPU because it is faster there: linear maps, attention, dropout.

Nothing here changes a result by more than rounding; docs/speed.md has what each part gives. Torch's
private operations `mkldnn._linear_pointwise` and `mkldnn._reorder_linear_weight` are used where
this build of torch has them.
"""

from collections.abc import MutableMapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.utils._python_dispatch import is_in_torch_dispatch_mode
from torch.utils.weak import WeakTensorKeyDictionary

_OPS = torch.ops.mkldnn
_ONEDNN = hasattr(_OPS, "_linear_pointwise")  # not in every build of torch
_PLAIN = (nn.Linear, NonDynamicallyQuantizableLinear)  # the second is attention's

_Layouts = dict[torch.dtype, tuple[object, Tensor]]
# of a frozen weight, by precision: its state when it was laid out, the weight in oneDNN's order
_laid_out: MutableMapping[Tensor, _Layouts] = WeakTensorKeyDictionary()


def apply(layer: nn.Module, tokens: Tensor) -> Tensor:
    """A linear layer by `linear`; what stands in its place or is hooked to it, as it is."""
    hooked = layer._forward_hooks or layer._forward_pre_hooks
    if isinstance(layer, nn.Linear) and type(layer) in _PLAIN and not hooked:
        return linear(tokens, layer.weight, layer.bias)
    mapped: Tensor = layer(tokens)
    return mapped


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, the same to rounding, under autocast too.

    In float32 on a CPU torch asks MKL, which leaves half of an AMD processor's speed unused (others
    were not tried); where no gradient is wanted oneDNN is asked instead, as it is by torch in
    bfloat16. Frozen weights are cast and put into oneDNN's order once, which torch does in every
    call; a copy of them stays in memory for each precision in use. Changes are noticed as autograd
    notices them: not those made through `.data` or numpy in place.

    Args:
        tokens: (..., inputs).
        weight: (outputs, inputs).
        bias: (outputs,).

    Returns:
        (..., outputs).
    """
    cast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if cast else weight.dtype
    if not (onednn_maps(dtype) and _is_plain(tokens, weight, cast)):
        return F.linear(tokens, weight, bias)
    if not (weight.requires_grad or weight.is_inference()):
        laid_out = _lay_out(weight, dtype)
    elif dtype == torch.float32:
        laid_out = weight
    else:
        return F.linear(tokens, weight, bias)  # autocast remembers the casts of trained weights
    added = None if bias is None else bias.to(dtype)
    mapped: Tensor = _OPS._linear_pointwise(tokens.to(dtype), laid_out, added, "none", [], "")
    return mapped


def _is_plain(tokens: Tensor, weight: Tensor, cast: bool) -> bool:
    """Whether these tensors are maps of ours to run, and nobody looks on who would not know how."""
    kinds = {tokens.dtype, weight.dtype}
    equal = kinds <= {torch.float32, torch.bfloat16} if cast else len(kinds) == 1
    usable = torch.backends.mkldnn.enabled and not torch.is_grad_enabled()
    watched = torch.compiler.is_compiling() or is_in_torch_dispatch_mode()
    full = tokens.is_cpu and tokens.numel() > 0 and weight.numel() > 0
    return bool(usable and equal and full and not watched)


def onednn_maps(dtype: torch.dtype) -> bool:
    """Whether this torch and this CPU map such numbers quickly, by oneDNN."""
    if dtype == torch.bfloat16:
        return _ONEDNN and bool(_OPS._is_mkldnn_bf16_supported())
    return _ONEDNN and dtype == torch.float32


def _lay_out(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A frozen weight in oneDNN's order; anew where it has changed."""
    storage = StorageWeakRef(weight.untyped_storage())  # type: ignore[no-untyped-call]
    place = weight.storage_offset(), weight.shape, weight.stride()
    state = storage, place, weight._version
    layouts = _laid_out.setdefault(weight, {})
    known, laid_out = layouts.get(dtype, (None, weight))
    if known != state:
        laid_out = _OPS._reorder_linear_weight(weight.detach().to(dtype))
        layouts[dtype] = state, laid_out
    return laid_out


def attend(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, dropout: nn.Dropout | None = None
) -> Tensor:
    """`F.scaled_dot_product_attention`, in its parts where these are faster.

    A CPU's fused kernel is slower than its parts in bfloat16, and has no dropout.

    Args:
        query: (B, heads, queries, width / heads).
        key: (B, heads, N, width / heads).
        value: the same.
        causal: let tokens attend to themselves and earlier ones only.
        dropout: of the attention's weights; none at all by default.

    Returns:
        (B, heads, queries, width / heads).
    """
    loses = dropout is not None and dropout.training and dropout.p > 0
    if query.is_cpu and not causal and (loses or query.dtype == torch.bfloat16):
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1)
        kept: Tensor = weights if dropout is None else dropout(weights)
        return kept @ value
    lost = dropout.p if dropout is not None and loses else 0.0
    return F.scaled_dot_product_attention(query, key, value, dropout_p=lost, is_causal=causal)


class Dropout(nn.Dropout):
    """Dropout that draws four elements' fates from one random number on a CPU.

    Torch draws one number an element there, one after the other, which took 40 % of a decoder's
    training step. The probability is rounded to 16 bits: 0.1 becomes 0.100006.
    """

    def draw(self, tokens: Tensor) -> tuple[Tensor, float] | None:
        """Draw what is kept of a tensor: int16 of its shape, 1 or 0, and the factor due to it.

        None where torch's own dropout does it: outside training, off the CPU, and where 16 bits
        round the probability to 0 or 1.
        """
        lost = round(self.p * 2**16)
        if not self.training or lost in (0, 2**16) or tokens.device.type != "cpu":
            return None
        bits = np.random.SFC64(int(torch.randint(2**62, ())))  # three times as fast as torch's
        numbers = torch.from_numpy(bits.random_raw((tokens.numel() + 3) // 4).view(np.int16))
        least = lost - 2**15  # of those kept: int16 starts at -2^15
        # a comparison's booleans would cost more than the random numbers
        kept = numbers[: tokens.numel()].view(tokens.shape).clamp_(least - 1, least)
        return kept.sub_(least - 1), 2**16 / (2**16 - lost)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map a tensor of any shape to the same."""
        drawn = self.draw(tokens)
        return super().forward(tokens) if drawn is None else tokens * drawn[0] * drawn[1]


def apply_dropped(layer: nn.Linear, tokens: Tensor, dropout: Dropout) -> Tensor:
    """A linear layer behind a dropout, whose factor costs less on the weights."""
    drawn = dropout.draw(tokens)
    if drawn is None:
        return apply(layer, dropout(tokens))
    kept, factor = drawn
    return F.linear(tokens * kept, layer.weight * factor, layer.bias)
