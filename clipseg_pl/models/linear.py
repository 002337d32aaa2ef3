"""Linear maps on a CPU, by the faster of torch's two libraries."""

from collections.abc import MutableMapping

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
