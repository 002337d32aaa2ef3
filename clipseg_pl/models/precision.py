"""Selection of the fastest floating-point precision of a device."""

import torch

from clipseg_pl.models.cpu import onednn_supports


def best_dtype(device: torch.device) -> torch.dtype:
    """Return the fastest dtype for autocast on a device.

    bfloat16 if the device supports it natively, otherwise float16 on CUDA GPUs and float32 on all
    other devices.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    if device.type == "cpu" and onednn_supports(torch.bfloat16):
        return torch.bfloat16
    return torch.float32


def best_precision(accelerator: str) -> str:
    """Return Lightning's name of the fastest training precision of an accelerator."""
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    dtype = best_dtype(torch.device("cuda" if gpu else "cpu"))
    names = {torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed"}
    return names.get(dtype, "32-true")
