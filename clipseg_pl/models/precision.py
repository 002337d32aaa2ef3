"""The fastest number format that a device does well."""

import torch

from clipseg_pl.models.cpu import onednn_maps


def best_dtype(device: torch.device) -> torch.dtype:
    """For autocast: bfloat16 where computed natively, else float16 on GPUs, float32 on others."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    if device.type == "cpu" and onednn_maps(torch.bfloat16):
        return torch.bfloat16
    return torch.float32


def best_precision(accelerator: str) -> str:
    """The fastest training precision that the device does well, as lightning calls it."""
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    dtype = best_dtype(torch.device("cuda" if gpu else "cpu"))
    names = {torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed"}
    return names.get(dtype, "32-true")
