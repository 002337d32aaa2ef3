"""Faster linear layers, attention and dropout on CPUs.

Results differ from torch's only by rounding. `docs/speed.md` lists the speed-up of each part. The
linear layers use torch's private operations `mkldnn._linear_pointwise` and
`mkldnn._reorder_linear_weight` if the installed build of torch has them.
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
_AMX = torch.cpu._is_amx_tile_supported()
_PLAIN = (nn.Linear, NonDynamicallyQuantizableLinear)  # nn.MultiheadAttention has the latter

_Layouts = dict[torch.dtype, tuple[object, Tensor]]
# for each frozen weight and precision: a fingerprint of the weight, and its reordered copy
_laid_out: MutableMapping[Tensor, _Layouts] = WeakTensorKeyDictionary()


def apply(layer: nn.Module, tokens: Tensor) -> Tensor:
    """Apply a layer, using `linear` for plain linear layers without hooks.

    Args:
        layer: any layer; subclasses of `nn.Linear` and layers with hooks are called directly.
        tokens: (..., inputs).

    Returns:
        (..., outputs).
    """
    hooked = layer._forward_hooks or layer._forward_pre_hooks
    if isinstance(layer, nn.Linear) and type(layer) in _PLAIN and not hooked:
        return linear(tokens, layer.weight, layer.bias)
    mapped: Tensor = layer(tokens)
    return mapped


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `F.linear` up to rounding, with support for autocast.

    On CPUs, torch uses oneDNN for bfloat16, but MKL for float32. MKL reaches only half the speed of
    oneDNN on the AMD processor we measured (other processors are untested). This function uses
    oneDNN for both if no gradient is needed.

    Torch casts and reorders the weights for oneDNN in every call. This function reorders frozen
    weights once and keeps the reordered copy in memory, one for each dtype. The copy is renewed
    after every change of the weights that autograd tracks, but not after in-place changes through
    `.data` or numpy.

    Args:
        tokens: (..., inputs).
        weight: (outputs, inputs).
        bias: (outputs,).

    Returns:
        (..., outputs).
    """
    cast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if cast else weight.dtype
    if not (onednn_supports(dtype) and _is_plain(tokens, weight, cast)):
        return F.linear(tokens, weight, bias)
    if not (weight.requires_grad or weight.is_inference()):
        laid_out = _lay_out(weight, dtype)
    elif dtype == torch.float32:
        laid_out = weight
    else:
        # autocast casts trained weights to bfloat16 only once and caches the result
        return F.linear(tokens, weight, bias)
    added = None if bias is None else bias.to(dtype)
    mapped: Tensor = _OPS._linear_pointwise(tokens.to(dtype), laid_out, added, "none", [], "")
    return mapped


def _is_plain(tokens: Tensor, weight: Tensor, cast: bool) -> bool:
    """Whether `linear` can use oneDNN for these tensors.

    Tracing, compilation and dispatch modes such as a FLOP counter do not support the private
    operations, so the result is false while one of them is active.
    """
    kinds = {tokens.dtype, weight.dtype}
    equal = kinds <= {torch.float32, torch.bfloat16} if cast else len(kinds) == 1
    usable = torch.backends.mkldnn.enabled and not torch.is_grad_enabled()
    watched = torch.compiler.is_compiling() or is_in_torch_dispatch_mode()
    full = tokens.is_cpu and tokens.numel() > 0 and weight.numel() > 0
    return bool(usable and equal and full and not watched)


def onednn_supports(dtype: torch.dtype) -> bool:
    """Whether oneDNN has fast linear layers of this dtype on this CPU."""
    if dtype == torch.bfloat16:
        return _ONEDNN and bool(_OPS._is_mkldnn_bf16_supported())
    return _ONEDNN and dtype == torch.float32


def _lay_out(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a frozen weight in oneDNN's layout, from the cache if it has not changed."""
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
    """Compute `F.scaled_dot_product_attention`, unfused if that is faster.

    On CPUs, torch's fused kernel does not support dropout. In bfloat16, it is slower than separate
    operations, unless the CPU has AMX and no gradient is needed.

    Args:
        query: (B, heads, queries, width / heads).
        key: (B, heads, N, width / heads).
        value: (B, heads, N, width / heads).
        causal: restrict each token to itself and earlier tokens.
        dropout: dropout on the attention weights; none by default.

    Returns:
        (B, heads, queries, width / heads).
    """
    drops = dropout is not None and dropout.training and dropout.p > 0
    slow = query.dtype == torch.bfloat16 and (torch.is_grad_enabled() or not _AMX)
    if query.is_cpu and not causal and (drops or slow):
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1)
        weights = weights if dropout is None else dropout(weights)
        attended: Tensor = weights @ value
        return attended
    rate = dropout.p if dropout is not None and drops else 0.0
    return F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=causal)


class Dropout(nn.Dropout):
    """Dropout that is faster on CPUs: one 64-bit random number decides on four elements.

    Torch samples one number per element on a single thread, which took 40 % of a training step of
    the decoder. The probability is rounded to 16 bits: 0.1 becomes 0.100006.
    """

    def sample_mask(self, tokens: Tensor) -> tuple[Tensor, float] | None:
        """Sample the elements to keep.

        Args:
            tokens: tensor of any shape.

        Returns:
            An int16 mask of the same shape (1 keeps, 0 drops) and the factor that preserves the
            mean. None if `forward` should call torch's own dropout: outside training, on other
            devices, and if the probability rounds to 0 or 1 in 16 bits.
        """
        dropped = round(self.p * 2**16)
        if not self.training or dropped in (0, 2**16) or tokens.device.type != "cpu":
            return None
        # this generator is three times as fast as torch's; its seed comes from torch's
        bits = np.random.SFC64(int(torch.randint(2**62, ())))
        numbers = torch.from_numpy(bits.random_raw((tokens.numel() + 3) // 4).view(np.int16))
        least = dropped - 2**15  # smallest number that is kept: int16 starts at -2^15
        # clamped, since a comparison would take longer than sampling the numbers
        kept = numbers[: tokens.numel()].view(tokens.shape).clamp_(least - 1, least)
        return kept.sub_(least - 1), 2**16 / (2**16 - dropped)

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply dropout to a tensor of any shape."""
        sampled = self.sample_mask(tokens)
        return super().forward(tokens) if sampled is None else tokens * sampled[0] * sampled[1]


def apply_dropped(layer: nn.Linear, tokens: Tensor, dropout: Dropout) -> Tensor:
    """Apply dropout, then a linear layer.

    The factor that preserves the mean is multiplied into the weights instead of the tokens, because
    the weights have fewer elements.
    """
    sampled = dropout.sample_mask(tokens)
    if sampled is None:
        return apply(layer, dropout(tokens))
    kept, factor = sampled
    return F.linear(tokens * kept, layer.weight * factor, layer.bias)
