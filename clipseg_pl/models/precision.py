"""The fastest number format that a device does well."""

import torch

from clipseg_pl.models.linear import onednn_maps


def best_dtype(device: torch.device) -> torch.dtype:
    """For autocast: bfloat16 where computed natively, else float16 on GPUs, float32 on others."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    if device.type == "cpu" and onednn_maps(torch.bfloat16):
        return torch.bfloat16
    return torch.float32
