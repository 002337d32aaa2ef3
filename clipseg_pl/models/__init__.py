"""Backbones, decoders and the CLIPSeg model, in plain PyTorch."""
